"""`WasmFunction`: an exported function of a module, as a function of Python. Each call has a sandbox of its own."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, Generic, ParamSpec, TypeVar

from hybrid_compute.wasm import granted
from hybrid_compute.wasm.arguments import by_position
from hybrid_compute.wasm.contained import Contained
from hybrid_compute.wasm.entrance import NOT_HERE, Entrance
from hybrid_compute.wasm.limits import Limits
from hybrid_compute.wasm.missing import missing
from hybrid_compute.wasm.source import Source
from hybrid_compute.wasm.wasi import Wasi

if TYPE_CHECKING:
    from hybrid_compute.wasm.leash import Leash
    from hybrid_compute.wasm.ready import Ready

P = ParamSpec("P")
R = TypeVar("R")


class WasmFunction(Contained, Generic[P, R]):
    """An exported function of a module. Calling it runs it here, in this thread, in a sandbox.

    The sandbox is a new one for each call, unless `reuse` says that what a call leaves in the guest's memory may be
    there in a later one of the same thread. After a trap the next call has a new one in any case.

    Raises `wasm.Trap` for what the guest does, `LimitExceeded` where it is stopped at a limit, `InvalidInput` for
    arguments that do not fit.
    """

    def __init__(
        self,
        source: Source,
        export: str,
        stub: Callable[P, R] | None,
        *,
        limits: Limits,
        grants: Mapping[str, Any],
        deterministic: bool,
        reuse: bool,
        wasi: Wasi | None = None,
    ) -> None:
        if stub is not None:
            functools.update_wrapper(self, stub)
        else:
            self.__name__ = self.__qualname__ = export
        self.source = source
        self.export = export
        self.stub = stub
        self.limits = limits
        self.grants = dict(grants)
        granted.check(self.grants)
        self.deterministic = deterministic
        self.reuse = reuse
        self.wasi = wasi.deterministic() if wasi is not None and deterministic else wasi
        self.restartable = not (grants or reuse or (wasi is not None and (wasi.has_effects or wasi.has_folders)))
        self._ready: Ready | None = None
        self._entrance = Entrance()

    def __call__(self, *args: P.args, **kwargs: P.kwargs) -> R:
        enter = self._entrance.enter
        result: Any = NOT_HERE if enter is None or kwargs else enter(*args)
        if result is NOT_HERE:
            result = self.run(None, args, kwargs)
        return result  # type: ignore[no-any-return]

    def run(self, leash: Leash | None, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> Any:
        """Run it here; `leash` can stop it."""
        ready = self._ready or self._prepare()
        if kwargs or len(args) != ready.convention.count:
            args = by_position(self.__name__, self.__signature__, args, kwargs)
        return ready.call(leash, args)

    @property
    def is_ready(self) -> bool:
        return self._ready is not None

    def prepare(self) -> None:
        """Compile it now rather than at the first call. Raises `InvalidInput` if the module does not have it so."""
        if not self.is_ready:
            self._prepare()

    def _prepare(self) -> Ready:
        try:
            from hybrid_compute.wasm import imports
        except ImportError as error:
            raise missing(self.__name__, error) from error
        from hybrid_compute.wasm import signature
        from hybrid_compute.wasm.ready import Kept, Ready

        program = imports.program(self.source, self.__name__, self.limits, self.grants, self.deterministic, self.wasi)
        types = program.function_type(self.export)
        declared = signature.of_types(self.__name__, *types) if self.stub is None else signature.of_stub(self.stub)
        convention = signature.Convention(self.__name__, declared, *types)
        if self.reuse:
            self._ready = Kept(program, self.export, convention, self._entrance)
        else:
            self._ready = Ready(program, self.export, convention)
        return self._ready

    @functools.cached_property
    def __signature__(self) -> inspect.Signature:
        if self.stub is not None:
            return inspect.signature(self.stub)
        ready = self._ready or self._prepare()
        only = inspect.Parameter.POSITIONAL_ONLY
        return inspect.Signature([inspect.Parameter(name, only) for name, _ in ready.convention.parameters])

    def __repr__(self) -> str:
        return f"<WasmFunction {self.export!r} of {self.source.name}>"

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_ready": None, "_entrance": None}

    def __setstate__(self, state: dict[str, Any]) -> None:
        vars(self).update(state, _entrance=Entrance())
