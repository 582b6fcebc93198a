"""Several programs at one file, and what becomes of a call whose program dies. Programs and deaths are real."""

import asyncio
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from hybrid_compute import Outbox, Runtime
from hybrid_compute.clock import ManualClock
from hybrid_compute.errors import OutcomeUnknown
from hybrid_compute.links import owners
from tests.faults.watching import until
from tests.outbox.places import Far, comes_to, double, order

HOLDING = """
import asyncio, sys
from hybrid_compute import Outbox
from tests.outbox.places import Far, double, order

class Holding(Far):
    async def run_call(self, call, /):
        print("under way", flush=True)
        await asyncio.get_running_loop().create_future()

async def main(path, name):
    async with Outbox(path, to=Holding()) as outbox:
        await outbox.options(key="held").put(*{"double": (double, 4), "order": (order, "4")}[name])
        await asyncio.get_running_loop().create_future()

asyncio.run(main(*sys.argv[1:]))
"""


@contextmanager
def holding(path: Path, task: str) -> Iterator[subprocess.Popen[str]]:
    """A program that has the call `held` under way, for ever."""
    command = [sys.executable, "-c", HOLDING, str(path), task]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as program:
        try:
            assert program.stdout is not None
            assert program.stdout.readline() == "under way\n"
            yield program
        finally:
            program.kill()


def die(program: "subprocess.Popen[str]") -> None:
    program.kill()
    program.wait()


async def test_what_a_living_program_has_under_way_is_left_to_it(tmp_path: Path) -> None:
    """However long it takes; other calls at the same file are sent meanwhile. When it dies, its call is taken over."""
    with holding(tmp_path / "calls.db", "double") as program:
        clock = ManualClock(2e9)
        async with Outbox(tmp_path / "calls.db", to=(far := Far()), clock=clock, now=clock.time) as outbox:
            for x in range(5):
                clock.advance(3600.0)
                assert await (await outbox.put(double, x)).result() == 2 * x
            held = await outbox.ticket("held")
            assert (await held.status()).state == "sent"
            die(program)
            await until(lambda: clock.waiting)
            clock.advance(2.0)
            assert await held.result() == 8
            assert far.ran["held"] == 1


async def test_what_a_dead_program_had_under_way_is_sent_again_if_it_is_pure(tmp_path: Path) -> None:
    """It may run a second time, which is harmless; the try is counted, in case it was the call that killed."""
    with holding(tmp_path / "calls.db", "double") as program:
        die(program)
    async with Outbox(tmp_path / "calls.db", to=Far(), tasks=[double]) as outbox:
        ticket = await outbox.ticket("held")
        assert await ticket.result() == 8
        assert (await ticket.status()).tries == 2


async def test_what_a_dead_program_had_under_way_is_not_sent_again_if_nobody_can_know(tmp_path: Path) -> None:
    """It may have been done, and would be done twice."""
    with holding(tmp_path / "calls.db", "order") as program:
        die(program)
    async with Outbox(tmp_path / "calls.db", to=(far := Far()), tasks=[order]) as outbox:
        with pytest.raises(OutcomeUnknown, match="the program that sent it died before the answer came"):
            await (await outbox.ticket("held")).result()
        assert far.asked == []


async def test_what_a_dead_program_had_under_way_goes_to_a_place_that_remembers_it(tmp_path: Path) -> None:
    """The place sees the same key again, and knows."""
    with holding(tmp_path / "calls.db", "order") as program:
        die(program)
    async with Outbox(tmp_path / "calls.db", to=(far := Far(remembers=True)), tasks=[order]) as outbox:
        assert await (await outbox.ticket("held")).result() == "1 4"
        assert [call.key for call in far.asked] == ["held"]


async def test_nobody_judges_before_the_place_has_said_whether_it_remembers(tmp_path: Path) -> None:
    """A server that is away when the program starts again may remember keys: the call waits until that is known."""

    class Shy(Far):
        def can_run(self, task: object, /) -> bool:
            return self.remembers_keys

    with holding(tmp_path / "calls.db", "order") as program:
        die(program)
    clock = ManualClock(2e9)
    async with Outbox(tmp_path / "calls.db", to=(far := Shy()), tasks=[order], clock=clock, now=clock.time) as outbox:
        ticket = await outbox.ticket("held")
        for _ in range(10):
            await until(lambda: clock.waiting)
            clock.advance(2.0)
            assert (await ticket.status()).state == "sent"
        far.remembers_keys = True
        await until(lambda: clock.waiting)
        clock.advance(2.0)
        assert await ticket.result() == "1 4"


async def test_a_call_of_a_task_that_is_not_known_here_waits_for_one_who_knows_it(tmp_path: Path) -> None:
    """A program sends what it knows, and leaves the rest to others."""
    async with Outbox(tmp_path / "calls.db") as outbox:
        await outbox.options(key="order").put(order, "tea")
        await outbox.options(key="double").put(double, 4)
    async with Outbox(tmp_path / "calls.db", to=Far(), tasks=[double]) as some:
        assert await (await some.ticket("double")).result() == 8
        assert (await (await some.ticket("order")).status()).state == "waiting"
        async with Outbox(tmp_path / "calls.db", to=Far(), tasks=[order]) as other:
            assert await (await other.ticket("order")).result() == "1 tea"


async def test_two_senders_share_the_work_and_no_call_is_sent_twice(tmp_path: Path) -> None:
    """Two at one file, each with a place of its own: each call goes to one of them."""
    async with Outbox(tmp_path / "calls.db", synchronous="NORMAL") as outbox:
        await asyncio.gather(*(outbox.options(key=str(x)).put(order, str(x)) for x in range(300)))
    one, two = Far(), Far()
    for far in (one, two):
        far.gate = asyncio.Event()
    async with (
        Outbox(tmp_path / "calls.db", to=one, tasks=[order], limit=4) as first,
        Outbox(tmp_path / "calls.db", to=two, tasks=[order], limit=4) as second,
    ):
        await until(lambda: one.under_way == two.under_way == 4)
        for far in (one, two):
            assert far.gate is not None
            far.gate.set()
        tickets = [await first.ticket(str(x)) for x in range(150)] + [
            await second.ticket(str(x)) for x in range(150, 300)
        ]
        assert await asyncio.gather(*(ticket.result() for ticket in tickets)) == [f"1 {x}" for x in range(300)]
    assert one.ran + two.ran == {str(x): 1 for x in range(300)}


async def test_through_a_runtime_of_two_places_nothing_is_sent_twice(tmp_path: Path) -> None:
    """That one place remembers a key does not help when the other is asked."""
    one, two = Far(remembers=True), Far(remembers=True)
    one.name, two.name = "one", "two"
    one.loses_answers = 1
    async with Runtime([one, two], strategy="in_order") as rt:
        async with Outbox(tmp_path / "calls.db", to=rt) as outbox:
            ticket = await outbox.put(order, "tea")
            await comes_to(ticket, "dead")
            with pytest.raises(OutcomeUnknown):
                await ticket.result()
    assert len(one.done) == 1
    assert two.done == []


# Who lives.

linux = pytest.mark.skipif(not Path("/proc/self/ns/pid").exists(), reason="elsewhere the lease alone decides")


@linux
def test_a_process_is_known_by_its_id_and_its_start() -> None:
    """Whoever has the id now is not whoever had it then."""
    with subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE) as other:
        here, _, _, *rest = owners.new_name().split(" ")
        started = owners._started(other.pid)
        name = " ".join([here, str(other.pid), started, *rest])
        assert owners.alive(name) is True
        assert owners.alive(name.replace(started, "1")) is False
        other.kill()
    assert owners.alive(name) is False


@linux
def test_where_nothing_can_be_known_the_lease_decides() -> None:
    """Of this process, of another container and of another system; but what ran before the machine started is dead."""
    mine = owners.new_name()
    here, rest = mine.split(" ", 1)
    assert owners.alive(mine) is None
    assert owners.alive(f"unknown {rest}") is None
    assert owners.alive(f"{here}0 {rest}") is None
    assert owners.alive(f"another-boot/{here.partition('/')[2]} {rest}") is False


def test_no_two_senders_have_one_name() -> None:
    """Not in one process, and not by chance."""
    assert len({owners.new_name() for _ in range(1000)}) == 1000
