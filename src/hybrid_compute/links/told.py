"""Errors as they are told over a network, and what the other end raises of them.

    an error ── tell ──> {error, code, details} ── told ──> the same error, as far as it may be known

The code says which error of ours it is. What a task's own code raised is named, and its plain arguments travel, but
nothing is imported and nothing is called to make it anew: only builtin exceptions, and those that the caller's own
module defines, come back as they were. Tracebacks are sent only where the server allows it.
"""

from __future__ import annotations

import builtins
import sys
from typing import Any

from hybrid_compute.errors import (
    BackendError,
    BackendUnavailable,
    HybridComputeError,
    LimitExceeded,
    NoBackendAvailable,
    PolicyRefused,
    ProtocolError,
    RemoteProtocolError,
    TaskFailed,
    WorkerLost,
)
from hybrid_compute.links.layouts import ATOMS
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
    # Which end broke the protocol depends on the end that says so.
    code = ProtocolError.code if isinstance(error, ProtocolError) else error.code
    return Failure(_sayable(str(error)) or type(error).__name__, code, details)


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
    if cause is None:
        return {}
    named = {"type": type(cause).__qualname__, "module": type(cause).__module__}
    if all(type(each) in ATOMS - {bytes, complex} for each in cause.args):
        return {**named, "args": [_sayable(each) if type(each) is str else each for each in cause.args]}
    return named


def _known_cause(details: dict[str, Any], task: AnyTask) -> BaseException | None:
    module, name, args = details.get("module"), details.get("type"), details.get("args")
    if not isinstance(name, str) or not isinstance(args, list):
        return None
    if module == "builtins":
        kind = getattr(builtins, name, None)
    elif module == getattr(task.fn, "__module__", None) and isinstance(module, str):
        kind = getattr(sys.modules.get(module), name, None)
    else:
        return None
    if not isinstance(kind, type) or not issubclass(kind, Exception):
        return None
    cause = kind.__new__(kind)  # not `kind(*args)`: that would run code on what came from a network
    cause.args = tuple(args)
    return cause


def _sayable(text: str) -> str:
    """The text, with a mark in place of what is no Unicode."""
    return text.encode("utf-8", "replace").decode("utf-8")
