"""How much a server takes on: sizes, counts and seconds."""

from __future__ import annotations

from dataclasses import dataclass

from hybrid_compute.clock import Clock
from hybrid_compute.server.refusals import Refused


@dataclass(frozen=True, slots=True)
class Limits:
    """What one server takes on. Sizes in bytes, times in seconds.

    What goes beyond is answered with `too_large` or `limit_exceeded`, and changes nothing.
    """

    body: int = 128 << 20
    """One request, or one frame of a WebSocket."""
    batch: int = 10_000
    """Calls in one request or frame."""
    calls: int = 10_000
    """Calls under way at once, of everybody."""
    per_socket: int = 1_000
    """Frames under way at once on one WebSocket. A batch is one of them: up to 256 of its calls run at a time."""
    onlookers: int = 16
    """Readers of `/events` at once, of each tenant."""
    patience: float = 30.0
    """For the body of a request to arrive, once it has begun."""
    longest: float | None = None
    """What any call may take, whatever its client asks for."""
    silence: float = 15.0
    """A stream with nothing to say gives a sign of life after so long."""

    def __post_init__(self) -> None:
        for name in self.__slots__:
            value = getattr(self, name)
            if value is not None and not value > 0:
                raise ValueError(f"the limit {name} must be positive, not {value!r}")


class Turnstile:
    """Lets calls in while there is room: so many at once, so many in a second.

    `rate` fills a bucket of `burst` calls, from which each call takes one.
    """

    def __init__(self, whose: str, clock: Clock, *, at_once: int | None, rate: float | None, burst: int | None) -> None:
        self.inside = 0
        self.turned_away = 0
        self._whose = whose
        self._clock = clock
        self._at_once = at_once
        self._rate = rate
        self._most = float(burst if burst is not None else max(1.0, rate or 1.0))
        self._left = self._most
        self._filled = clock.time()

    def enter(self) -> None:
        """Let one call in, which must `leave`. Raises `Refused` with the time when it pays to come again."""
        if self._at_once is not None and self.inside >= self._at_once:
            self.turned_away += 1
            raise Refused(
                "limit_exceeded", f"{self._whose} has {self.inside} calls under way, which is the limit", retry_after=1
            )
        if self._rate is not None:
            self._take(self._rate)
        self.inside += 1

    def leave(self) -> None:
        self.inside -= 1

    @property
    def room(self) -> int | None:
        """How many calls could come in at once; None where nobody counts."""
        return None if self._at_once is None else max(0, self._at_once - self.inside)

    def _take(self, rate: float) -> None:
        now = self._clock.time()
        self._left = min(self._most, self._left + (now - self._filled) * rate)
        self._filled = now
        if self._left < 1:
            wait = (1 - self._left) / rate
            self.turned_away += 1
            raise Refused(
                "limit_exceeded", f"{self._whose} may begin {rate:g} calls in a second, not more", retry_after=wait
            )
        self._left -= 1
