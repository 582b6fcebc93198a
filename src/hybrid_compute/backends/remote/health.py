"""How a server is doing, from what was seen of it: pauses between tries, how far it is, whether it is worth asking.

Nothing here asks anybody, and no clock is read: times come in as arguments.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from typing import Literal, TypeAlias

Chance: TypeAlias = Callable[[], float]
"""A number from 0 to below 1, anew each time."""


def pause(tried: int, first: float, longest: float, chance: Chance = random.random) -> float:
    """Seconds before the next try, after so many that failed: at most twice as long each time, and then by chance.

    By chance altogether, from nothing on: many clients that have lost one server then do not come back together.
    """
    most: float = min(longest, first * 2.0 ** min(tried, 32))
    return most * chance()


def spread(seconds: float, chance: Chance = random.random) -> float:
    """The same, a fifth more or less: so that what many do now and then is not done by all at once."""
    return seconds * (0.8 + 0.4 * chance())


class Distance:
    """The seconds to a server and back, where the latest measurements count most."""

    __slots__ = ("count", "seconds")

    def __init__(self) -> None:
        self.count = 0
        self.seconds = 0.0

    def add(self, seconds: float) -> None:
        self.count += 1
        self.seconds += (seconds - self.seconds) * max(0.25, 1 / self.count)


State: TypeAlias = Literal["closed", "open", "half-open"]


class Circuit:
    """Whether to ask a server that has failed before: a circuit breaker.

    closed     it is asked. After `failures` in a row: open
    open       it is left alone for `rest` seconds. After that: half-open
    half-open  one may try. It went well: closed. It failed: open, for twice as long, up to `longest`

    Each call that goes there gets a token from `tries`, by which the one that may try is told from those that were on
    their way before.
    """

    def __init__(self, *, failures: int = 3, rest: float = 1.0, longest: float = 60.0) -> None:
        if failures < 1 or not rest > 0 or longest < rest:
            raise ValueError(f"no circuit opens after {failures} failures, for {rest} to {longest} seconds")
        self._failures = failures
        self._first = self._rest = rest
        self._longest = longest
        self._in_a_row = 0
        self._until: float | None = None
        self._trying: object | None = None

    def state(self, now: float) -> State:
        if self._until is None:
            return "closed"
        return "half-open" if now >= self._until else "open"

    def may_try(self, now: float) -> bool:
        """Whether a call may go there now."""
        state = self.state(now)
        return state == "closed" or (state == "half-open" and self._trying is None)

    def tries(self, now: float) -> object:
        """A call goes there now: in a circuit that is half open, it is the one. Its token."""
        token = object()
        if self.state(now) == "half-open" and self._trying is None:
            self._trying = token
        return token

    def worked(self) -> None:
        """A call was answered, whichever it was: somebody is there."""
        self._in_a_row, self._until, self._rest, self._trying = 0, None, self._first, None

    def failed(self, now: float, token: object) -> None:
        self._in_a_row += 1
        if token is self._trying:
            self._rest = min(self._longest, 2 * self._rest)
        elif self._until is not None or self._in_a_row < self._failures:
            return  # of a call that was on its way when the circuit opened; or one failure is none
        self._until, self._trying = now + self._rest, None

    def withdrawn(self, token: object) -> None:
        """A call that went there was given up: it has told nothing."""
        if token is self._trying:
            self._trying = None


def nearest(places: Sequence[tuple[Distance, Circuit]], now: float) -> list[int]:
    """The places that may be asked, the nearest first. Those not yet measured come before all, so that they are."""
    willing = [index for index, (_, circuit) in enumerate(places) if circuit.may_try(now)]
    return sorted(willing, key=lambda index: places[index][0].seconds)
