"""A function of a guest as Python sees it, and how its arguments and results cross."""

from __future__ import annotations

import ctypes
import inspect
import struct
import typing
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

from hybrid_compute.errors import InvalidInput
from hybrid_compute.hints import bare
from hybrid_compute.wasm import capi, kinds
from hybrid_compute.wasm.kinds import BUFFER, LETTERS, NUMBERS, Buffer, Kind, Number
from hybrid_compute.wasm.limits import in_units
from hybrid_compute.wasm.trap import Trap
from hybrid_compute.wasm.traps import exceeded

if TYPE_CHECKING:
    from hybrid_compute.wasm.guest import Guest


Taken = tuple[int, int]
"""Where something begins that a guest's `alloc` gave, and how many bytes it is."""


class Parameter(NamedTuple):
    name: str
    kind: Kind


class Signature(NamedTuple):
    """Parameters and result, in Python's terms."""

    parameters: tuple[Parameter, ...]
    result: Kind | None

    def __str__(self) -> str:
        given = ", ".join(f"{name}: {kind}" for name, kind in self.parameters)
        return f"({given}) -> {self.result}"


def of_stub(stub: Callable[..., Any]) -> Signature:
    """The signature that a function's type hints say. Raises `TypeError` where no guest could keep it."""
    name = getattr(stub, "__qualname__", repr(stub))
    hints = typing.get_type_hints(stub)
    parameters: list[Parameter] = []
    for each in inspect.signature(stub).parameters.values():
        if each.kind not in (each.POSITIONAL_ONLY, each.POSITIONAL_OR_KEYWORD):
            raise TypeError(f"{name}: parameter {each} has no place in a guest, whose functions take a fixed number")
        if each.name not in hints:
            raise TypeError(f"{name}: parameter {each.name!r} needs a type hint, which says how it crosses")
        parameters.append(Parameter(each.name, kinds.of_hint(hints[each.name], f"{name}: parameter {each.name!r}")))
    result = bare(hints.get("return", inspect.Signature.empty))
    if result is inspect.Signature.empty:
        raise TypeError(f"{name} needs a type hint for its result, which says how it crosses (-> None for none)")
    none = result is None or result is type(None)
    return Signature(tuple(parameters), None if none else kinds.of_hint(result, f"{name}: its result"))


def of_types(what: str, parameters: Sequence[str], results: Sequence[str]) -> Signature:
    """The signature that a module's own types say, if they are all numbers."""
    if len(results) > 1 or not all(each in NUMBERS for each in (*parameters, *results)):
        raise InvalidInput(
            f"{what} has the type ({', '.join(parameters)}) -> ({', '.join(results)}), "
            f"which says too little: give it a signature by a function with type hints"
        )
    named = (Parameter(f"arg{index}", NUMBERS[each]) for index, each in enumerate(parameters))
    return Signature(tuple(named), NUMBERS[results[0]] if results else None)


class Convention:
    """A signature, and the types by which a module keeps it. Raises `InvalidInput` if it does not keep it."""

    def __init__(self, what: str, signature: Signature, parameters: Sequence[str], results: Sequence[str]) -> None:
        self.what = what
        self.signature = signature
        self.parameters = signature.parameters
        self.count = len(self.parameters)
        if not keeps(signature, parameters, results):
            raise InvalidInput(
                f"{what} is declared as {signature}, but the module's function is "
                f"({', '.join(parameters)}) -> ({', '.join(results)})"
            )
        self.slots = max(1, len(parameters), len(results))
        self.size = self.slots * capi.SLOT
        crossing = [kind for _, kind in self.parameters] + ([signature.result] if signature.result else [])
        self.plain = all(isinstance(kind, Number) and kind.type is not bool for kind in crossing)
        self.pack_into = struct.Struct("<" + "".join(map(slot, parameters))).pack_into
        self._fitted = [FITTED[type] for type in parameters]
        self.unpack_from = struct.Struct("<" + "".join(map(slot, results))).unpack_from

    def put(self, guest: Guest, values: ctypes.Array[ctypes.c_char], args: tuple[Any, ...]) -> list[Taken]:
        """Write the arguments to the slots, and some to the guest's memory; gives what its `alloc` gave for them."""
        taken: list[Taken] = []
        numbers: list[Any] = []
        for (name, kind), value in zip(self.parameters, args, strict=True):
            if isinstance(kind, Number):
                number = kind.of(value)
                if number is None:
                    raise kinds.refuse(self.what, name, kind, value)
                numbers.append(number)
            else:
                try:
                    data = kind.to_bytes(value)
                except UnicodeEncodeError as error:
                    raise InvalidInput(f"{self.what}: argument {name!r} is no text that UTF-8 has: {error}") from error
                if data is None:
                    raise kinds.refuse(self.what, name, kind, value)
                offset = self.place(guest, data, taken) if len(data) else 0
                numbers += offset, len(data) // kind.item
        self.pack(values, numbers)
        return taken

    def place(self, guest: Guest, data: bytes | memoryview, taken: list[Taken]) -> int:
        """Where in the guest's memory the data is, having been put there, in what was `taken` for it."""
        offset = written(guest, data)
        taken.append((offset, len(data)))
        return offset

    def pack(self, values: ctypes.Array[ctypes.c_char], numbers: Sequence[Any]) -> None:
        """Write numbers to the slots. What is unsigned in the guest may be given so."""
        try:
            self.pack_into(values, 0, *numbers)
        except (struct.error, OverflowError):
            try:
                self.pack_into(values, 0, *(fit(value) for fit, value in zip(self._fitted, numbers, strict=True)))
            except (struct.error, OverflowError) as error:
                raise InvalidInput(f"{self.what}: an argument is too large for the guest: {error}") from error

    def take(self, guest: Guest, values: ctypes.Array[ctypes.c_char]) -> Any:
        """The result, from the slots and the guest's memory."""
        kind = self.signature.result
        if kind is None:
            return None
        given = self.unpack_from(values)
        if isinstance(kind, Number):
            return kind.type(given[0])
        offset, length = given if len(given) == 2 else (given[0] >> 32, given[0])
        return read(self.what, guest, kind, offset, length)


def read(what: str, guest: Guest, kind: Buffer, offset: int, length: int) -> Any:
    """What a guest gives by naming a place in its memory. Nothing of what it says is believed."""
    offset, size = offset & 0xFFFFFFFF, (length & 0xFFFFFFFF) * kind.item
    if size > guest.limits.output:
        raise exceeded(what, "output", f"{guest.limits.output} bytes", f"gave {size} bytes")
    address = guest.view(offset, size) if size else 0
    try:
        return kind.copied(address, size)
    except UnicodeDecodeError as error:
        raise Trap(f"{what} gave a text that is no UTF-8: {error}") from error


def keeps(signature: Signature, parameters: Sequence[str], results: Sequence[str]) -> bool:
    at = 0
    for _, kind in signature.parameters:
        if isinstance(kind, Buffer):
            if tuple(parameters[at : at + 2]) != BUFFER:
                return False
            at += 2
        else:
            if at >= len(parameters) or parameters[at] not in kind.fitting:
                return False
            at += 1
    if at != len(parameters):
        return False
    if signature.result is None:
        return not results
    if isinstance(signature.result, Buffer):
        return tuple(results) in (BUFFER, ("i64",))
    return len(results) == 1 and results[0] in signature.result.fitting


def slot(type: str) -> str:
    letter = LETTERS[type]
    return letter + ("12x" if letter in "if" else "8x")


def _signed(bits: int) -> Callable[[int], int]:
    """Of an integer that is unsigned in the guest, the signed one with the same bits; any other stays as it is."""
    return lambda value: value - (1 << bits) if value >> (bits - 1) == 1 else value


FITTED: dict[str, Callable[[Any], Any]] = {
    "i32": _signed(32),
    "i64": _signed(64),
    "f32": lambda value: ctypes.c_float(value).value,  # what is too large for it is infinite
    "f64": float,
}
_ALLOC = struct.Struct("<I12x")
_DEALLOC = struct.Struct("<I12xI12x")


def written(guest: Guest, data: bytes | memoryview) -> int:
    """Where in the guest's memory the data is now."""
    offset = allocated(guest, len(data))
    guest.write(offset, data)
    return offset


def allocated(guest: Guest, size: int) -> int:
    """Where in the guest's memory so many bytes may be written, by what it says itself. Raises `LimitExceeded`."""
    if size > guest.limits.memory or size >= 1 << 32:
        did = f"was to be given {in_units(size)} at once"
        raise exceeded(guest.name, "memory", in_units(min(guest.limits.memory, 1 << 32)), did)
    values = ctypes.create_string_buffer(capi.SLOT)
    _ALLOC.pack_into(values, 0, size)
    guest.call(guest.export(b"alloc", capi.EXTERN_FUNC), ctypes.addressof(values), 1)
    offset: int = _ALLOC.unpack_from(values)[0]
    return offset


def give_back(guest: Guest, taken: Sequence[Taken]) -> None:
    """Tell a guest that lives on what is needed no more, if it exports `dealloc(at, size)`."""
    if guest.program.takes_back:
        values = ctypes.create_string_buffer(2 * capi.SLOT)
        for each in taken:
            _DEALLOC.pack_into(values, 0, *each)
            guest.call(guest.export(b"dealloc", capi.EXTERN_FUNC), ctypes.addressof(values), 2)
