"""Threads with room for a guest's stack."""

from __future__ import annotations

import threading
from collections.abc import Callable
from concurrent.futures import Future
from typing import TypeVar

from hybrid_compute.errors import BackendUnavailable
from hybrid_compute.sandbox.prepare import STACK
from hybrid_compute.wasm import stack

R = TypeVar("R")


def run_with_room(work: Callable[[], R]) -> R:
    """Do it in this thread if its stack is large enough, else in another one, and wait."""
    try:
        stack.insist_on(STACK)
    except BackendUnavailable:
        return _elsewhere(work)
    return work()


def started(work: Callable[[], object], name: str) -> threading.Thread:
    """A thread with a large stack that does this."""
    with _sizes:  # it is one setting for all threads that are started
        before = threading.stack_size(stack.THREAD)
        try:
            thread = threading.Thread(target=work, name=name, daemon=True)
            thread.start()
        finally:
            threading.stack_size(before)
    return thread


def _elsewhere(work: Callable[[], R]) -> R:
    done: Future[R] = Future()

    def perform() -> None:
        try:
            done.set_result(work())
        except BaseException as error:
            done.set_exception(error)

    started(perform, "hybrid-compute-sandbox")
    return done.result()


_sizes = threading.Lock()
