"""Sends what is kept, as soon as its place can be reached.

    look ──> claimed calls ──> the runtime ──> settled, or put back
      ^                                             │
      └── woken: put, ended, due, or changed by another program

One loop looks, and a task for each call that is under way sends it. What becomes of a call is decided in `deciding.py`
and written by `store.py`; here it is carried out.
"""

from __future__ import annotations

import asyncio
import logging
import random
from collections.abc import Awaitable, Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Final, Literal, NamedTuple, TypeAlias

from msgspec import Raw

from hybrid_compute.backends.base import Backend
from hybrid_compute.clock import Clock
from hybrid_compute.errors import BackendClosed, BackendError
from hybrid_compute.links import owners
from hybrid_compute.links.wire import MESSAGE_PACK
from hybrid_compute.links.writer import Job, Writer
from hybrid_compute.outbox import store
from hybrid_compute.outbox.deciding import AWAY, Backoff, Reach, judge, nobody_knows, orphaned
from hybrid_compute.outbox.entries import AT_ONCE, Again, Claimed, Outcome, Verdict
from hybrid_compute.outbox.store import Found, Orphan, Wish
from hybrid_compute.runtime import Runtime
from hybrid_compute.tasks import AnyTask, TaskRegistry

Order: TypeAlias = Literal["priority", "strict"]
"""`priority`: higher first, then as they were put, many at a time. `strict`: as they were put, one after the other."""

LEASE: Final = 30.0
"""Seconds after which others take over from a sender of which they cannot know whether it lives."""
MOURNING: Final = 2.0
"""Seconds between looks at whether other senders live."""
GLANCE: Final = 0.25
"""Seconds between glances at the file, to see whether another program has changed it."""

_log = logging.getLogger("hybrid_compute")


@dataclass(frozen=True, slots=True)
class Rules:
    """How a sender goes about it."""

    order: Order
    limit: int
    backoff: Backoff
    keep: float
    clock: Clock
    now: Callable[[], float]


class Sender:
    """Sends calls to `to`, perhaps beside other senders at the same file. Without a place it only lets calls expire.

    `ended` is told the keys of calls that have come to an end, or None when any may have.
    """

    def __init__(
        self,
        writer: Writer,
        to: Runtime | None,
        places: Sequence[Backend],
        tasks: TaskRegistry,
        rules: Rules,
        ended: Callable[[Iterable[str] | None], None],
    ) -> None:
        self._writer = writer
        self._to = to
        self._places = places
        self._tasks = tasks
        self._rules = rules
        self._ended = ended
        self._name = owners.new_name()
        self._reach = Reach(rules.backoff)
        self._under_way: dict[str, _Sending] = {}
        self._given_up: set[str] = set()
        self._ending: set[asyncio.Task[None]] = set()
        self._refused: dict[str, int] = {}  # how often in a row a place that is there had no room for a call
        self._stirred = asyncio.Event()
        self._called = False
        self._version = 0
        self._due: float | None = None  # when a call is due or expires, by the time of the day
        self._look_by: float | None = None
        self._latest = 0.0
        self._closing = False
        self._loop: asyncio.Task[None] | None = None

    async def start(self) -> None:
        """Begin to send. A new start is a new chance for what has to wait."""
        self._version = await self._writer.read(store.version)
        await self._writer.do(store.reopen)
        if self._to is not None:
            await self._writer.do(partial(store.note_unknown, tasks=tuple(self._tasks)))
        self._loop = asyncio.create_task(self._run(), name="hybrid-compute outbox")

    def wake(self) -> None:
        """There may be something to send."""
        self._called = True
        self._stirred.set()

    def give_up(self, key: str) -> None:
        """Forget a call that has not been sent, and stop it if it is under way here."""
        self._given_up.add(key)
        sending = self._under_way.pop(key, None)
        if sending is not None:
            sending.work.cancel()
            self._hold(sending.work)
        self._hold(asyncio.create_task(self._forget(key)))

    async def _forget(self, key: str) -> None:
        try:
            await self._writer.do(partial(store.withdraw, key=key, sender=self._name))
        except (OSError, BackendClosed) as error:
            _log.warning("the call of key %r was given up, and could not be forgotten: %s", key, error)
        self._given_up.discard(key)
        self._ended([key])
        self.wake()

    def _hold(self, work: asyncio.Task[None]) -> None:
        self._ending.add(work)
        work.add_done_callback(self._ending.discard)

    def may_repeat(self, task: AnyTask) -> bool:
        """Whether a call that may have begun may be sent again: running it twice is harmless, or cannot happen.

        Only the very place that has seen a key can know that it has.
        """
        return task.pure or (len(self._places) == 1 and self._places[0].remembers_keys)

    async def aclose(self, close_place: Callable[[], Awaitable[object]] | None = None) -> None:
        """Send no more, and settle what is under way. Calls that may not be sent again are waited for.

        The others are broken off by closing their place. Where that stays open they are waited for too, unless they can
        be cancelled: a place that remembers keys would remember that.
        """
        self._closing = True
        if self._loop is not None:
            self._loop.cancel()
            await asyncio.wait([self._loop])
        breakable = self._may_cancel if close_place is None else self.may_repeat
        under_way = list(self._under_way.values())
        try:
            await _end_of(each.work for each in under_way if not breakable(self._tasks[each.name]))
            if close_place is not None:
                await close_place()
            else:
                _cancel(under_way)
            await _end_of([*(each.work for each in under_way), *self._ending])
        finally:
            _cancel(under_way)
            await _end_of(each.work for each in under_way)
            # What was claimed and not yet begun can be put back; what is under way even now is for others to judge.
            self._writer.post(partial(store.leave, sender=self._name, begun=list(self._under_way)))

    def _may_cancel(self, task: AnyTask) -> bool:
        return task.pure and not any(place.remembers_keys for place in self._places)

    # The loop.

    async def _run(self) -> None:
        while True:
            self._called = False
            try:
                await self._look()
                await self._until_something_happens()
            except OSError as error:  # a full disk may have room later, a locked file be free
                _log.warning("the outbox waits: %s", error)
                await self._nap(self._rules.backoff.first)
            except Exception:
                _log.exception("the outbox has stumbled, and goes on")
                await self._nap(self._rules.backoff.first)

    async def _look(self) -> None:
        """Claim what there is room for, and send it."""
        now, probing, wish = self._now(), self._reach.failures > 0, self._wish()
        found = await self._writer.do(partial(store.look, wish=wish, now=now, alive=owners.alive))
        if probing and found.claimed:
            self._reach.probing(self._rules.clock.time(), random.random())
        for call in found.claimed:
            if call.key in self._given_up:  # while it was being claimed: it is forgotten in a moment
                continue
            task = self._tasks[call.task]
            self._under_way[call.key] = _Sending(task.name, asyncio.create_task(self._send(call, task, probe=probing)))
        self._due, self._look_by = found.due, self._next_look(wish, found)
        self._ended(found.expired)
        await self._adopt(found.orphans)

    def _now(self) -> float:
        """The time of the day. When it is put back, what was to wait until then must not wait for it to come again."""
        now = self._rules.now()
        if now < self._latest - 1.0:
            self._writer.post(store.reopen)
            self.wake()
        self._latest = now
        return now

    def _wish(self) -> Wish:
        rules, under_way = self._rules, len(self._under_way)
        room = self._reach.room(rules.clock.time(), under_way, self._limit)
        tasks = () if self._to is None else tuple(self._tasks)
        return Wish(self._name, tasks, room, under_way, rules.order == "strict", LEASE, rules.keep)

    @property
    def _limit(self) -> int:
        return 1 if self._rules.order == "strict" else self._rules.limit

    def _next_look(self, wish: Wish, found: Found) -> float | None:
        """When to look again though nothing has happened, by the clock."""
        now = self._rules.clock.time()
        times: list[float] = []
        nobody_to_go = wish.room > 0 and not found.claimed
        if self._reach.failures and not nobody_to_go and len(self._under_way) < self._limit:
            times.append(self._reach.opens)  # which may have come while the file was looked at
        if found.others or found.orphans:
            times.append(now + MOURNING)
        if self._under_way:  # our own lease wants to be renewed
            times.append(now + LEASE / 3)
        return min(times, default=None)

    def _left(self) -> float:
        """Seconds until it is time to look again, or to glance at the file."""
        call = GLANCE if self._due is None else self._due - self._now()
        look = GLANCE if self._look_by is None else self._look_by - self._rules.clock.time()
        return min(call, look, GLANCE)

    async def _until_something_happens(self) -> None:
        """Wait until somebody calls, something is due, or another program has changed the file."""
        while not self._called and (left := self._left()) > 0:
            await self._nap(left)
            version = await self._writer.read(store.version)
            if version != self._version:
                self._version = version
                self._ended(None)
                return

    async def _nap(self, seconds: float) -> None:
        clock = self._rules.clock
        self._stirred.clear()
        timer = clock.call_at(clock.time() + seconds, self._stirred.set)
        try:
            await self._stirred.wait()
        finally:
            timer.cancel()

    # One call.

    async def _send(self, call: Claimed, task: AnyTask, *, probe: bool) -> None:
        try:
            verdict = await self._verdict(call, task)
        except asyncio.CancelledError:
            if call.key in self._under_way:
                self._break_off(call, task)
            raise
        if self._closing and isinstance(verdict, Again):
            verdict = _BROKEN_OFF
        self._take_note(verdict, probe)
        await self._insist(self._job(call, verdict))
        del self._under_way[call.key]
        if isinstance(verdict, Outcome):
            self._refused.pop(call.key, None)
            self._ended([call.key])
        self.wake()

    async def _verdict(self, call: Claimed, task: AnyTask) -> Verdict:
        """Send the call; what becomes of it."""
        assert self._to is not None
        try:
            args, kwargs = MESSAGE_PACK.bind(task, Raw(call.input))
            result = await self._to.options(key=call.sent_as, priority=call.priority).run(task, *args, **kwargs)
            return Outcome("done", b"".join(MESSAGE_PACK.write_value(result)))
        except asyncio.CancelledError:
            if self._closing or call.key not in self._under_way:
                raise
            lost = BackendError(f"the call of {task.name!r} was cancelled at its place", started=True)
            return judge(lost, call, repeatable=self.may_repeat(task))
        except Exception as error:
            return judge(error, call, repeatable=self.may_repeat(task))

    def _take_note(self, verdict: Verdict, probe: bool) -> None:
        """Whether the place can be reached, after this."""
        if isinstance(verdict, Again) and verdict.away:
            self._reach.failed(self._rules.clock.time(), random.random(), probe=probe)
        elif self._reach.answered():
            self._writer.post(partial(store.reopen, codes=[kind.code for kind in AWAY]))

    def _job(self, call: Claimed, verdict: Verdict) -> Job[None]:
        """What is to be written."""
        now = self._rules.now()
        if isinstance(verdict, Outcome):
            return partial(store.settle, key=call.key, outcome=verdict, now=now)
        due = AT_ONCE if verdict is _BROKEN_OFF else now + self._pause(call, verdict)
        return partial(store.put_back, sender=self._name, key=call.key, due=due, why=verdict)

    def _pause(self, call: Claimed, verdict: Again) -> float:
        backoff = self._rules.backoff
        if verdict.away:  # longer than the place's own pause, so that the next to try is another call
            return 0.0 if self._rules.order == "strict" else 2 * backoff.pause(self._reach.failures, 1.0)
        if verdict.counts:
            return backoff.pause(call.tries, random.random())
        self._refused[call.key] = refused = self._refused.get(call.key, 0) + 1
        return backoff.pause(refused, random.random())

    async def _insist(self, job: Job[None]) -> None:
        """Write what became of a call, if need be when the disk has room again: it will not be sent twice for that."""
        while True:
            try:
                await self._writer.do(job)
                return
            except OSError as error:
                _log.warning("what became of a call cannot be written yet: %s", error)
                await self._rules.clock.sleep(self._rules.backoff.first)

    def _break_off(self, call: Claimed, task: AnyTask) -> None:
        """The outbox is being closed while the call is under way; nobody waits for what is written now."""
        verdict = _BROKEN_OFF if self.may_repeat(task) else nobody_knows("the program ended before the answer came")
        self._writer.post(self._job(call, verdict))
        del self._under_way[call.key]

    # Calls whose sender died.

    async def _adopt(self, orphans: Sequence[Orphan]) -> None:
        verdicts = [(orphan, verdict) for orphan in orphans if (verdict := self._verdict_on(orphan.call)) is not None]
        if verdicts:
            self._ended(await self._writer.do(partial(store.adopt, verdicts=verdicts, now=self._rules.now())))
            self.wake()

    def _verdict_on(self, call: Claimed) -> Verdict | None:
        """A place that is away has not said whether it remembers keys: until it does, nothing is lost by waiting."""
        task = self._tasks[call.task]
        repeatable = self.may_repeat(task)
        if not repeatable and not any(place.can_run(task) for place in self._places):
            return None
        return orphaned(call, repeatable=repeatable)


_BROKEN_OFF: Final = Again(False, False, None, "")


class _Sending(NamedTuple):
    name: str
    work: asyncio.Task[None]


def _cancel(under_way: Iterable[_Sending]) -> None:
    for each in under_way:
        each.work.cancel()


async def _end_of(work: Iterable[asyncio.Task[None]]) -> None:
    await asyncio.gather(*work, return_exceptions=True)
