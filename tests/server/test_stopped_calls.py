"""A keyed call that the end of the server has met: what whoever comes back for it is told."""

from __future__ import annotations

import pytest

from hybrid_compute.errors import BackendClosed
from hybrid_compute.links.wire import Pieces
from hybrid_compute.server.memory import Memory
from hybrid_compute.server.refusals import AsTold, failure_for

KEY = ("acme", "key")


class Call:
    """A call that is stopped the first time, and would go well the second."""

    def __init__(self, *, started: bool) -> None:
        self.began = 0
        self._error = BackendClosed("the place was closed", backend="here", started=started)

    async def run(self) -> Pieces:
        self.began += 1
        if self.began == 1:
            raise self._error
        return [b"1"]


async def told(memory: Memory, call: Call, *, pure: bool) -> bytes | str:
    try:
        return b"".join(await memory.once(KEY, b"digest", call.run, pure=pure))
    except AsTold as error:
        return error.failure.code
    except BackendClosed as error:
        return error.code


@pytest.mark.parametrize(
    ("started", "pure", "first", "second"),
    [
        (True, False, "outcome_unknown", "outcome_unknown"),
        (True, True, "backend_closed", b"1"),
        (False, False, "backend_closed", b"1"),
    ],
)
async def test_only_what_may_have_been_done_is_not_begun_again(
    started: bool, pure: bool, first: str, second: bytes | str
) -> None:
    """`backend_closed` would say that it may be sent again; of what had begun and is not pure, nobody can say that."""
    memory, call = Memory(failure_for), Call(started=started)
    assert await told(memory, call, pure=pure) == first
    assert await told(memory, call, pure=pure) == second
    assert call.began == (1 if second == first else 2)
    await memory.aclose()
