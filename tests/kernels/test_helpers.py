"""The threads that help with a range: how many there are, and what if the system has no more."""

import _thread
import sys
import threading
from queue import SimpleQueue
from typing import Any

import pytest

from hybrid_compute.kernels import parallel
from hybrid_compute.kernels.parallel import parts, side_by_side
from tests.faults.watching import wait_until

pytest.importorskip("wasmtime")

PARTS = list(parts(range(64)))
SUMS = [sum(part) for part in PARTS]


@pytest.fixture(autouse=True)
def _no_helpers_yet(monkeypatch: pytest.MonkeyPatch) -> None:
    """And one processor besides ours, wherever this runs."""
    monkeypatch.setattr(parallel, "_started", 0)
    monkeypatch.setattr(parallel, "_jobs", SimpleQueue())
    monkeypatch.setattr(parallel, "_MOST", 1)


def by_two() -> list[Any]:
    """What two threads give, neither of which goes on before the other has come."""
    both = threading.Barrier(2, timeout=20)
    return side_by_side(lambda part: (both.wait(), sum(part))[1], PARTS, 2)


def test_a_helper_that_cannot_be_started_is_asked_for_again(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nobody hears of it: the call does all itself."""
    unheard: list[object] = []
    monkeypatch.setattr(sys, "unraisablehook", unheard.append)
    refused: list[threading.Thread] = []

    def refuse(self: threading.Thread) -> None:
        refused.append(self)
        raise RuntimeError("can't start new thread")

    with monkeypatch.context() as short:
        short.setattr(threading.Thread, "start", refuse)
        for count in (1, 2):
            assert side_by_side(sum, PARTS, 2) == SUMS
            wait_until(lambda count=count: len(refused) == count and not parallel._starting.locked())
    assert (parallel._started, parallel._jobs.qsize(), unheard) == (0, 0, [])
    assert by_two() == SUMS
    assert parallel._started == 1


def test_nor_is_the_thread_that_starts_it(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> None:
        raise RuntimeError("can't start new thread")

    with monkeypatch.context() as short:
        short.setattr(_thread, "start_new_thread", refuse)
        assert side_by_side(sum, PARTS, 3) == SUMS
    assert (parallel._started, parallel._jobs.qsize()) == (0, 0)
    assert by_two() == SUMS


def test_there_are_no_more_helpers_than_processors() -> None:
    """However many threads a call would have."""

    def helpers() -> int:
        return sum(each.name == "hybrid-compute-kernel" for each in threading.enumerate())

    before = helpers()
    for _ in range(3):
        assert side_by_side(sum, PARTS, 9) == SUMS
        assert by_two() == SUMS
    assert (parallel._started, helpers()) == (1, before + 1)
