"""A moment in which actions are collected, to travel together."""

from __future__ import annotations

from asyncio import AbstractEventLoop, TimerHandle
from collections.abc import Callable
from typing import NamedTuple

from hybrid_compute.engine.answer import Answer
from hybrid_compute.engine.core import Outcome
from hybrid_compute.errors import HybridComputeError


class _Waiting(NamedTuple):
    packed: bytes
    answer: Answer


class Collected(NamedTuple):
    """Actions that are to travel in one message."""

    waiting: list[_Waiting]

    @property
    def packed(self) -> list[bytes]:
        return [each.packed for each in self.waiting]

    def settle(self, outcomes: list[Outcome]) -> None:
        """Give each its own."""
        for each, outcome in zip(self.waiting, outcomes, strict=True):
            each.answer.settle(outcome)

    def fail(self, error: HybridComputeError) -> None:
        """Give all the same."""
        for each in self.waiting:
            each.answer.fail(error)


class Window:
    """Collects actions for so many `seconds` from the first on, at most `limit` of them, and hands them to `send`."""

    def __init__(
        self, loop: AbstractEventLoop, seconds: float, limit: int, send: Callable[[Collected], object]
    ) -> None:
        self._loop = loop
        self._seconds = seconds
        self._limit = limit
        self._send = send
        self._waiting: list[_Waiting] = []
        self._timer: TimerHandle | None = None

    def add(self, packed: bytes, answer: Answer) -> None:
        self._waiting.append(_Waiting(packed, answer))
        if len(self._waiting) >= self._limit:
            self.close()
        elif self._timer is None:
            self._timer = self._loop.call_later(self._seconds, self.close)

    def close(self) -> None:
        """Hand over what there is, now."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        waiting, self._waiting = self._waiting, []
        if waiting:
            self._send(Collected(waiting))
