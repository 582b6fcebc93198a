"""`WasmComponent`: a component of WebAssembly, and the tasks that it offers."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, Generic, ParamSpec, TypeVar, overload

from hybrid_compute.tasks import Task
from hybrid_compute.wasm import granted
from hybrid_compute.wasm.arguments import by_position
from hybrid_compute.wasm.code import Code
from hybrid_compute.wasm.contained import Contained
from hybrid_compute.wasm.leash import Leash
from hybrid_compute.wasm.limits import Limits
from hybrid_compute.wasm.missing import missing
from hybrid_compute.wasm.source import Source

if TYPE_CHECKING:
    from hybrid_compute.wasm.components.ready import ComponentReady

P = ParamSpec("P")
R = TypeVar("R")
_LIMITS = Limits()
_NONE: dict[str, Any] = {}


class WasmComponent(Code):
    """A component: WebAssembly with types of its own (WIT), among them text, lists and whole records.

    Nothing is compiled before the first call. It reaches nothing but the functions that a task grants it.
    """

    is_component = True

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
        **facts: Any,
    ) -> Callable[[Callable[P, R]], Task[P, R]]: ...
    def task(self, stub: Callable[..., Any] | None = None, /, **options: Any) -> Any:
        """An exported function, as a task: by a function whose body is `...`, and whose type hints say what crosses.

        Its name is that of the export, with `-` for `_`; a function of an interface needs `export`, as in
        `export="acme:shop/prices@1.0.0#quote"`. The other options are those of `WasmModule.task`. What the component
        gives as the error of a `result<>` is raised, as a `wasm.GuestError`.
        """
        if stub is None:
            return functools.partial(self._task, options)
        return self._task(options, stub)

    def _task(self, options: dict[str, Any], stub: Callable[..., Any]) -> Task[..., Any]:
        facts = dict(options)
        grants = facts.pop("grants", _NONE)
        function: ComponentFunction[..., Any] = ComponentFunction(
            self.source,
            facts.pop("export", None) or stub.__name__.replace("_", "-"),
            stub,
            limits=facts.pop("limits", _LIMITS),
            grants=grants,
            deterministic=facts.pop("deterministic", False),
        )
        return Task(function, name=facts.pop("name", stub.__name__), pure=facts.pop("pure", not grants), **facts)


class ComponentFunction(Contained, Generic[P, R]):
    """An exported function of a component. Calling it runs it here, in this thread, in a sandbox of its own.

    Raises what a `WasmFunction` does, and `GuestError` for an error that the component gives.
    """

    def __init__(
        self,
        source: Source,
        export: str,
        stub: Callable[P, R],
        *,
        limits: Limits,
        grants: Mapping[str, Any],
        deterministic: bool,
    ) -> None:
        functools.update_wrapper(self, stub)
        self.source = source
        self.export = export
        self.stub = stub
        self.limits = limits
        self.grants = dict(grants)
        granted.check(self.grants)
        self.deterministic = deterministic
        self.restartable = not grants
        self._ready: ComponentReady | None = None

    def __call__(self, *args: P.args, **kwargs: P.kwargs) -> R:
        result: R = self.run(None, args, kwargs)
        return result

    def run(self, leash: Leash | None, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> Any:
        """Run it here; `leash` can stop it."""
        ready = self._ready or self._prepare()
        if kwargs or len(args) != ready.count:
            args = by_position(self.stub.__name__, inspect.signature(self.stub), args, kwargs)
        return ready.call(leash, args)

    @property
    def is_ready(self) -> bool:
        return self._ready is not None

    def prepare(self) -> None:
        """Compile it now rather than at the first call. Raises `InvalidInput` if the component does not have it so."""
        if not self.is_ready:
            self._prepare()

    def _prepare(self) -> ComponentReady:
        name = self.stub.__name__
        try:
            from hybrid_compute.wasm.components import ready
            from hybrid_compute.wasm.components.guest import ComponentProgram
            from hybrid_compute.wasm.engines import Profile
        except ImportError as error:
            raise missing(name, error) from error
        limits = self.limits
        # The memories are ours, as those of modules are: so the limit is that of all of them together.
        profile = Profile(limits.fuel is not None, self.deterministic, limits.stack)
        program = ComponentProgram(self.source, profile, limits, name)
        ready.link(name, self.grants, program)
        self._ready = ready.ComponentReady(program, self.export, self.stub)
        return self._ready

    def __repr__(self) -> str:
        return f"<ComponentFunction {self.export!r}>"

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_ready": None}
