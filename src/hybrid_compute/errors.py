"""Every error this library raises, and the one question each answers: was it the task, the place, or me?

    HybridComputeError
    ├── TaskError                 the task itself: another place would not help
    │   ├── TaskNotFound          no task has that name                      (also LookupError)
    │   ├── TaskFailed            its code raised
    │   ├── TaskTimeout           it was not done in time                    (also TimeoutError)
    │   ├── InvalidInput          the input does not fit the task's types    (also ValueError)
    │   └── NotTransferable       a value cannot cross to another process    (also TypeError)
    ├── BackendError              the place: another may do
    │   ├── BackendUnavailable    it could not start or connect
    │   ├── WorkerLost            the child process died
    │   ├── ConnectionLost        the link dropped with calls pending
    │   ├── OutcomeUnknown        it died while the call ran, and nobody knows how far it came
    │   ├── LimitExceeded         fuel, memory or queue
    │   └── BackendClosed         it was closed
    ├── PolicyRefused             a rule forbids every place: privacy, budget, allow-list
    ├── NoBackendAvailable        no place can run it
    ├── ProtocolError             the two ends disagree
    │   ├── LocalProtocolError    we broke it: a bug here
    │   └── RemoteProtocolError   they broke it
    ├── SharingError              memory that several processes see
    │   ├── StaleHandle           it was given back: what lies there now may be another's
    │   ├── LeaseHeld             somebody else has it, and did not let go in time (also TimeoutError)
    │   └── HalfWritten           its writer ended in the middle
    ├── EngineError
    │   ├── ActionNotFound        no action has that name                    (also LookupError)
    │   ├── ActionFailed          it raised; the state is as before
    │   └── EngineStopped         the engine was shut down
    └── AgentError
        ├── AgentFailed
        ├── BudgetExceeded
        └── NotPermitted

Fallback follows from the tree: another place is tried after a `BackendError` whose `started` is false, or
when the task is `pure`. Every error pickles, carries a stable `code` for the wire, and reads as one line.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar

__all__ = [
    "ActionFailed",
    "ActionNotFound",
    "AgentError",
    "AgentFailed",
    "BackendClosed",
    "BackendError",
    "BackendUnavailable",
    "BudgetExceeded",
    "ConnectionLost",
    "EngineError",
    "EngineStopped",
    "HalfWritten",
    "HybridComputeError",
    "InvalidInput",
    "LeaseHeld",
    "LimitExceeded",
    "LocalProtocolError",
    "NoBackendAvailable",
    "NotPermitted",
    "NotTransferable",
    "OutcomeUnknown",
    "PolicyRefused",
    "ProtocolError",
    "RemoteProtocolError",
    "SharingError",
    "StaleHandle",
    "TaskError",
    "TaskFailed",
    "TaskNotFound",
    "TaskTimeout",
    "WorkerLost",
]


class HybridComputeError(Exception):
    """The root: `except HybridComputeError` catches all that this library raises on purpose."""

    code: ClassVar[str] = "error"


class TaskError(HybridComputeError):
    """The task itself is the reason: no other place is tried."""

    code = "task_error"


class TaskNotFound(TaskError, LookupError):
    """No task of that name is registered."""

    code = "task_not_found"


class TaskFailed(TaskError):
    """The task's own code raised.

    `__cause__` is the original exception whenever it could travel; `remote_traceback` is always the text of the
    traceback as it was at the place where the task ran.
    """

    code = "task_failed"

    def __init__(self, message: str = "", *, remote_traceback: str = "") -> None:
        super().__init__(message)
        self.remote_traceback = remote_traceback


class TaskTimeout(TaskError, TimeoutError):
    """The call was not done when its time was up. It has been stopped, or never began; `started` is whether it may."""

    code = "task_timeout"
    started = False


class InvalidInput(TaskError, ValueError):
    """The input does not fit the task's type hints; the message names the path to the value."""

    code = "invalid_input"


class NotTransferable(TaskError, TypeError):
    """An argument or a result cannot cross to another process; the message names the path to the value."""

    code = "not_transferable"


class BackendError(HybridComputeError):
    """A place failed the call. `backend` names it; `started` tells whether the task may have begun there."""

    code = "backend_error"

    def __init__(self, message: str = "", *, backend: str = "", started: bool = False) -> None:
        super().__init__(message)
        self.backend = backend
        self.started = started


class BackendUnavailable(BackendError):
    """The place could not start or connect; the message says what to install or check."""

    code = "backend_unavailable"


class WorkerLost(BackendError):
    """The worker process died under the call. `exit_code` is negative for a signal, None when nobody knows."""

    code = "worker_lost"

    def __init__(
        self, message: str = "", *, backend: str = "", started: bool = False, exit_code: int | None = None
    ) -> None:
        super().__init__(message, backend=backend, started=started)
        self.exit_code = exit_code


class ConnectionLost(BackendError):
    """The link dropped while the call was pending."""

    code = "connection_lost"


class OutcomeUnknown(BackendError):
    """The call had begun when its place died, so it may have been done; it is not pure, so it is not run again."""

    code = "outcome_unknown"


class LimitExceeded(BackendError):
    """A limit of the place was reached: its queue, its memory, its fuel."""

    code = "limit_exceeded"


class BackendClosed(BackendError):
    """The place was closed before, or while, it was asked."""

    code = "backend_closed"


class _Refused(HybridComputeError):
    """`refusals` maps each place asked to its reason for refusing."""

    def __init__(self, message: str = "", *, refusals: Mapping[str, str] | None = None) -> None:
        super().__init__(message)
        self.refusals: dict[str, str] = dict(refusals or {})


class PolicyRefused(_Refused):
    """Places could run the task, but a rule forbids each of them; `refusals` says which rule."""

    code = "policy_refused"


class NoBackendAvailable(_Refused):
    """No place can run the task; `refusals` maps each backend to its reason."""

    code = "no_backend_available"


class ProtocolError(HybridComputeError):
    """The two ends of a link disagree about what may be said."""

    code = "protocol_error"


class LocalProtocolError(ProtocolError):
    """This end broke the protocol: a bug in this library."""

    code = "local_protocol_error"


class RemoteProtocolError(ProtocolError):
    """The other end sent what it must not: another version, or not our program at all."""

    code = "remote_protocol_error"


class SharingError(HybridComputeError):
    """Memory that several processes see cannot be used just now, or not by this handle."""

    code = "sharing_error"


class StaleHandle(SharingError):
    """The memory was given back, or given to another array: this handle leads to nothing that is its own."""

    code = "stale_handle"


class LeaseHeld(SharingError, TimeoutError):
    """Somebody else reads or writes this memory, and did not let go of it in time."""

    code = "lease_held"


class HalfWritten(SharingError):
    """Who wrote to this memory last was killed, or left the block by an error: nobody knows how far he came."""

    code = "half_written"


class EngineError(HybridComputeError):
    """An engine could not do what was dispatched to it."""

    code = "engine_error"


class ActionNotFound(EngineError, LookupError):
    """No action has that name."""

    code = "action_not_found"


class ActionFailed(EngineError):
    """The action's own code raised."""

    code = "action_failed"


class EngineStopped(EngineError):
    """The engine has been shut down, or its worker died with the state."""

    code = "engine_stopped"


class AgentError(HybridComputeError):
    """An agent could not go on."""

    code = "agent_error"


class AgentFailed(AgentError):
    """The agent's own code raised."""

    code = "agent_failed"


class BudgetExceeded(AgentError):
    """The agent used up its turns, fuel or time."""

    code = "budget_exceeded"


class NotPermitted(AgentError):
    """The agent asked for something it was not granted."""

    code = "not_permitted"
