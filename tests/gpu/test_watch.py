"""Somebody looks as long as there is anything to look after, and is told when to come again."""

import threading
from queue import SimpleQueue

import pytest

from hybrid_compute.gpu.watch import Watch
from tests.faults.watching import wait_until


class Looking:
    """Says what is put into it, one after the other."""

    def __init__(self) -> None:
        self.answers: SimpleQueue[float | None] = SimpleQueue()
        self.looks = 0

    def look(self) -> float | None:
        self.looks += 1
        return self.answers.get(timeout=30)


def threads() -> int:
    return sum(each.name == "watch" for each in threading.enumerate())


def test_it_looks_until_there_is_nothing_and_begins_again() -> None:
    looking = Looking()
    watch = Watch(looking.look, "watch")
    assert threads() == 0
    for _ in range(2):
        watch.begin(0.0)
        for answer in (0.0, 0.0, None):
            looking.answers.put(answer)
        wait_until(lambda: threads() == 0)
    assert looking.looks == 6


@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")
def test_a_look_that_fails_is_not_the_last() -> None:
    looks: list[int] = []

    def look() -> float | None:
        looks.append(len(looks))
        if len(looks) == 1:
            raise RuntimeError("can't start new thread")
        return None

    watch = Watch(look, "watch")
    for _ in range(2):
        watch.begin(0.0)
        wait_until(lambda: threads() == 0)
    assert looks == [0, 1]


def test_who_looks_already_needs_no_other() -> None:
    looking = Looking()
    watch = Watch(looking.look, "watch")
    watch.begin(3600.0)
    watch.begin(0.0)
    assert threads() == 1
    assert looking.looks == 0
    watch.end()
    wait_until(lambda: threads() == 0)
    watch.begin(0.0)
    assert threads() == 0
    assert looking.looks == 0


def test_what_is_found_may_be_a_reason_to_look_again() -> None:
    """In the same thread, which does not wait for itself."""
    looks: list[int] = []

    def look() -> float | None:
        looks.append(len(looks))
        watch.begin(0.0)
        return 0.0 if len(looks) < 3 else None

    watch = Watch(look, "watch")
    watch.begin(0.0)
    wait_until(lambda: threads() == 0)
    assert looks == [0, 1, 2]
