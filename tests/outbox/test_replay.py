"""What happens while the place is away, and when it is back. Time is turned by hand."""

import asyncio
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

from hybrid_compute import Outbox, Runtime
from hybrid_compute.clock import ManualClock
from hybrid_compute.errors import (
    BackendUnavailable,
    ConnectionLost,
    LimitExceeded,
    OutcomeUnknown,
    TaskTimeout,
    WorkerLost,
)
from hybrid_compute.outbox import store
from hybrid_compute.outbox.deciding import Backoff
from tests.faults.watching import until
from tests.outbox.places import Far, comes_to, double, order

STEADY = Backoff(first=1.0, most=8.0, jitter=0.0)


class Turned(Outbox):
    """An outbox whose time stands still until `clock` is advanced."""

    def __init__(self, path: Path, **options: Any) -> None:
        self.clock = ManualClock(1000.0)
        super().__init__(path / "calls.db", clock=self.clock, now=self.clock.time, backoff=STEADY, **options)

    async def settles(self) -> None:
        """Nothing is under way, and the sender waits for something to happen."""
        sender = self._desk.sender
        await until(lambda: not sender._under_way and not sender._called and self.clock.waiting)

    async def advance(self, seconds: float) -> None:
        await self.settles()
        self.clock.advance(seconds)
        await asyncio.sleep(0)
        await self.settles()


async def put_before(path: Path, *calls: tuple[Any, ...], priorities: dict[int, int] | None = None) -> None:
    """Calls that the file holds before anything is sent."""
    async with Outbox(path / "calls.db") as outbox:
        for task, *args in calls:
            await outbox.options(key=str(args[0]), priority=(priorities or {}).get(args[0], 0)).put(task, *args)


# Away, and back.


async def test_what_was_put_while_the_place_was_away_is_sent_when_it_is_back(tmp_path: Path) -> None:
    """No call is lost, and each runs once."""
    async with Turned(tmp_path, to=(far := Far(away=True))) as outbox:
        tickets = [await outbox.put(double, x) for x in range(100)]
        await outbox.settles()
        far.away = False
        await outbox.advance(8.0)
        assert await asyncio.gather(*(ticket.result() for ticket in tickets)) == [2 * x for x in range(100)]
        assert far.ran == {ticket.key: 1 for ticket in tickets}


async def test_the_time_to_try_again_may_come_while_the_file_is_looked_at(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A slow disk makes nobody miss it: the sender would wait for ever."""
    async with Turned(tmp_path, to=(far := Far(away=True))) as outbox:
        do = outbox._desk.writer.do

        async def slowly(job: Any) -> Any:
            found = await do(job)
            if job.func is store.look and not job.keywords["wish"].room:
                far.away = False
                outbox.clock.advance(8.0)
            return found

        monkeypatch.setattr(outbox._desk.writer, "do", slowly)
        assert await (await outbox.put(double, 2)).result() == 4


async def test_a_place_that_is_away_is_asked_by_one_call_at_a_time(tmp_path: Path) -> None:
    """However many wait, only one goes to see whether the place is back, and not the same one each time."""
    await put_before(tmp_path, *((double, x) for x in range(100)))
    async with Turned(tmp_path, to=(far := Far(away=True)), tasks=[double], limit=4) as outbox:
        await outbox.settles()
        assert len(far.asked) == 4
        for probes in range(1, 6):
            await outbox.advance(8.0)
            assert len(far.asked) == 4 + probes
        assert len({call.args for call in far.asked[4:]}) > 1
        far.away = False
        await outbox.advance(8.0)
        assert len(far.done) == 100


async def test_pauses_grow(tmp_path: Path) -> None:
    """A place that stays away is asked less and less often, up to a limit."""
    async with Turned(tmp_path, to=(far := Far(away=True))) as outbox:
        for x in range(10):
            await outbox.put(double, x)
        await outbox.settles()
        times: list[float] = []
        for _ in range(120):
            before = len(far.asked)
            await outbox.advance(0.25)
            times += [outbox.clock.time()] * (len(far.asked) - before)
        pauses = [b - a for a, b in pairwise(times)]
        assert pauses[:3] == [2.0, 4.0, 8.0]


async def test_being_away_uses_up_no_tries(tmp_path: Path) -> None:
    """A week offline is no fault of the call."""
    async with Turned(tmp_path, to=(far := Far(away=True))) as outbox:
        ticket = await outbox.options(tries=1).put(double, 4)
        for _ in range(20):
            await outbox.advance(20.0)
        assert len(far.asked) > 10
        assert (await ticket.status()).tries == 0
        far.away = False
        await outbox.advance(20.0)
        assert await ticket.result() == 8


async def test_a_long_probe_does_not_hold_the_others(tmp_path: Path) -> None:
    """When the place is back and the first call takes long, more calls go there after the usual pause."""
    await put_before(tmp_path, *((double, x) for x in range(3)))
    far = Far(away=True)
    async with Turned(tmp_path, to=far, tasks=[double]) as outbox:
        await outbox.settles()
        far.away, far.gate = False, asyncio.Event()
        for calls in (1, 2, 3):
            outbox.clock.advance(20.0)
            await until(lambda calls=calls: far.under_way == calls)  # type: ignore[misc]
        far.gate.set()
        await until(lambda: len(far.done) == 3)


async def test_a_clock_that_is_put_back_holds_nothing_up(tmp_path: Path) -> None:
    """A call that was to wait a second does not wait a day because the time of the day was wrong by one."""
    far, day = Far(), 86_400.0
    far.refuses = LimitExceeded("too many calls", backend="far")
    clock = ManualClock(1000.0)
    async with Outbox(tmp_path / "calls.db", to=far, clock=clock, now=lambda: clock.time() + day) as outbox:
        ticket = await outbox.put(double, 4)
        await comes_to(ticket, "waiting", reason="too many")
        far.refuses, day = None, 0.0
        await until(lambda: clock.waiting)
        clock.advance(0.25)
        await until(lambda: clock.waiting)
        clock.advance(0.25)
        assert await ticket.result() == 8


# Order.


async def test_higher_priority_goes_first_then_what_was_put_first(tmp_path: Path) -> None:
    """What matters most is sent first when the place is back."""
    await put_before(tmp_path, *((double, x) for x in range(6)), priorities={2: 1, 4: 2, 5: 2})
    async with Turned(tmp_path, to=(far := Far()), tasks=[double], limit=1):
        await until(lambda: len(far.done) == 6)
    assert far.inputs == [4, 5, 2, 0, 1, 3]


async def test_the_limit_is_kept(tmp_path: Path) -> None:
    """No more calls are under way than allowed, and as many as allowed."""
    await put_before(tmp_path, *((double, x) for x in range(20)))
    far = Far()
    far.gate = asyncio.Event()
    async with Turned(tmp_path, to=far, tasks=[double], limit=5):
        await until(lambda: far.under_way == 5)
        far.gate.set()
        await until(lambda: len(far.done) == 20)
    assert far.most_under_way == 5


async def test_strict_order_is_kept_through_failures(tmp_path: Path) -> None:
    """One after the other as they were put, whatever their priority, also when the place comes and goes."""
    await put_before(tmp_path, *((double, x) for x in range(12)), priorities={7: 9})
    far = Far()
    async with Turned(tmp_path, to=far, tasks=[double], order="strict") as outbox:
        for _ in range(4):
            far.away = not far.away
            far.loses_answers = 1
            await outbox.advance(30.0)
        far.away = False
        await outbox.advance(30.0)
        await until(lambda: len(set(far.inputs)) == 12)
    assert far.most_under_way == 1
    assert far.inputs == sorted(far.inputs)


async def test_strict_order_waits_for_a_call_that_must_wait(tmp_path: Path) -> None:
    """What comes after a call must not overtake it; a call that is given up lets the others by."""
    await put_before(tmp_path, (double, 1), (double, 2))
    far = Far()
    far.refuses = WorkerLost("it died", backend="far", started=True)
    async with Turned(tmp_path, to=far, tasks=[double], order="strict") as outbox:
        for tried in range(1, 10):
            await outbox.settles()
            assert [call.args for call in far.asked] == [(1,)] * tried
            await outbox.advance(8.0)
        await outbox.advance(8.0)
        assert {call.args for call in far.asked} == {(1,), (2,)}
        assert (await (await outbox.ticket("1")).status()).state == "dead"


# Giving up.


async def test_a_call_that_expires_is_not_sent_any_more(tmp_path: Path) -> None:
    """Its time was up before the place came back, and whoever waits is told."""
    async with Turned(tmp_path, to=(far := Far(away=True))) as outbox:
        ticket = await outbox.options(expires=10.0).put(order, "tea")
        waiting = asyncio.create_task(ticket.result())
        await outbox.advance(9.0)
        assert not waiting.done()
        await outbox.advance(1.0)
        with pytest.raises(TaskTimeout, match="could not be sent before it expired: there is no connection to far"):
            await waiting
        far.away = False
        await outbox.advance(100.0)
        assert far.done == []
        assert (await ticket.status()).state == "expired"


async def test_a_call_is_given_up_after_its_tries(tmp_path: Path) -> None:
    """A place that loses a call again and again gets it no more; the reason is kept with it."""
    far = Far()
    far.loses_answers = 9
    async with Turned(tmp_path, to=far) as outbox:
        ticket = await outbox.options(tries=3).put(double, 4)
        for _ in range(5):
            await outbox.advance(20.0)
        with pytest.raises(ConnectionLost, match=r"given up after 3 tries: the connection to far was lost") as caught:
            await ticket.result()
        assert caught.value.backend == "far"
        assert len(far.done) == 3
        assert [status.key for status in await outbox.calls("dead", "expired")] == [ticket.key]


async def test_a_call_that_may_have_been_done_is_not_sent_again(tmp_path: Path) -> None:
    """Its answer was lost, it is not pure, and the place remembers nothing: a person has to look."""
    far = Far()
    far.loses_answers = 1
    async with Turned(tmp_path, to=far) as outbox:
        ticket = await outbox.put(order, "tea")
        await outbox.advance(20.0)
        with pytest.raises(OutcomeUnknown, match="was lost; the call may have been done"):
            await ticket.result()
        assert len(far.done) == 1


async def test_a_place_that_remembers_keys_gets_it_again_and_runs_it_once(tmp_path: Path) -> None:
    """The key is the same each time, so the place knows the call."""
    far = Far(remembers=True)
    far.loses_answers = 3
    async with Turned(tmp_path, to=far) as outbox:
        ticket = await outbox.put(order, "tea")
        for _ in range(4):
            await outbox.advance(20.0)
        assert await ticket.result() == "1 tea"
        assert far.ran == {ticket.key: 1}
        assert {call.key for call in far.asked} == {ticket.key}
        assert len(far.asked) == 4


async def test_a_place_that_says_that_nobody_knows_is_believed(tmp_path: Path) -> None:
    """A server that died in the middle of a call says so for good: asking again would not help."""
    far = Far(remembers=True)
    far.refuses = OutcomeUnknown("it had begun when the server was killed", backend="far", started=True)
    async with Turned(tmp_path, to=far) as outbox:
        with pytest.raises(OutcomeUnknown, match="it had begun"):
            await (await outbox.put(order, "tea")).result()
        assert len(far.asked) == 1


async def test_a_full_place_is_asked_again_and_others_go_on(tmp_path: Path) -> None:
    """A call that finds no room waits longer each time and uses up no try; the place is not thought to be away."""
    far = Far()
    far.refuses = LimitExceeded("too many calls", backend="far")
    async with Turned(tmp_path, to=far) as outbox:
        ticket = await outbox.options(tries=1).put(double, 4)
        await outbox.settles()
        for seconds in (1.0, 2.0, 4.0):
            asked = len(far.asked)
            await outbox.advance(seconds - 0.25)
            assert len(far.asked) == asked
            await outbox.advance(0.5)
            assert len(far.asked) == asked + 1
        far.refuses = None
        assert await (await outbox.put(double, 5)).result() == 10
        await outbox.advance(20.0)
        assert await ticket.result() == 8


@pytest.mark.parametrize("wrapped", [False, True])
async def test_a_place_that_says_it_cannot_is_asked_all_the_same(wrapped: bool, tmp_path: Path) -> None:
    """A place may say so because it is away: that uses up no try, and the call is sent when it can."""

    class Unable(Far):
        def can_run(self, task: Any, /) -> bool:
            return not self.away

    far = Unable(away=True)
    async with Runtime([far]) as rt:
        async with Turned(tmp_path, to=rt if wrapped else far) as outbox:
            ticket = await outbox.options(tries=1).put(order, "tea")
            await outbox.advance(20.0)
            status = await ticket.status()
            assert (status.state, status.tries) == ("waiting", 0)
            far.away = False
            await outbox.advance(20.0)
            assert await ticket.result() == "1 tea"


async def test_a_place_with_a_bug_loses_no_call(tmp_path: Path) -> None:
    """What a place must not raise is kept as the reason, and the others go on."""
    far = Far()
    far.refuses = RuntimeError("oops")
    async with Turned(tmp_path, to=far) as outbox:
        ticket = await outbox.put(double, 4)
        status = await comes_to(ticket, "dead")
        assert status.reason == "the place failed in a way of its own: RuntimeError: oops"
        far.refuses = None
        assert await (await outbox.put(double, 5)).result() == 10


# Dead letters.


async def test_a_dead_letter_can_be_retried(tmp_path: Path) -> None:
    """Somebody has looked: it waits again, with all its tries, under the same key."""
    far = Far()
    far.refuses = WorkerLost("it died", backend="far", started=True)
    async with Turned(tmp_path, to=far) as outbox:
        ticket = await outbox.options(tries=1, key="a").put(double, 4)
        await comes_to(ticket, "dead")
        far.refuses = None
        assert await outbox.retry() == ["a"]
        assert await ticket.result() == 8
        assert {call.key for call in far.asked} == {"a"}


async def test_retrying_a_call_whose_outcome_is_unknown_runs_it_anew(tmp_path: Path) -> None:
    """The place that remembers its key would only say again that nobody knows, so it goes under another."""
    far = Far(remembers=True)
    far.refuses = OutcomeUnknown("it had begun", backend="far", started=True)
    async with Turned(tmp_path, to=far) as outbox:
        ticket = await outbox.options(key="a").put(order, "tea")
        await comes_to(ticket, "dead")
        far.refuses = None
        await outbox.retry("a")
        assert await ticket.result() == "1 tea"
        assert [call.key for call in far.asked] == ["a", "a/1"]


async def test_an_expired_call_can_be_retried(tmp_path: Path) -> None:
    """Better late than never is for a person to say; it does not expire again."""
    async with Turned(tmp_path, to=(far := Far(away=True))) as outbox:
        ticket = await outbox.options(expires=5.0, key="a").put(double, 4)
        await outbox.advance(10.0)
        await comes_to(ticket, "expired")
        far.away = False
        await outbox.retry("a")
        await outbox.advance(100.0)
        assert await ticket.result() == 8


async def test_what_was_not_given_up_cannot_be_retried_and_nothing_changes(tmp_path: Path) -> None:
    """One wrong key among good ones changes nothing at all."""
    async with Turned(tmp_path, to=(far := Far())) as outbox:
        far.refuses = RuntimeError("oops")
        await comes_to(await outbox.options(key="dead").put(double, 4), "dead")
        far.refuses = None
        await (await outbox.options(key="done").put(double, 4)).result()
        with pytest.raises(ValueError, match="'done' was not given up"):
            await outbox.retry("dead", "done")
        with pytest.raises(LookupError, match="no call of key 'nobody'"):
            await outbox.drop("dead", "nobody")
        assert (await outbox.counts())["dead"] == 1


async def test_a_call_that_is_under_way_cannot_be_dropped(tmp_path: Path) -> None:
    """What has been sent cannot be made unsent."""
    far = Far()
    far.gate = asyncio.Event()
    async with Turned(tmp_path, to=far) as outbox:
        ticket = await outbox.put(double, 4)
        await until(lambda: far.under_way)
        with pytest.raises(ValueError, match="cannot be dropped: it is sent"):
            await ticket.drop()
        far.gate.set()
        assert await ticket.result() == 8


async def test_dead_letters_can_be_dropped(tmp_path: Path) -> None:
    """All that were given up, and nothing else."""
    far = Far()
    far.refuses = RuntimeError("oops")
    async with Turned(tmp_path, to=far) as outbox:
        dead = await outbox.options(key="dead").put(double, 4)
        await comes_to(dead, "dead")
        far.refuses = BackendUnavailable("no connection", backend="far")
        await comes_to(await outbox.put(double, 5), "waiting", reason="no connection")
        assert await outbox.drop() == ["dead"]
        assert await outbox.counts() == {"waiting": 1, "sent": 0, "done": 0, "failed": 0, "dead": 0, "expired": 0}


# Closing while calls are under way.


async def test_closing_breaks_off_what_may_be_sent_again(tmp_path: Path) -> None:
    """A pure call goes back to wait for the next start; that uses up no try."""
    far = Far()
    far.gate = asyncio.Event()
    async with Turned(tmp_path, to=far) as outbox:
        await outbox.options(key="a").put(double, 4)
        await until(lambda: far.under_way)
    async with Outbox(tmp_path / "calls.db") as outbox:
        status = await (await outbox.ticket("a")).status()
        assert (status.state, status.tries) == ("waiting", 0)


async def test_closing_waits_for_what_may_not_be_sent_again(tmp_path: Path) -> None:
    """Breaking it off would leave nobody knowing whether it was done."""
    far = Far()
    far.gate = asyncio.Event()
    outbox = Turned(tmp_path, to=far)
    await outbox.start()
    await outbox.options(key="a").put(order, "tea")
    await until(lambda: far.under_way)
    closing = asyncio.create_task(outbox.aclose())
    await until(lambda: outbox._desk.sender._closing)
    await asyncio.sleep(0)
    assert not closing.done()
    far.gate.set()
    await closing
    async with Outbox(tmp_path / "calls.db", tasks=[order]) as again:
        assert await (await again.ticket("a")).result() == "1 tea"


async def test_who_cannot_wait_for_that_leaves_a_dead_letter(tmp_path: Path) -> None:
    """Closing that is cancelled ends at once, and what was under way is said to be unknown."""
    far = Far()
    far.gate = asyncio.Event()
    outbox = Turned(tmp_path, to=far)
    await outbox.start()
    await outbox.options(key="a").put(order, "tea")
    await until(lambda: far.under_way)
    closing = asyncio.create_task(outbox.aclose())
    await until(lambda: outbox._desk.sender._closing)
    await asyncio.sleep(0)
    closing.cancel()
    await asyncio.gather(closing, return_exceptions=True)
    async with Outbox(tmp_path / "calls.db", tasks=[order]) as again:
        with pytest.raises(OutcomeUnknown, match="the program ended before the answer came"):
            await (await again.ticket("a")).result()
