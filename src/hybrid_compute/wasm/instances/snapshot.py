"""Snapshots: all that is in a sandbox between two calls, as a value."""

from __future__ import annotations

import ctypes
import hashlib
import zlib
from collections.abc import Iterable
from ctypes import addressof, create_string_buffer, memmove
from dataclasses import dataclass
from typing import Any

from hybrid_compute.errors import BackendUnavailable, InvalidInput
from hybrid_compute.wasm import capi
from hybrid_compute.wasm.guest import Guest
from hybrid_compute.wasm.instances.binary import State
from hybrid_compute.wasm.limits import PAGE, in_units
from hybrid_compute.wasm.traps import exceeded

_BYTES = {"i32": 4, "f32": 4, "i64": 8, "f64": 8, "v128": 16}


@dataclass(frozen=True, slots=True, repr=False)
class Snapshot:
    """The memories and the mutable globals of an instance. Equal ones have equal contents; pickled, it is compressed.

    What a module does to its tables, and which of its segments it has dropped, is not in it: few modules do either.
    """

    module: str
    """The digest of the module that it is of, and that alone can take it."""
    memories: tuple[bytes, ...]
    globals: tuple[bytes, ...]

    @property
    def digest(self) -> str:
        """A name for the contents, the same in every process and on every machine."""
        whole = hashlib.sha256(self.module.encode())
        for part in (*self.memories, *self.globals):
            whole.update(len(part).to_bytes(8, "little"))
            whole.update(part)
        return whole.hexdigest()

    def __repr__(self) -> str:
        return f"<Snapshot {in_units(sum(map(len, self.memories)))}, {len(self.globals)} globals>"

    def __reduce__(self) -> tuple[Any, ...]:
        packed = tuple((len(each), zlib.compress(each.rstrip(b"\0"), 1)) for each in self.memories)
        return _unpacked, (self.module, packed, self.globals)


def _unpacked(module: str, memories: Iterable[tuple[int, bytes]], globals: tuple[bytes, ...]) -> Snapshot:
    return Snapshot(module, tuple(zlib.decompress(data).ljust(size, b"\0") for size, data in memories), globals)


class Camera:
    """Takes snapshots of a guest, and puts them back: what is the same each time is looked up once.

    `module` is the digest of its module.
    """

    def __init__(self, guest: Guest, module: str, state: State) -> None:
        self._guest = guest
        self._module = module
        self._memories = [guest.export(name.encode(), capi.EXTERN_MEMORY) for name in state.memories]
        self._globals = [
            (guest.export(name.encode(), capi.EXTERN_GLOBAL), capi.KINDS[type], _BYTES[type])
            for name, type in state.globals
        ]
        self._value = create_string_buffer(capi.VALUE_SIZE)
        self._at = addressof(self._value) + capi.VALUE_AT

    def take(self) -> Snapshot:
        context = self._guest.context
        memories = [
            ctypes.string_at(capi.memory_data(context, each), capi.memory_size(context, each))
            for each in self._memories
        ]
        return Snapshot(self._module, tuple(memories), tuple([self._global(*each) for each in self._globals]))

    def put(self, snapshot: Snapshot) -> None:
        """Raises `InvalidInput` for a snapshot that does not fit, and `LimitExceeded` for one that is too large.

        All is as before then, though there may be more memory.
        """
        context = self._guest.context
        self._check(snapshot)
        for memory, content in zip(self._memories, snapshot.memories, strict=True):
            more = len(content) - capi.memory_size(context, memory)
            if more:
                self._grow(memory, more)
        for memory, content in zip(self._memories, snapshot.memories, strict=True):  # when nothing can fail any more
            memmove(capi.memory_data(context, memory), content, len(content))
        for (at, kind, size), bits in zip(self._globals, snapshot.globals, strict=True):
            self._value[0] = bytes([kind])
            memmove(self._at, bits, size)
            capi.check(capi.global_set(context, at, addressof(self._value)))

    def _check(self, snapshot: Snapshot) -> None:
        name, context = self._guest.name, self._guest.context
        if snapshot.module != self._module:
            raise InvalidInput(f"{name}: the snapshot is of another module, or of another version of this one")
        for memory, content in zip(self._memories, snapshot.memories, strict=True):
            size = capi.memory_size(context, memory)
            if size > len(content):
                raise InvalidInput(
                    f"{name}: the snapshot is of {in_units(len(content))}, and the memory has grown to "
                    f"{in_units(size)}, which cannot be undone: restore it in a new instance"
                )

    def _global(self, at: int, _kind: int, size: int) -> bytes:
        capi.global_get(self._guest.context, at, addressof(self._value))
        return ctypes.string_at(self._at, size)

    def _grow(self, memory: int, size: int) -> None:
        guest = self._guest
        guest.room.denied = None
        error = capi.memory_grow(guest.context, memory, size // PAGE, addressof(create_string_buffer(8)))
        if error:
            failed = capi.taken_error(error)
            if isinstance(guest.room.denied, BackendUnavailable):
                raise guest.room.denied from failed
            limit = in_units(guest.limits.memory)
            raise exceeded(guest.name, "memory", limit, "cannot hold the snapshot") from failed
