"""Threads with room for a guest's stack."""

from __future__ import annotations

import threading
from collections.abc import Callable
from concurrent.futures import Future
from typing import TypeVar

from hybrid_compute.errors import BackendUnavailable
from hybrid_compute.links import threads
from hybrid_compute.sandbox.prepare import STACK
from hybrid_compute.wasm import stack

R = TypeVar("R")

_WAY = 64 << 10
"""What our own calls need from here to where the guest is given its stack, and all of it is asked for again."""


def run_with_room(work: Callable[[], R]) -> R:
    """Do it in this thread if enough of its stack is left, else in another one, and wait."""
    try:
        stack.insist_on(STACK + _WAY)
    except BackendUnavailable:
        return _elsewhere(work)
    return work()


def started(work: Callable[[], object], name: str) -> threading.Thread:
    """A thread with room that does this."""
    return threads.start(work, stack=stack.THREAD, name=name)


def _elsewhere(work: Callable[[], R]) -> R:
    done: Future[R] = Future()

    def perform() -> None:
        try:
            done.set_result(work())
        except BaseException as error:
            done.set_exception(error)

    started(perform, "hybrid-compute-sandbox")
    return done.result()
