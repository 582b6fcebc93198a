"""`WasmModule`: code for a sandbox, and the tasks that it offers."""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping
from os import PathLike
from typing import TYPE_CHECKING, Any, ParamSpec, TypeVar, overload

from hybrid_compute.errors import BackendUnavailable
from hybrid_compute.tasks import Task
from hybrid_compute.wasm.code import Code
from hybrid_compute.wasm.command import WasmCommand
from hybrid_compute.wasm.function import WasmFunction
from hybrid_compute.wasm.limits import Limits
from hybrid_compute.wasm.wasi import Output, Wasi

if TYPE_CHECKING:
    from hybrid_compute.wasm.instances.instance import Instance

P = ParamSpec("P")
R = TypeVar("R")
_LIMITS = Limits()
_WASI = Wasi()
_NONE: dict[str, Any] = {}


class WasmModule(Code):
    """WebAssembly to be run in a sandbox. It can reach nothing but its own memory, and what a task grants it.

    Nothing is compiled before the first call. Compiled code is kept on disk, in a folder of this user.

        >>> module = WasmModule.from_wat('''
        ...     (module (func (export "add") (param i32 i32) (result i32)
        ...         (i32.add (local.get 0) (local.get 1))))''')
        >>> @module.task
        ... def add(a: int, b: int) -> int: ...
        >>> add(2, 3)
        5
    """

    @overload
    def task(self, export: str, /, **options: Any) -> Task[..., Any]: ...
    @overload
    def task(self, stub: Callable[P, R], /) -> Task[P, R]: ...
    @overload
    def task(
        self,
        /,
        *,
        export: str | None = None,
        limits: Limits = ...,
        grants: Mapping[str, Any] = ...,
        deterministic: bool = False,
        reuse: bool = False,
        wasi: Wasi | None = None,
        **facts: Any,
    ) -> Callable[[Callable[P, R]], Task[P, R]]: ...
    def task(self, what: Callable[..., Any] | str | None = None, /, **options: Any) -> Any:
        """An exported function, as a task.

        By a function whose body is `...`: its name is that of the export, its type hints say what crosses. By the
        name of the export alone, if it takes and gives nothing but numbers.

        `limits` are those of one call. `grants` are the functions of the host that it may call. A `deterministic`
        task gives the same bits for the same input on every machine. One with `reuse` may keep state in its memory
        between calls of one thread. One with `wasi` finds an operating system, or what of it is granted by that. The
        other keywords are those of `@task`; it is `pure` unless it is granted something, keeps state, or says
        otherwise.
        """
        if what is None:
            return functools.partial(self._task, options)
        return self._task(options, what)

    def _task(self, options: dict[str, Any], what: Callable[..., Any] | str) -> Task[..., Any]:
        facts = dict(options)
        stub = None if isinstance(what, str) else what
        name = what if isinstance(what, str) else what.__name__
        export = facts.pop("export", None) or name
        grants, reuse, wasi = facts.pop("grants", _NONE), facts.pop("reuse", False), facts.pop("wasi", None)
        function: WasmFunction[..., Any] = WasmFunction(
            self.source,
            export,
            stub,
            limits=facts.pop("limits", _LIMITS),
            grants=grants,
            deterministic=facts.pop("deterministic", False),
            reuse=reuse,
            wasi=wasi,
        )
        pure = not (grants or reuse or (wasi is not None and wasi.has_effects))
        return Task(function, name=facts.pop("name", name), pure=facts.pop("pure", pure), **facts)

    def program(
        self,
        *,
        wasi: Wasi = _WASI,
        limits: Limits = _LIMITS,
        grants: Mapping[str, Any] = _NONE,
        deterministic: bool = False,
        name: str | None = None,
        **facts: Any,
    ) -> Task[..., Output]:
        """The module as a program, if it is one: a task that takes its arguments and stdin, and gives an `Output`.

        What it prints is in the output, together with its exit code, which may be any. The options are those of
        `task`.

            >>> prime = WasmModule.from_file("primes.wasm").program()
            >>> prime(["--up-to", "10"]).stdout
            b'2 3 5 7'
        """
        called = name or self.name.partition(".")[0]
        command = WasmCommand(self.source, called, wasi=wasi, limits=limits, grants=grants, deterministic=deterministic)
        pure = not (grants or wasi.has_effects)
        return Task(command, name=called, pure=facts.pop("pure", pure), **facts)

    def open(
        self,
        *,
        limits: Limits = _LIMITS,
        grants: Mapping[str, Any] = _NONE,
        deterministic: bool = False,
        shared: bool = False,
    ) -> Instance:
        """A sandbox that stays until it is closed, to be called and looked into from this process.

        `limits`, of each call, `grants` and `deterministic` are what they are for a task. The memory of a `shared` one
        can be seen by worker processes, so that arrays in it cross to them without a copy; it takes an open file.
        """
        try:
            from hybrid_compute.wasm.instances.instance import opened
        except ImportError as error:
            raise BackendUnavailable(
                f"an instance of {self.name} lives in wasmtime, which is not there ({error}): "
                f"pip install 'hybrid-compute[wasm]'",
                backend="wasm",
            ) from error
        return opened(self.source, limits, grants, deterministic=deterministic, shared=shared)


def task(path: str | PathLike[str], export: str, /, stub: Callable[P, R] | None = None, **options: Any) -> Task[P, R]:
    """An exported function of the module in a file, as a task: `WasmModule.from_file(path).task(...)` in one step.

    `stub`, a function with type hints, says what crosses, where that is more than numbers.
    """
    module = WasmModule.from_file(path)
    if stub is None:
        made: Any = module.task(export, **options)
    else:
        made = module.task(export=export, **options)(stub)
    return made  # type: ignore[no-any-return]
