"""What went wrong in a guest, in words: a trap with its backtrace, or the limit that was exceeded."""

from __future__ import annotations

import re
from typing import NamedTuple

import wasmtime

from hybrid_compute.errors import BackendUnavailable, LimitExceeded
from hybrid_compute.wasm.limits import Limits, in_units
from hybrid_compute.wasm.names import shown, shown_text
from hybrid_compute.wasm.trap import Trap

_WORDS = {
    "STACK_OVERFLOW": "its calls were nested too deeply for its stack",
    "MEMORY_OUT_OF_BOUNDS": "it reached beyond the end of its memory",
    "HEAP_MISALIGNED": "an atomic access was not aligned",
    "TABLE_OUT_OF_BOUNDS": "it reached beyond the end of a table",
    "INDIRECT_CALL_TO_NULL": "it called an empty entry of a table",
    "BAD_SIGNATURE": "it called a function of another type than it expected",
    "INTEGER_OVERFLOW": "an integer division overflowed",
    "INTEGER_DIVISION_BY_ZERO": "it divided an integer by zero",
    "BAD_CONVERSION_TO_INTEGER": "a float that does not fit was converted to an integer",
    "UNREACHABLE": "it ran into `unreachable`, which compilers put where a program gives up",
}
_TEXTS = {
    "all fuel consumed": "OUT_OF_FUEL",
    "call stack exhausted": "STACK_OVERFLOW",
    "out of bounds memory access": "MEMORY_OUT_OF_BOUNDS",
    "out of bounds table access": "TABLE_OUT_OF_BOUNDS",
    "uninitialized element": "INDIRECT_CALL_TO_NULL",
    "indirect call type mismatch": "BAD_SIGNATURE",
    "integer overflow": "INTEGER_OVERFLOW",
    "integer divide by zero": "INTEGER_DIVISION_BY_ZERO",
    "invalid conversion to integer": "BAD_CONVERSION_TO_INTEGER",
    "`unreachable` instruction": "UNREACHABLE",
}
_FRAME = re.compile(r"(?m)^ +\d+: +(0x[0-9a-f]+) - (.+)$")

MOST_FRAMES = 64
"""Of a backtrace; it begins with the innermost call."""


class Denied(NamedTuple):
    """What a guest asked for and did not get: which limit it was, its value, and what would have exceeded it."""

    limit: str
    value: str
    wanted: str


def explain(trap: wasmtime.Trap, what: str, limits: Limits, denied: Denied | BackendUnavailable | None) -> Exception:
    """The error to raise for a trap in the call of `what`."""
    code = trap.trap_code.name if trap.trap_code is not None else ""
    message = "" if code in _WORDS else shown_text(trap.message)  # which has all the names, in full
    return reason(code, message, tuple(map(_frame, trap.frames[:MOST_FRAMES])), what, limits, denied)


def explain_text(text: str, what: str, limits: Limits, denied: Denied | BackendUnavailable | None) -> Exception:
    """The error to raise for what a component says, which is a text."""
    code = next((code for words, code in _TEXTS.items() if words in text), "")
    frames = tuple(f"{shown(name)} at {offset}" for offset, name in _FRAME.findall(text)[:MOST_FRAMES])
    message = shown_text(text.rpartition("Caused by:")[2].strip() or text)
    return reason(code, message, frames, what, limits, denied)


def reason(
    code: str,
    message: str,
    frames: tuple[str, ...],
    what: str,
    limits: Limits,
    denied: Denied | BackendUnavailable | None,
) -> Exception:
    if code == "OUT_OF_FUEL":
        return exceeded(what, "fuel", f"{limits.fuel} units", "used it up")
    if code == "STACK_OVERFLOW":
        return exceeded(what, "stack", in_units(limits.stack), "nested its calls more deeply")
    if denied is not None:
        error = _after(denied, what)
        error.__cause__ = Trap(_WORDS.get(code) or message, code, frames)
        return error
    return Trap(f"{what}: {_WORDS.get(code) or message.splitlines()[0]} ({code or 'no code'})", code, frames)


def _after(denied: Denied | BackendUnavailable, what: str) -> LimitExceeded | BackendUnavailable:
    """For a guest that could not do without what it was denied, or so it seems."""
    if isinstance(denied, Denied):
        return exceeded(what, denied.limit, denied.value, f"asked for {denied.wanted}, and then failed")
    return BackendUnavailable(f"{what} has failed, and before that {denied}", backend="wasm", started=True)


def wanted_room(error: BaseException) -> bool:
    """Whether a guest has failed because it was denied something: a larger one might not."""
    return isinstance(error, LimitExceeded) and isinstance(error.__cause__, Trap)


def exceeded(what: str, limit: str, value: str, did: str) -> LimitExceeded:
    """A guest was stopped at a limit: which, and how much that is."""
    return LimitExceeded(
        f"{what} {did}: its limit of {limit} is {value} (Limits.{limit})", backend="wasm", started=True
    )


def _frame(frame: wasmtime.Frame) -> str:
    name = shown(frame.func_name or f"function {frame.func_index}")
    return f"{shown(frame.module_name or 'module')}!{name} at 0x{frame.module_offset:x}"
