"""The crew: the workers of a pool, how they start, rest and leave. Which calls they have is the pool's business.

start ── sent something ──> at work ── all answered ──> rest ── idle for too long, or calls enough ──> retired
                               └──── died, or stopped by `dismiss` ────> gone
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

from hybrid_compute.clock import Clock, Timer
from hybrid_compute.errors import BackendUnavailable
from hybrid_compute.events import Hooks, WorkerStarted, WorkerStopped
from hybrid_compute.links.child import LISTENING, SET_UP
from hybrid_compute.links.link import BUSY, Link

MOST_FAILED_STARTS = 3
KILLED_AT_START = 0.1
"""How much of a failed start it is if a worker is killed from outside."""

LAST_CALL = 1 << 31
"""After so many calls a worker is replaced in any case: they are numbered in 32 bits."""

FAREWELL = 1.0
"""Seconds that workers have to leave by themselves when the pool is closed."""


@dataclass(frozen=True, slots=True)
class Lifetime:
    """How many workers stay, and for how long.

    `min_workers` are never stopped for idleness; others are after `idle_timeout` seconds (None: never). A worker is
    replaced after `max_calls` calls (None: never), against tasks that leak.
    """

    min_workers: int = 0
    idle_timeout: float | None = 60.0
    max_calls: int | None = None


class Nursery(Protocol):
    """What makes workers."""

    def start(self, number: int) -> Link: ...

    def close(self) -> None: ...

    def abandon(self) -> None: ...


class Crew:
    """The workers of one pool. `started` counts all there ever were, `lost` those that died or were killed.

    `received` gets what they reply. With `lazy_watch`, threads may lease those that rest, whom nobody else reads then.
    """

    def __init__(
        self,
        name: str,
        nursery: Nursery,
        *,
        clock: Clock,
        hooks: Hooks,
        lifetime: Lifetime,
        setup: bytes,
        received: Callable[[Link, bytes], None],
        lazy_watch: bool,
    ) -> None:
        self.links: dict[int, Link] = {}
        self.idle: deque[Link] = deque()
        self.started = 0
        self.lost = 0
        self.most_calls = lifetime.max_calls or LAST_CALL
        self._name = name
        self._nursery = nursery
        self._clock = clock
        self._hooks = hooks
        self._lifetime = lifetime
        self._setup = setup
        self._received = received
        self._lazy_watch = lazy_watch
        self._failed_starts = 0.0
        self._shrink_timer: Timer | None = None
        self._seen: dict[int, int] = {}
        self._all_gone: asyncio.Future[None] | None = None

    def start(self) -> Link:
        """A new worker; it gets ready while it is given work. Raises `BackendUnavailable`."""
        if self.starts_fail:
            self._failed_starts = 0  # the next call tries again
            raise self._unavailable(
                f"{MOST_FAILED_STARTS} workers in a row died before they answered; their last words are on stderr"
            )
        self.started += 1
        try:
            link = self._nursery.start(self.started)
        except BackendUnavailable:
            raise
        except Exception as error:
            raise self._unavailable(f"a worker could not be started: {type(error).__name__}: {error}") from error
        self.links[link.number] = link
        if self._setup:
            link.watch(self._received)
            link.send(self._setup)
        elif not self._lazy_watch:
            link.watch(self._received)
        if self._hooks:
            self._hooks.emit(WorkerStarted(self._name, link.number))
        return link

    def rest(self, link: Link) -> None:
        """The worker has nothing to do: stop it if it has served its time, else put it in line for work."""
        link.load = 0.0
        if link.last_call >= self.most_calls:
            self._retire(link, "it had served its number of calls")
            return
        if self._lazy_watch and link.watched:
            link.unwatch()
        self.idle.append(link)
        if self._shrink_timer is None and self._lifetime.idle_timeout is not None:
            self._arm_shrinking(self._lifetime.idle_timeout)

    def out_of_service(self, link: Link) -> None:
        """No more calls to this worker; what happens to those it has is decided when its death is certain."""
        if link.in_service:
            link.in_service = False
            link.load = BUSY
            try:
                self.idle.remove(link)
            except ValueError:  # at work, or leased in this very moment
                pass

    def dismiss(self, link: Link, why: str) -> None:
        """Stop it at once."""
        link.why_stopped = why
        self.out_of_service(link)
        link.kill()

    def gone(self, link: Link, code: int | None) -> bool:
        """The worker's process has ended: strike it off. Whether that was unexpected."""
        unexpected = link.in_service or not link.why_stopped
        self.out_of_service(link)
        link.close()
        del self.links[link.number]
        link.loans.forget()
        link.loans.arena.dismiss(link.number)
        if unexpected:
            link.why_stopped = "it died"
            self.lost += 1
            self._failed_starts += self._how_failed_at_start(link, code)
        if link.served:
            self._failed_starts = 0
        if self._hooks:
            self._hooks.emit(WorkerStopped(self._name, link.number, code, link.why_stopped))
        if self._all_gone is not None and not self.links and not self._all_gone.done():
            self._all_gone.set_result(None)
        return unexpected

    @property
    def in_service(self) -> int:
        """How many there are for further calls."""
        return sum(link.in_service for link in self.links.values())

    @property
    def starts_fail(self) -> bool:
        """Whether so many in a row died before they answered that one more would, too."""
        return self._failed_starts >= MOST_FAILED_STARTS and not any(link.served for link in self.links.values())

    def abandon(self) -> None:
        """In a forked copy of the process: let go of what belongs to the original."""
        self._nursery.abandon()

    async def aclose(self, why: str) -> None:
        """Stop every worker, and wait until they are gone."""
        if self._shrink_timer is not None:
            self._shrink_timer.cancel()
        self._all_gone = asyncio.get_running_loop().create_future()
        self.idle.clear()  # no thread leases what is being closed
        for link in list(self.links.values()):
            link.why_stopped = link.why_stopped or why
            link.in_service = False
            if link.sent or link.leased:
                link.kill()
            else:
                link.close()
        if self.links:
            await asyncio.wait([self._all_gone], timeout=FAREWELL)
        self.close()

    def close(self) -> None:
        """Stop at once whoever is left."""
        self._nursery.close()

    def _how_failed_at_start(self, link: Link, code: int | None) -> float:
        if link.stage >= (SET_UP if self._setup else LISTENING):
            return 0
        # Before it listens a worker runs nothing that could kill it so: somebody else did, and may do it often.
        return KILLED_AT_START if code == -9 and link.stage < LISTENING else 1

    def _retire(self, link: Link, why: str) -> None:
        """Let an idle worker leave by itself."""
        link.in_service = False
        link.why_stopped = why
        link.close()

    def _arm_shrinking(self, timeout: float) -> None:
        # Looked at once per timeout: a worker that has served nothing since the last look has been idle that long.
        self._seen = {link.number: link.served for link in tuple(self.idle)}  # threads change it meanwhile
        self._shrink_timer = self._clock.call_at(self._clock.time() + timeout, self._shrink)

    def _shrink(self) -> None:
        """Retire workers that have been idle for too long, down to the minimum."""
        self._shrink_timer = None
        spare = self.in_service - self._lifetime.min_workers
        unused = [link for link in tuple(self.idle) if self._seen.get(link.number) == link.served]
        for link in unused[: max(0, spare)]:
            try:
                self.idle.remove(link)
            except ValueError:  # leased in this very moment
                continue
            self._retire(link, "it was idle")
        assert self._lifetime.idle_timeout is not None
        if self.idle and self.in_service > self._lifetime.min_workers:
            self._arm_shrinking(self._lifetime.idle_timeout)

    def _unavailable(self, why: str) -> BackendUnavailable:
        return BackendUnavailable(why, backend=self._name)


def exit_text(code: int | None) -> str:
    """`-9` as `was killed by SIGKILL`."""
    import signal

    if code is None:
        return "is gone, and nobody could see how"
    if code >= 0:
        return f"exited with code {code}"
    try:
        return f"was killed by {signal.Signals(-code).name}"
    except ValueError:
        return f"was killed by signal {-code}"
