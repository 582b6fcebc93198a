"""Errors as they are told over a network, and what the other end raises of them.

    an error ── tell ──> {error, code, details} ── told ──> the same error, as far as it may be known

The code says which error of ours it is. What a task's own code raised is named, and its plain arguments and attributes
travel, but nothing is imported and no code is run to make it anew: an exception comes back as it was if its class is in
a module that the caller has loaded. Tracebacks are sent only where the server allows it.
"""

from __future__ import annotations

import math
import sys
from types import FunctionType
from typing import Any

from hybrid_compute.errors import (
    BackendError,
    BackendUnavailable,
    HybridComputeError,
    InvalidInput,
    LimitExceeded,
    NoBackendAvailable,
    PolicyRefused,
    ProtocolError,
    RemoteProtocolError,
    TaskFailed,
    WorkerLost,
)
from hybrid_compute.links.arguments import ArgumentCannotCross
from hybrid_compute.links.wire import Failure
from hybrid_compute.tasks import AnyTask


def tell(error: BaseException, *, tracebacks: bool = False) -> Failure:
    """What a client is told. An error that is none of ours is a bug at the server, and its text stays there."""
    if not isinstance(error, HybridComputeError):
        return Failure("the server failed to answer: its log says why", "internal_error")
    details: dict[str, Any] = {}
    if isinstance(error, BackendError):
        details["backend"], details["started"] = error.backend, error.started
    if isinstance(error, WorkerLost):
        details["exit_code"] = error.exit_code
    if isinstance(error, PolicyRefused | NoBackendAvailable):
        details["refusals"] = error.refusals
    if isinstance(error, TaskFailed):
        details |= _cause(error.__cause__)
        if tracebacks:
            details["traceback"] = _sayable(error.remote_traceback)
    return Failure(_sayable(str(error)) or type(error).__name__, _code_of(error), details)


def _code_of(error: HybridComputeError) -> str:
    """The code by which the other end knows it."""
    if isinstance(error, ProtocolError):  # which end broke the protocol depends on the end that says so
        return ProtocolError.code
    if isinstance(error, ArgumentCannotCross):  # such as one that is nested too deeply: it was the other end's
        return InvalidInput.code
    return error.code


def told(failure: Failure, task: AnyTask, backend: str) -> HybridComputeError:
    """The error to raise for what a server told of a call of `task` at `backend`."""
    details, text = failure.details, failure.error
    if refused := _AT_THE_DOOR.get(failure.code):
        return refused(f"{backend} refused {task.name!r}: {text}", backend=backend)
    kind = _by_code().get(failure.code, RemoteProtocolError)
    if issubclass(kind, WorkerLost):
        code = details.get("exit_code")
        return kind(text, backend=backend, started=_started(details), exit_code=code if type(code) is int else None)
    if issubclass(kind, BackendError):
        return kind(text, backend=backend, started=_started(details))
    if issubclass(kind, PolicyRefused | NoBackendAvailable):
        refusals = details.get("refusals")
        return kind(text, refusals=refusals if isinstance(refusals, dict) else {})
    if not issubclass(kind, TaskFailed):
        return kind(text)
    trace = details.get("traceback")
    failed = kind(text, remote_traceback=trace if isinstance(trace, str) else "")
    failed.__cause__ = _known_cause(details, task)
    if failed.remote_traceback:
        failed.add_note(f"\nThe traceback at the place where it ran:\n\n{trace}")
    return failed


_AT_THE_DOOR = {
    "forbidden": BackendUnavailable,
    "method_not_allowed": BackendUnavailable,
    "not_found": BackendUnavailable,
    "too_large": LimitExceeded,
    "too_slow": BackendUnavailable,
    "unauthorized": BackendUnavailable,
    "unsupported_media_type": BackendUnavailable,
}
"""What a server answers before it looks at the task: the call has not begun."""


def _started(details: dict[str, Any]) -> bool:
    """Whether the task may have begun: so it is taken unless the server says that it has not."""
    return details.get("started") is not False


def _by_code() -> dict[str, type[HybridComputeError]]:
    known: dict[str, type[HybridComputeError]] = {}
    kinds = [HybridComputeError]
    for kind in kinds:  # which grows meanwhile
        known.setdefault(kind.code, kind)
        kinds += kind.__subclasses__()
    return known


def _cause(cause: BaseException | None) -> dict[str, Any]:
    """What is told of the exception that a task raised: its name, and its plain arguments and attributes."""
    if cause is None:
        return {}
    told: dict[str, Any] = {"type": _sayable(type(cause).__qualname__), "module": _sayable(type(cause).__module__)}
    if all(map(_is_plain, cause.args)):
        told["args"] = [_as_said(each) for each in cause.args]
    state = {name: _as_said(each) for name, each in vars(cause).items() if name != "__notes__" and _is_plain(each)}
    return {**told, "state": state} if state else told


def _is_plain(value: Any) -> bool:
    """Whether every encoding has a form for it, and not too long a one."""
    if isinstance(value, str):
        return type(value) is str and len(value) <= _LONGEST
    if type(value) is int:
        return -(1 << 63) <= value < 1 << 63
    return value is None or type(value) is bool or (type(value) is float and math.isfinite(value))


_LONGEST = 10_000


def _as_said(value: Any) -> Any:
    return _sayable(value) if type(value) is str else value


def _known_cause(details: dict[str, Any], task: AnyTask) -> BaseException | None:
    """The exception anew, if this program knows its class. No code of that class is run on what came from a network."""
    kind = _known_class(details.get("module"), details.get("type"), task)
    args, state = details.get("args"), details.get("state", {})
    if kind is None or not isinstance(args, list) or not isinstance(state, dict):
        return None
    if issubclass(kind, OSError) and not _has_code(kind, "__init__"):
        cause: Exception = kind(*args)  # which is how it comes by its `errno`
    else:
        cause = kind.__new__(kind)
        cause.args = tuple(args)
    cause.__dict__.update(state)
    return cause


def _known_class(module: object, name: object, task: AnyTask) -> type[Exception] | None:
    """The class of this name in a module that is loaded already: nothing is imported because a server says so."""
    if not isinstance(module, str) or not isinstance(name, str):
        return None
    if module == "__main__" and getattr(task.fn, "__module__", None) != "__main__":
        return None  # that of the server
    found: Any = sys.modules.get(module)
    for part in name.split("."):
        found = getattr(found, part, None)
    if not isinstance(found, type) or not issubclass(found, Exception) or found.__module__ != module:
        return None
    return None if _has_code(found, "__new__") else found


def _has_code(kind: type, method: str) -> bool:
    """Whether a method of the class is somebody's code, not Python's own."""
    return any(isinstance(vars(each).get(method), FunctionType | staticmethod) for each in kind.__mro__)


def _sayable(text: str) -> str:
    """The text, with a mark in place of what is no Unicode."""
    return text.encode("utf-8", "replace").decode("utf-8")
