"""What is said at the door to whom is not let in, and the HTTP status that stands for each code."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any, Final

from hybrid_compute.errors import HybridComputeError
from hybrid_compute.links.told import tell
from hybrid_compute.links.wire import Failure

STATUS: Final[Mapping[str, int]] = {
    "protocol_error": 400,
    "unauthorized": 401,
    "forbidden": 403,
    "policy_refused": 403,
    "task_not_found": 404,
    "not_found": 404,
    "method_not_allowed": 405,
    "too_slow": 408,
    "outcome_unknown": 409,
    "too_large": 413,
    "unsupported_media_type": 415,
    "invalid_input": 422,
    "limit_exceeded": 429,
    "cancelled": 499,
    "backend_closed": 503,
    "backend_unavailable": 503,
    "no_backend_available": 503,
    "task_timeout": 504,
}
"""All others are 500."""


class Refused(Exception):
    """A request that is answered before any task is looked at."""

    def __init__(self, code: str, message: str, *, retry_after: float | None = None, **details: Any) -> None:
        super().__init__(message)
        self.code = code
        self.retry_after = retry_after
        self.details = details


class AsTold(Exception):
    """A failure that was told before, and is told again."""

    def __init__(self, failure: Failure) -> None:
        super().__init__(failure.error)
        self.failure = failure


def failure_for(error: BaseException, *, tracebacks: bool = False) -> Failure:
    """What a client is told of an error, whoever made it."""
    if isinstance(error, AsTold):
        return error.failure
    if isinstance(error, Refused):
        return Failure(str(error), error.code, _of_a_limit(error) | error.details)
    return tell(error, tracebacks=tracebacks)


def _of_a_limit(error: Refused) -> dict[str, Any]:
    """What a client is told besides: of other codes it knows that nothing has begun, and when to come again."""
    if error.code != "limit_exceeded":
        return {}
    return {"started": False} if error.retry_after is None else {"started": False, "retry_after": error.retry_after}


def headers_for(error: BaseException, failure: Failure) -> list[tuple[bytes, bytes]]:
    """The headers that belong to it."""
    if failure.code == "unauthorized":
        return [(b"www-authenticate", b'Bearer realm="hybrid-compute"')]
    if failure.code == "method_not_allowed":
        return [(b"allow", b"POST")]
    if failure.code in ("limit_exceeded", "backend_closed"):
        seconds = error.retry_after if isinstance(error, Refused) else None
        return [(b"retry-after", b"%d" % max(1, math.ceil(seconds or 1)))]
    return []


def is_expected(error: BaseException) -> bool:
    """Whether it is no bug of the server."""
    return isinstance(error, Refused | AsTold | HybridComputeError)
