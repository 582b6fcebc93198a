"""Coroutines that begin where they are made: most are over before they wait for anything, and need nobody to watch.

begun = begin(receive())
if isinstance(begun, Waiting):
    begun = await with_patience(begun)
"""

from __future__ import annotations

from collections.abc import Coroutine, Generator
from typing import Any, Generic, TypeVar

T = TypeVar("T")


class Waiting(Generic[T]):
    """A coroutine that has begun, and waits for something. It goes on when this is awaited, which is done once."""

    __slots__ = ("_waits_for", "_work")

    def __init__(self, work: Coroutine[Any, Any, T], waits_for: Any) -> None:
        self._work = work
        self._waits_for = waits_for

    def __await__(self) -> Generator[Any, Any, T]:
        waits_for = self._waits_for
        try:
            while True:
                try:
                    sent = yield waits_for
                except BaseException as error:
                    waits_for = self._work.throw(error)
                else:
                    waits_for = self._work.send(sent)
        except StopIteration as done:
            return done.value  # type: ignore[no-any-return]


def begin(work: Coroutine[Any, Any, T]) -> T | Waiting[T]:
    """What it returns, if it does so without waiting for anything; else the rest of it. Raises what it raises."""
    try:
        return Waiting(work, work.send(None))
    except StopIteration as done:
        return done.value  # type: ignore[no-any-return]
