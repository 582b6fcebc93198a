"""Putting calls and getting their results: what is accepted, what is refused, what a ticket says."""

import asyncio
import datetime
import os
import stat
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from hybrid_compute import LocalBackend, Outbox, Runtime, task
from hybrid_compute.errors import (
    BackendClosed,
    InvalidInput,
    NotTransferable,
    PolicyRefused,
    TaskFailed,
    TaskNotFound,
)
from hybrid_compute.outbox import store
from hybrid_compute.outbox.entries import Draft
from hybrid_compute.outbox.file import open_file
from tests.faults.watching import until
from tests.outbox.places import Far, comes_to, double, fail, order, secret


async def test_a_call_is_sent_and_its_result_fetched(tmp_path: Path) -> None:
    """What is put at a place that is there comes back at once."""
    async with Outbox(tmp_path / "calls.db", to=LocalBackend()) as outbox:
        ticket = await outbox.put(order, "tea", count=2)
        assert await ticket.result() == "2 tea"
        assert (await ticket.status()).state == "done"


async def test_it_sends_through_a_runtime_that_is_open(tmp_path: Path) -> None:
    """A runtime given is used and left open."""
    async with Runtime([LocalBackend()], tasks=[double]) as rt:
        async with Outbox(tmp_path / "calls.db", to=rt) as outbox:
            assert await (await outbox.put("double", 4)).result() == 8
        assert await rt.run(double, 4) == 8


async def test_a_result_may_be_fetched_again(tmp_path: Path) -> None:
    """Fetching does not use a result up: two readers, or one that was interrupted, get the same."""
    async with Outbox(tmp_path / "calls.db", to=LocalBackend()) as outbox:
        ticket = await outbox.put(double, 4)
        assert await asyncio.gather(ticket.result(), ticket.result()) == [8, 8]
        assert await ticket.result() == 8


async def test_a_result_outlives_the_program_until_it_is_fetched(tmp_path: Path) -> None:
    """A result that nobody has fetched is there after a restart, under its key."""
    async with Outbox(tmp_path / "calls.db", to=LocalBackend()) as outbox:
        await comes_to(await outbox.options(key="a").put(double, 4), "done")
    async with Outbox(tmp_path / "calls.db", to=Far(away=True), tasks=[double]) as outbox:
        ticket = await outbox.ticket("a")
        assert await ticket.result() == 8


async def test_a_fetched_result_goes_when_its_time_is_up(tmp_path: Path) -> None:
    """What was fetched stays for `keep` seconds, so that a crash right after it loses nothing; what was not, stays."""
    time = 1000.0
    async with Outbox(tmp_path / "calls.db", to=LocalBackend(), keep=60.0, now=lambda: time) as outbox:
        fetched, other = await outbox.put(double, 4), await outbox.put(double, 5)
        await fetched.result()
        time += 59.0
        assert await (await outbox.put(double, 6)).result() == 12
        assert await fetched.result() == 8
        time += 2.0
        assert await (await outbox.put(double, 7)).result() == 14
        with pytest.raises(LookupError, match="fetched long ago"):
            await fetched.result()
        assert await other.result() == 10


async def test_what_a_task_raises_is_its_outcome(tmp_path: Path) -> None:
    """A failed task is not tried again; its error arrives as it would have without an outbox, also after a restart."""
    async with Outbox(tmp_path / "calls.db", to=(far := Far())) as outbox:
        ticket = await outbox.options(key="a").put(fail, "odd")
        with pytest.raises(TaskFailed, match="ValueError: odd") as caught:
            await ticket.result()
        assert isinstance(caught.value.__cause__, ValueError)
        assert (await ticket.status()).state == "failed"
        assert far.ran == {"a": 1}
    async with Outbox(tmp_path / "calls.db", tasks=[fail]) as outbox:
        with pytest.raises(TaskFailed, match="ValueError: odd"):
            await (await outbox.ticket("a")).result()


ODD: list[tuple[Any, Any]] = [
    (bytes, b"\x00\xff"),
    (datetime.datetime, datetime.datetime(2024, 2, 29, 12, tzinfo=datetime.UTC)),
    (dict[str, list[int]], {"a": [1, 2]}),
    (Path, Path("/a/b")),
    (set[int], {1, 2}),
    (float | None, None),
    (float, float("inf")),
]


@pytest.mark.parametrize(("kind", "value"), ODD, ids=[str(kind) for kind, _ in ODD])
async def test_values_come_back_as_the_types_that_the_task_names(kind: Any, value: Any, tmp_path: Path) -> None:
    """Inputs and results are kept as MessagePack and read back by the task's type hints."""

    def echo(value: Any) -> Any:
        assert type(value) is type(expected)
        return value

    expected = value
    echo.__annotations__ = {"value": kind, "return": kind}
    async with Outbox(tmp_path / "calls.db", to=LocalBackend()) as outbox:
        result = await (await outbox.put(echo, value)).result()
        assert (result, type(result)) == (value, type(value))


async def test_arrays_are_kept(tmp_path: Path) -> None:
    """An array goes in and comes out as one."""
    np = pytest.importorskip("numpy")

    @task
    def scale(array: np.ndarray, by: float) -> np.ndarray:  # type: ignore[name-defined]
        return array * by

    scale.fn.__annotations__ = {"array": np.ndarray, "by": float, "return": np.ndarray}
    async with Outbox(tmp_path / "calls.db", to=LocalBackend()) as outbox:
        result = await (await outbox.put(scale, np.arange(100_000.0), 2.0)).result()
        assert (result == np.arange(100_000.0) * 2).all()


async def test_a_result_that_cannot_be_kept_is_a_failure(tmp_path: Path) -> None:
    """The call ran, so it is not sent again; the caller learns that its result has no form."""

    def make() -> object:
        return object()

    async with Outbox(tmp_path / "calls.db", to=(far := Far())) as outbox:
        with pytest.raises(NotTransferable):
            await (await outbox.put(make)).result()
        assert len(far.done) == 1


# Keys.


async def test_one_key_is_one_call(tmp_path: Path) -> None:
    """Who puts the same call twice under one key, also in the same moment, gets the same ticket, and it runs once."""
    async with Outbox(tmp_path / "calls.db", to=(far := Far())) as outbox:
        again = [
            await outbox.options(key="a").put(double, 4),
            *await asyncio.gather(*(outbox.options(key="a").put(double, 4) for _ in range(5))),
        ]
        assert [await ticket.result() for ticket in again] == [8] * 6
        assert far.ran == {"a": 1}
    async with Outbox(tmp_path / "calls.db", to=(far := Far())) as outbox:
        assert await (await outbox.options(key="a").put(double, 4)).result() == 8
        assert far.asked == []


@pytest.mark.parametrize(("other", "argument"), [(double, 5), (abs, 4)])
async def test_another_call_under_the_same_key_is_refused(other: Any, argument: int, tmp_path: Path) -> None:
    """A key that stands for one call cannot be given to another; the first one is as it was."""
    async with Outbox(tmp_path / "calls.db", to=Far(away=True)) as outbox:
        ticket = await outbox.options(key="a").put(double, 4)
        with pytest.raises(ValueError, match="the key 'a' stands for"):
            await outbox.options(key="a").put(other, argument)
        assert sum((await outbox.counts()).values()) == 1
        assert (await ticket.status()).task == "double"


async def test_a_call_without_a_key_gets_one_of_its_own(tmp_path: Path) -> None:
    """Two equal calls without a key are two calls, and the place is told their keys."""
    async with Outbox(tmp_path / "calls.db", to=(far := Far())) as outbox:
        first, second = await outbox.put(double, 4), await outbox.put(double, 4)
        await asyncio.gather(first.result(), second.result())
        assert far.ran == {first.key: 1, second.key: 1}


# What is refused, and changes nothing.


def generates() -> Any:
    yield 1


REFUSED: list[tuple[Any, tuple[Any, ...], type[Exception], str]] = [
    (double, ("four",), InvalidInput, "Expected `int`"),
    (double, (1, 2), InvalidInput, "does not take these arguments"),
    (double, (object(),), NotTransferable, "the input of task 'double' cannot be kept"),
    (double, (2**70,), NotTransferable, "the input of task 'double' cannot be kept"),
    (secret, (1,), PolicyRefused, "private"),
    (generates, (), TypeError, "a stream cannot wait"),
    ("nobody", (), TaskNotFound, "no task is named 'nobody'"),
    (4, (), TypeError, "a task or a function is needed"),
]


@pytest.mark.parametrize(("what", "args", "error", "text"), REFUSED, ids=map(str, range(len(REFUSED))))
async def test_what_could_never_be_sent_is_refused_at_once(
    what: Any, args: Any, error: type[Exception], text: str, tmp_path: Path
) -> None:
    """A mistake is told to whoever makes it, and not to a dead letter a week later; nothing is kept."""
    async with Outbox(tmp_path / "calls.db", to=Far()) as outbox:
        with pytest.raises(error, match=text):
            await outbox.put(what, *args)
        assert set((await outbox.counts()).values()) == {0}
        assert list(outbox._desk.tasks) in ([], ["double"])


async def test_a_private_task_is_kept_for_a_place_on_this_machine(tmp_path: Path) -> None:
    """Privacy is about leaving the machine, not about waiting."""
    async with Outbox(tmp_path / "calls.db", to=LocalBackend()) as outbox:
        assert await (await outbox.put(secret, 3)).result() == 3


@pytest.mark.parametrize(
    ("options", "text"),
    [({"key": ""}, "empty"), ({"expires": 0.0}, "positive"), ({"expires": -1.0}, "positive"), ({"tries": 0}, "never")],
)
def test_options_that_make_no_sense_are_refused(options: dict[str, Any], text: str, tmp_path: Path) -> None:
    """Whoever asks for the impossible hears of it where it is asked for."""
    with pytest.raises(ValueError, match=text):
        Outbox(tmp_path / "calls.db").options(**options)


@pytest.mark.parametrize("options", [{"order": "random"}, {"limit": 0}, {"synchronous": "OFF"}])
def test_an_outbox_that_makes_no_sense_is_refused(options: dict[str, Any], tmp_path: Path) -> None:
    """An unknown word is an error, never a silent default; nothing was opened."""
    with pytest.raises(ValueError, match=r"'random'|send none|'OFF'"):
        Outbox(tmp_path / "calls.db", **options)
    assert not (tmp_path / "calls.db").exists()


# A ticket.


async def test_a_ticket_says_how_it_stands(tmp_path: Path) -> None:
    """Somebody who waits can see why."""
    async with Outbox(tmp_path / "calls.db", to=Far(away=True), now=lambda: 1000.0) as outbox:
        ticket = await outbox.options(priority=3, expires=60.0, key="a").put(double, 4)
        status = await comes_to(ticket, "waiting", reason="connection")
        assert (status.state, status.priority, status.put, status.expires) == ("waiting", 3, 1000.0, 1060.0)
        assert (status.tries, status.code) == (0, "backend_unavailable")
        assert status.reason == "there is no connection to far"
        assert repr(ticket) == "<Ticket 'a' for 'double'>"


async def test_a_ticket_of_an_unknown_key_is_an_error(tmp_path: Path) -> None:
    """A key that was mistyped is not a call that waits for ever."""
    async with Outbox(tmp_path / "calls.db") as outbox:
        with pytest.raises(LookupError, match="no call of key 'b'"):
            await outbox.ticket("b")


async def test_who_waits_for_a_dropped_call_hears_of_it(tmp_path: Path) -> None:
    """Dropping a call answers whoever waits for it."""
    async with Outbox(tmp_path / "calls.db", to=Far(away=True)) as outbox:
        ticket = await outbox.put(double, 4)
        waiting = asyncio.create_task(ticket.result())
        await comes_to(ticket, "waiting", reason="connection")
        await ticket.drop()
        with pytest.raises(LookupError, match="dropped"):
            await waiting


async def test_cancelling_who_waits_leaves_the_call(tmp_path: Path) -> None:
    """An accepted call is accepted, whoever loses interest."""
    far = Far()
    far.gate = asyncio.Event()
    async with Outbox(tmp_path / "calls.db", to=far) as outbox:
        ticket = await outbox.put(double, 4)
        waiting = asyncio.create_task(ticket.result())
        await until(lambda: far.under_way)
        waiting.cancel()
        await asyncio.gather(waiting, return_exceptions=True)
        far.gate.set()
        assert await ticket.result() == 8


async def test_a_call_of_a_task_that_the_sender_does_not_know_says_so(tmp_path: Path) -> None:
    """It may be one that was renamed: the call waits for a program that knows it, and says why; others go on."""
    async with Outbox(tmp_path / "calls.db") as outbox:
        await outbox.options(key="a").put(double, 4)
        await outbox.options(key="b").put(order, "tea")
    async with Outbox(tmp_path / "calls.db", to=LocalBackend(), tasks=[order]) as outbox:
        assert await (await outbox.ticket("b")).result() == "1 tea"
        status = await (await outbox.ticket("a")).status()
        assert (status.state, status.code) == ("waiting", "task_not_found")
        assert "does not know its task" in status.reason
    async with Outbox(tmp_path / "calls.db", to=Far(away=True), tasks=[double]) as outbox:
        await comes_to(await outbox.ticket("a"), "waiting", reason="no connection")
    async with Outbox(tmp_path / "calls.db", to=LocalBackend(), tasks=[double]) as outbox:
        assert await (await outbox.ticket("a")).result() == 8


def test_what_is_known_again_says_so_no_longer(tmp_path: Path) -> None:
    """Also before it is sent."""
    with closing(open_file(tmp_path / "calls.db")) as db:
        for key in ("double", "order"):
            store.put(db, Draft(key, key, b""), 0.0)
        said = {}
        for known in ([], ["double"], ["double", "order"], ["order"]):
            store.note_unknown(db, known)
            said[tuple(known)] = {each.key for each in store.listed(db) if each.reason}
        assert said == {
            (): {"double", "order"},
            ("double",): {"order"},
            ("double", "order"): set(),
            ("order",): {"double"},
        }


async def test_a_result_of_a_task_that_nobody_here_knows_waits(tmp_path: Path) -> None:
    """Without the task there are no types to read its result by: the error says what to do, and the result stays."""
    async with Outbox(tmp_path / "calls.db", to=LocalBackend()) as outbox:
        await (await outbox.options(key="a").put(double, 4)).result()
    async with Outbox(tmp_path / "calls.db") as outbox:
        with pytest.raises(TaskNotFound, match=r"say tasks=\[\.\.\.\]"):
            await (await outbox.ticket("a")).result()


# The block.


async def test_closing_answers_who_waits_and_keeps_the_call(tmp_path: Path) -> None:
    """Nobody is left hanging, and nothing is lost."""
    async with Outbox(tmp_path / "calls.db", to=Far(away=True)) as outbox:
        ticket = await outbox.options(key="a").put(double, 4)
        waiting = asyncio.create_task(ticket.result())
        await until(lambda: outbox._desk._waiting)
    with pytest.raises(BackendClosed, match="is closed"):
        await waiting
    await outbox.aclose()
    async with Outbox(tmp_path / "calls.db", to=LocalBackend(), tasks=[double]) as outbox:
        assert await (await outbox.ticket("a")).result() == 8


async def test_an_outbox_that_is_not_open_says_so(tmp_path: Path) -> None:
    """Neither before the block nor after it, and not twice."""
    outbox = Outbox(tmp_path / "calls.db")
    with pytest.raises(BackendClosed, match="async with"):
        await outbox.put(double, 4)
    assert not (tmp_path / "calls.db").exists()
    async with outbox:
        pass
    with pytest.raises(BackendClosed, match="is closed"):
        await outbox.put(double, 4)
    with pytest.raises(BackendClosed, match="opened before"):
        await outbox.start()


async def test_the_place_is_opened_and_closed_with_the_outbox(tmp_path: Path) -> None:
    """A backend that is given belongs to the outbox."""
    far = Far()
    async with Outbox(tmp_path / "calls.db", to=far):
        assert not far.closed
    assert far.closed


async def test_only_its_owner_reads_the_file(tmp_path: Path) -> None:
    """What is in a call is nobody else's business."""
    async with Outbox(tmp_path / "calls.db") as outbox:
        await outbox.put(double, 4)
        modes = {stat.S_IMODE(os.stat(path).st_mode) for path in tmp_path.iterdir()}
        assert modes == {0o600}
