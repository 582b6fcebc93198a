"""Threads that use a worker themselves, at the moment when something happens to it."""

from __future__ import annotations

import os
import select
import signal
import threading
from collections.abc import Callable
from concurrent.futures import Future
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from hybrid_compute import BlockingRuntime, LocalBackend, WorkerBackend
from hybrid_compute.backends import leases
from hybrid_compute.errors import TaskFailed
from hybrid_compute.links.pipe import PipeLink
from tests.faults import tasks
from tests.faults.watching import alive, descriptors, kill, wait_until

SIZE = 1 << 16


def elsewhere(work: Callable[[], Any]) -> Future[Any]:
    """Run it in a thread, which may hang without holding up the end of the program."""
    answer: Future[Any] = Future()

    def run() -> None:
        try:
            answer.set_result(work())
        except BaseException as error:
            answer.set_exception(error)

    threading.Thread(target=run, daemon=True).start()
    return answer


def test_interrupts_leave_no_worker_behind_that_is_none(monkeypatch: pytest.MonkeyPatch) -> None:
    """The reply of an interrupted call may be there when its worker is stopped: nobody reads it."""
    pool = WorkerBackend(1)
    killed = PipeLink.kill

    def kill_late(link: PipeLink) -> None:
        select.select([link.replies], [], [], 20)
        killed(link)

    before = signal.signal(signal.SIGUSR1, signal.default_int_handler)
    try:
        with BlockingRuntime([pool], strategy="worker") as rt:
            for _ in range(3):
                assert rt.run(tasks.interrupt_and_answer, 0) == 0
            open_before = len(descriptors())
            monkeypatch.setattr(PipeLink, "kill", kill_late)
            for _ in range(10):
                with pytest.raises(KeyboardInterrupt):
                    rt.run(tasks.interrupt_and_answer, os.getpid())
                for _ in range(3):
                    assert elsewhere(lambda: rt.run(tasks.interrupt_and_answer, 0)).result(20) == 0
            monkeypatch.undo()
            wait_until(lambda: pool.stats().workers == pool.stats().idle == 1, "there is one worker, and it is idle")
            wait_until(lambda: len(descriptors()) <= open_before)
    finally:
        signal.signal(signal.SIGUSR1, before)


def test_a_worker_that_dies_while_memory_is_shown_to_it_is_not_given_back(monkeypatch: pytest.MonkeyPatch) -> None:
    """The loop has heard of its end, and leaves it to the thread to say so."""
    pool = WorkerBackend(1)
    with BlockingRuntime([pool], strategy="worker") as rt:
        for _ in range(3):
            rt.run(tasks.total, np.ones(SIZE))
        fresh = pool.empty(4 * SIZE)  # not shown to the worker before
        fresh[:] = 1.0
        held = leases._held

        def die_first(link: Any, loans: Any) -> bool:
            monkeypatch.undo()
            kill(link.pid)
            wait_until(lambda: link.exit is not None, "the loop has heard of it")
            return held(link, loans)

        monkeypatch.setattr(leases, "_held", die_first)
        assert elsewhere(lambda: rt.run(tasks.total, fresh)).result(20) == 4 * SIZE


def test_a_worker_that_is_being_struck_off_is_leased_by_nobody(monkeypatch: pytest.MonkeyPatch) -> None:
    """While the loop reads its last words it is idle no more."""
    pool = WorkerBackend(1)
    with BlockingRuntime([pool], strategy="worker") as rt:
        for _ in range(3):
            rt.run(tasks.add, 1, 2)
        reading, go_on = threading.Event(), threading.Event()
        drain = PipeLink.drain

        def slow_drain(link: PipeLink) -> None:
            reading.set()
            go_on.wait(20)
            drain(link)

        finish = leases.Leases._finish

        def slow_finish(self: Any, link: Any, *args: Any) -> Any:
            wait_until(lambda: link.number not in self._pool.links, "the loop is done with it")
            return finish(self, link, *args)

        monkeypatch.setattr(PipeLink, "drain", slow_drain)
        monkeypatch.setattr(leases.Leases, "_finish", slow_finish)
        kill(pool.pids[0])
        assert reading.wait(20)
        asked = elsewhere(lambda: rt.run(tasks.add, 3, 4))
        go_on.set()
        assert asked.result(20) == 7


def test_a_waiting_thread_goes_to_the_next_place_as_anybody_would(tmp_path: Path) -> None:
    """The worker it had died, and no other can be set up."""
    flag = tmp_path / "flag"
    pool = WorkerBackend(1, initializer=tasks.set_up_once, initargs=(str(flag),))
    with BlockingRuntime([pool, LocalBackend()], strategy="in_order") as rt:
        for _ in range(2):
            assert rt.run(tasks.add, 1, 2) == 3
        (worker,) = pool.pids
        go_on = threading.Event()
        rt._portal().post(go_on.wait, 20)  # the loop does not hear of its death
        kill(worker)
        wait_until(lambda: not alive([worker]))
        asked = elsewhere(lambda: rt.run(tasks.add, 1, 2))
        wait_until(lambda: not pool.stats().idle, "the thread has leased it")
        go_on.set()
        assert asked.result(20) == 3
        assert rt.stats()["add"]["local"].calls == 1


@pytest.mark.parametrize("place", ["worker", "local"])
def test_what_waiting_threads_ask_is_counted_whether_it_fails_or_not(place: str) -> None:
    with BlockingRuntime([WorkerBackend(1), LocalBackend()], strategy=place) as rt:
        for number in range(6):
            if number % 2:
                with pytest.raises(TaskFailed):
                    rt.run(tasks.divide, 1, 0)
            else:
                assert rt.run(tasks.divide, 1, 1) == 1
        tally = rt.stats()["divide"][place]
        assert (tally.calls, tally.failed) == (6, 3)
