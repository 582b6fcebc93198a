"""Components: compiled, with what they import, and alive."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from wasmtime import component

from hybrid_compute.errors import InvalidInput, LimitExceeded
from hybrid_compute.wasm import capi, memories, slots
from hybrid_compute.wasm.components import api
from hybrid_compute.wasm.engines import Engine, Profile, engine_for
from hybrid_compute.wasm.held import alive
from hybrid_compute.wasm.housed import MOST_INSTANCES, MOST_MEMORIES, MOST_TABLES, Housed
from hybrid_compute.wasm.leash import Leash
from hybrid_compute.wasm.limits import Limits
from hybrid_compute.wasm.program import shared
from hybrid_compute.wasm.source import Source
from hybrid_compute.wasm.trap import Trap
from hybrid_compute.wasm.traps import explain_text

HostCall = Callable[["ComponentGuest", Any, Any], None]
"""A function of the host: from the guest that calls, the places of its arguments, and that of the result."""


class ComponentProgram:
    """One component, under one profile and with one set of limits. Shared by all threads.

    `define` what it imports before the first guest is made.
    """

    def __init__(self, source: Source, profile: Profile, limits: Limits, name: str) -> None:
        self.name = name
        self.limits = limits
        self.engine: Engine = engine_for(profile)
        self._shared = shared(component.Component, source, self.engine)
        self.component = self._shared.code
        self.linker = component.Linker(self.engine.engine)
        self.engine.others.add(self.linker)
        self._kept: list[Any] = []  # what guests call, as long as there is the linker

    def define(self, space: str, functions: Sequence[tuple[str, HostCall]]) -> None:
        """Define functions of an interface, or of the world itself if `space` is empty."""
        with self.linker.root() as root:
            if not space:
                self._kept += [_define(root, name, call) for name, call in functions]
                return
            with root.add_instance(space) as instance:
                self._kept += [_define(instance, name, call) for name, call in functions]

    def index(self, path: Sequence[str]) -> component.ExportIndex:
        """Where in the component a function is: by its name, or by that of an interface and its own."""
        found: component.ExportIndex | None = None
        for name in path:
            found = self.component.get_export_index(name, found)
            if found is None:
                raise InvalidInput(f"{self.name}: the component exports no {name!r}")
        assert found is not None
        self.engine.others.add(found)
        return found

    def imports(self) -> dict[tuple[str, str], Any]:
        """The types of the functions that it imports, by interface (empty for none) and name."""
        return self._functions(self.component.type.imports(self.engine.engine))

    def exports(self) -> dict[tuple[str, str], Any]:
        """The same for those that it exports."""
        return self._functions(self.component.type.exports(self.engine.engine))

    def _functions(self, items: Mapping[str, Any]) -> dict[tuple[str, str], Any]:
        found: dict[tuple[str, str], Any] = {}
        for name, item in items.items():
            type = item.ty
            if isinstance(type, component.FuncType):
                found["", name] = type
            elif isinstance(type, component.ComponentInstanceType):
                within = type.exports(self.engine.engine)
                found |= {
                    (name, inner): each.ty for inner, each in within.items() if isinstance(each.ty, component.FuncType)
                }
        return found


class ComponentGuest(Housed):
    """A component, instantiated, with a call under way. Nothing can be called after a trap. `close` it."""

    def __init__(self, program: ComponentProgram, leash: Leash) -> None:
        super().__init__(program.engine, program.limits, program.name)
        self._instance = api.Instance()
        store: int = capi.store_new(program.engine.pointer, self.number, None)
        try:
            self.hold(store, capi.store_context(store))
            own = slots.own and not program.engine.profile.components
            capi.store_limiter(
                store, -1 if own else self.limits.memory, self.limits.table, MOST_INSTANCES, MOST_TABLES, MOST_MEMORIES
            )
            self._at = api.context(self.context)
            self.begin(leash)
            before = memories.making(self.room)
            try:
                self._enter(lambda: api.instantiate(program.linker, self._at, program.component, self._instance))
            finally:
                memories.making(before)
            self.instantiated = True
        except BaseException:
            self.close()
            raise

    def call(self, index: component.ExportIndex, values: Any, count: int, result: Any) -> None:
        """Call the exported function with this index.

        `values` are so many places for arguments, `result` is one or None. All of them are the caller's to delete.
        """
        function = api.function_of(self._instance, self._at, index)
        if function is None:
            raise Trap(f"{self.name}: the component has no such function")
        self._enter(lambda: api.call(function, self._at, values, count, result))

    # What goes wrong.

    def _enter(self, enter: Callable[[], str | None]) -> None:
        """Enter the guest by a function of the C API. Raises what goes wrong in there."""
        told = self.leash.taken()
        if told is not None:  # before it began
            raise told
        failed = enter()
        if failed is not None:
            raise self._failure(failed)
        if interruption := memories.interruption():
            raise interruption

    def _failure(self, text: str) -> BaseException:
        told = self.leash.taken() or memories.interruption()
        if told is not None:
            return told
        if "too much data is being copied" in text:
            return LimitExceeded(
                f"{self.name} gives more than can cross at once, which is 128 MiB, and an element of a list takes up "
                f"{api.SIZE} bytes of that: give large data as a string, or use a module",
                backend="wasm",
                started=True,
            )
        too_large = None if self.instantiated or "wasm trap" in text else self.too_large(text)
        return too_large or explain_text(text, self.name, self.limits, self.room.denial)


def _define(instance: component.LinkerInstance, name: str, call: HostCall) -> Any:
    def called(number: int, _type: Any, arguments: Any, results: Any) -> None:
        guest = alive[number]
        assert isinstance(guest, ComponentGuest)
        call(guest, arguments, results)

    return api.define(instance, name, called)
