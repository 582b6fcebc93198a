"""What a program has left behind, made a result or an error. Nothing of it is trusted: a program may say anything."""

from __future__ import annotations

import base64
import builtins
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal, TypeVar

import msgspec

from hybrid_compute.errors import LimitExceeded, TaskFailed
from hybrid_compute.sandbox.limits import Limits
from hybrid_compute.sandbox.shortage import no_memory
from hybrid_compute.wasm import traps
from hybrid_compute.wasm.limits import in_units

E = TypeVar("E", bound=BaseException)

_SHOWN = 2000
"""Characters of what a failed program has printed that its error shows."""


class Report(msgspec.Struct):
    """What the runner inside says."""

    outcome: Literal["done", "failed", "limit"]
    output: str = ""
    kind: Literal["json", "bytes"] = "json"
    limit: Literal["memory", "output", "result"] = "memory"
    message: str = ""
    traceback: str = ""
    type: str = ""
    args: list[str | int | float | bool | None] = []


@dataclass(frozen=True, slots=True)
class Outcome:
    """What a program has left: its `result`, and all that it printed."""

    result: Any
    output: str


def outcome_of(
    report: str, result: str, limits: Limits, name: str, system_gives: Callable[[int], bool] = lambda size: True
) -> Outcome:
    """The outcome of the program, or the error that it ended with.

    It cannot tell whether its limit was in its way or the system: `system_gives` says whether there is so much memory.
    """
    try:
        told = msgspec.json.decode(report, type=Report)
    except (msgspec.MsgspecError, RecursionError) as error:
        raise TaskFailed(f"{name} has broken the interpreter that ran it: its report is none ({error})") from None
    output = told.output[: limits.output]
    if told.outcome == "limit" and told.limit == "memory" and not system_gives(limits.memory):
        raise with_output(no_memory(name, limits.memory), output)
    if told.outcome == "limit":
        raise with_output(exceeded(name, told.limit, limits), output)
    if told.outcome == "failed":
        failed = TaskFailed(f"{name} failed: {told.message}", remote_traceback=told.traceback)
        if told.traceback:
            failed.add_note(f"in the sandbox: {told.traceback.rstrip()}")
        failed.__cause__ = _cause(told)
        raise with_output(failed, output)
    if len(result) > limits.result:
        raise exceeded(name, "result", limits)
    return Outcome(_value(told.kind, result, name), output)


def exceeded(name: str, limit: str, limits: Limits) -> LimitExceeded:
    """The error for a program that needed more than it may use."""
    value = getattr(limits, limit)
    did, much = {
        "time": ("ran for longer", f"{value:g} s"),
        "memory": ("needed more memory", in_units(int(value))),
        "output": ("printed more", f"{value} characters"),
        "result": ("left a larger result", f"{value} characters"),
        "host_calls": ("called what it was granted more often", f"{value} times"),
    }[limit]
    return traps.exceeded(name, limit, much, did)


def with_output(error: E, output: str) -> E:
    """The error, with the end of what the program printed before."""
    if output:
        cut = "..." if len(output) > _SHOWN else ""
        error.add_note(f"it had printed:\n{cut}{output[-_SHOWN:].rstrip()}")
    return error


def _cause(told: Report) -> Exception | None:
    """The exception that the program raised, if it is one of Python's own. Nobody's code is run to make it."""
    kind = getattr(builtins, told.type, None)
    if not isinstance(kind, type) or not issubclass(kind, Exception):
        return None
    try:
        return kind(*told.args)
    except Exception:  # one that wants other arguments than it passes on, or that a program has made up
        return None


def _value(kind: str, result: str, name: str) -> Any:
    try:
        if kind == "bytes":
            return base64.b64decode(result, validate=True)
        return msgspec.json.decode(result)  # which takes no NaN, no infinity, and half of no character
    except (msgspec.MsgspecError, ValueError, RecursionError) as error:
        raise TaskFailed(f"{name} left a result that cannot be read: {error}") from None
