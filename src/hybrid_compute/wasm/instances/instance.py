"""`Instance`: a module that is alive, with its memory, for as long as somebody holds it."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from ctypes import addressof, create_string_buffer
from functools import partial
from typing import TYPE_CHECKING, Any, ParamSpec, TypeVar, overload

from hybrid_compute.errors import InvalidInput
from hybrid_compute.wasm import capi, grants, signature
from hybrid_compute.wasm.engines import Profile
from hybrid_compute.wasm.instances import arrays, binary
from hybrid_compute.wasm.instances.arrays import InPlace, Shape
from hybrid_compute.wasm.instances.binary import State
from hybrid_compute.wasm.instances.gate import Gate
from hybrid_compute.wasm.instances.handle import handle
from hybrid_compute.wasm.instances.live import LiveGuest
from hybrid_compute.wasm.instances.run import Run, insist_on_stacks
from hybrid_compute.wasm.instances.showing import showing
from hybrid_compute.wasm.instances.snapshot import Camera, Snapshot
from hybrid_compute.wasm.leash import Leash
from hybrid_compute.wasm.limits import Limits
from hybrid_compute.wasm.program import Program
from hybrid_compute.wasm.signature import Convention, allocated
from hybrid_compute.wasm.source import Source

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

    from hybrid_compute.shared.array import SharedArray

P = ParamSpec("P")
R = TypeVar("R")


class Instance:
    """A sandbox that is kept: what a call leaves in its memory is there in the next one. `WasmModule.open` makes it.

        with module.open() as instance:
            add = instance.function("add")
            print(add(2, 3), instance["add"](4, 5))

    One thread at a time uses it, and others wait. The limits are those of each call. A call that is stopped in the
    middle, by a trap, a limit or Ctrl-C, leaves the memory half written: after that it takes calls again once a
    snapshot has been restored.
    """

    def __init__(self, program: Program, digest: str, state: State, *, shared: bool) -> None:
        self.program = program
        self.shared = shared
        self._digest, self._state = digest, state
        guest = LiveGuest(program, shared=shared)
        self._block = arrays.Block(program.name, guest.slot())
        self._gate = Gate(guest)
        self._camera: Camera | None = None
        self._handles: dict[str, Callable[..., Any]] = {}

    # Its functions.

    @overload
    def function(self, what: str, /) -> Callable[..., Any]: ...
    @overload
    def function(self, what: Callable[P, R], /) -> Callable[P, R]: ...
    def function(self, what: Callable[..., Any] | str, /) -> Callable[..., Any]:
        """An exported function, to be called: by a function with type hints, or by its name if it has only numbers.

        Types are compared now, and not at each call. Raises `InvalidInput` if the module does not have it so.
        """
        export, convention = self._typed(what)
        with self._gate.turn():
            self._gate.idle()
            return handle(self._gate, export, convention, None if isinstance(what, str) else what)

    def __getitem__(self, name: str) -> Callable[..., Any]:
        known = self._handles.get(name)
        if known is None:
            known = self._handles[name] = self.function(name)
        return known

    def begin(self, what: Callable[..., Any] | str, /, *args: Any, slice: int) -> Run[Any]:
        """Call a function so that it goes on a piece at a time, each of `slice` units of fuel: see `Run`.

        Its arguments are given, but it has not begun to run. Needs an instance that uses fuel: one that is opened
        `deterministic`, or with `Limits(fuel=...)`.
        """
        insist_on_stacks()
        if not self.program.metered:
            raise InvalidInput(f"{self.program.name} uses no fuel: open it with deterministic=True or Limits(fuel=...)")
        if slice < 1:
            raise InvalidInput(f"{self.program.name}: a slice must be at least 1 unit of fuel, not {slice}")
        export, convention = self._typed(what)
        if len(args) != convention.count:
            raise InvalidInput(f"{convention.what} takes {convention.count} arguments, not {len(args)}")
        values, leash = create_string_buffer(convention.size), Leash()
        with self._gate.calling(leash) as guest:
            guest.yielding = True
            capi.check(capi.fuel_yield_interval(guest.context, 0))
            convention.put(guest, values, args)
            guest.suspend(guest.export(export, capi.EXTERN_FUNC), addressof(values), slice)
        return Run(self._gate, leash, convention, values)

    @property
    def fuel_used(self) -> int:
        """Units of fuel that the last call has used: the same for the same call, everywhere."""
        if not self.program.metered:
            raise InvalidInput(f"{self.program.name} uses no fuel: open it with deterministic=True or Limits(fuel=...)")
        with self._gate.turn():
            guest = self._gate.idle()
            return guest.all_fuel - guest.fuel

    # Its memory.

    @property
    def memory(self) -> npt.NDArray[np.uint8]:
        """All of its exported `memory` as it is now, as bytes. What grows later is in the array of a later look."""
        return self._block.view(0, self._block.size, "uint8")

    def view(self, offset: int, shape: Shape, dtype: npt.DTypeLike = "uint8") -> npt.NDArray[Any]:
        """An array of what is in the memory from `offset` on: no copy, in little-endian order as WASM has it.

        It stays valid when the memory grows, and when the instance is closed. Raises `InvalidInput` if it is not all in
        the memory.
        """
        return self._block.view(offset, shape, dtype)

    def empty(self, shape: Shape, dtype: npt.DTypeLike = float) -> npt.NDArray[Any]:
        """A new array, uninitialised, in memory that the module's own `alloc` gives.

        As an argument of this instance's functions it is not copied. Of a `shared` instance, it also crosses to the
        workers of a `WorkerBackend` without a copy, and they may write to it.
        """
        import numpy as np

        self._block.view(0, 0, dtype)  # raises where there can be none
        size = arrays.size_of(shape, np.dtype(dtype))
        with self._gate.calling() as guest:
            offset = allocated(guest, max(1, size))
        return self.view(offset, shape, dtype)

    def showing(self, array: SharedArray) -> AbstractContextManager[npt.NDArray[Any]]:
        """A shared array where the module sees it, for the length of a block: the same memory, no copy.

            with instance.showing(array) as values, array.writing():
                call(values)

        It lies where the module's own `alloc` says, on pages of its own. The array that is given is for this instance's
        functions; it is read-only, but the module may write, so take a lease around what it does. After the block it is
        zeros. Raises `StaleHandle`, and `InvalidInput` for an instance that was opened with `shared=True`.
        """
        return showing(self._gate, self._block, array)

    # All of it.

    def snapshot(self) -> Snapshot:
        """All that is in it now. Raises `InvalidInput` for a module with mutable globals that are references."""
        with self._gate.turn():
            return self._camera_of(self._gate.unspoiled()).take()

    def restore(self, snapshot: Snapshot) -> None:
        """Have everything be as it was in the snapshot, of this instance or another one of the same module.

        Raises `InvalidInput` for a snapshot of another module, and where the memory has grown beyond it, for no memory
        can shrink: `module.open(...).restore(snapshot)` takes it then. The same while it is shown a shared array, which
        is not its own to change.
        """
        with self._gate.turn():
            if self._block.shown:
                raise InvalidInput(f"{self.program.name} is shown a shared array: restore it after that block")
            guest = self._gate.idle()
            self._camera_of(guest).put(snapshot)
            guest.spoiled = False

    def fork(self) -> Instance:
        """Another instance, as this one is now; from here on they go separate ways."""
        other = Instance(self.program, self._digest, self._state, shared=self.shared)
        other.restore(self.snapshot())
        return other

    def close(self) -> None:
        """Give everything back. Arrays over its memory stay valid, and keep that memory."""
        try:
            self._gate.close()
        finally:
            self._block.close()

    def __enter__(self) -> Instance:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def __repr__(self) -> str:
        return f"<Instance of {self.program.name}{', closed' if self._gate.closed else ''}>"

    def _typed(self, what: Callable[..., Any] | str) -> tuple[bytes, Convention]:
        export = what if isinstance(what, str) else what.__name__
        name = f"{self.program.name}: {export}"
        types = self.program.function_type(export)
        declared = signature.of_types(name, *types) if isinstance(what, str) else signature.of_stub(what)
        return export.encode(), InPlace(self._block.slot, name, declared, *types)

    def _camera_of(self, guest: LiveGuest) -> Camera:
        if self._camera is None:
            binary.refuse(self.program.name, self._state)
            self._camera = Camera(guest, self._digest, self._state)
        return self._camera


def opened(
    source: Source, limits: Limits, granted: Mapping[str, Any], *, deterministic: bool, shared: bool
) -> Instance:
    """An instance of the module, compiled so that all its state can be seen."""
    visible, state = binary.exposed(source.data)
    seen = source if visible == source.data else Source(source.name, visible, trusted=source.trusted)
    profile = Profile(limits.fuel is not None, deterministic, limits.stack)
    program = Program(seen, profile, limits, source.name, partial(grants.link, source.name, dict(granted)))
    return Instance(program, source.digest, state, shared=shared and hasattr(os, "memfd_create"))
