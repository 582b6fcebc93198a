"""Connections that break and servers that die: exactly the calls on them are lost, none runs twice, and it goes on."""

import asyncio
import logging
from collections.abc import Callable, Generator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from hybrid_compute.backends.local import LocalBackend
from hybrid_compute.backends.remote.backend import RemoteBackend
from hybrid_compute.backends.remote.keeper import Keeper
from hybrid_compute.backends.remote.upkeep import Upkeep
from hybrid_compute.calls import Call
from hybrid_compute.clock import ManualClock
from hybrid_compute.errors import (
    BackendClosed,
    BackendUnavailable,
    ConnectionLost,
    NoBackendAvailable,
    OutcomeUnknown,
    TaskTimeout,
)
from hybrid_compute.runtime import Runtime
from hybrid_compute.tasks import Task
from tests.backends import remoting
from tests.backends.remoting import QUICK, TASKS, Relay, program, relay, until
from tests.server.serving import Served, serving

SCHEMES = pytest.mark.parametrize("scheme", ["http", "ws"])


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Generator[Served]:
    keys = tmp_path_factory.mktemp("keys") / "keys.db"
    with serving(TASKS, patience=0.2, remember=keys) as running:  # little, for calls that outlive their clients
        yield running


def remote(scheme: str, port: int, **options: Any) -> RemoteBackend:
    return RemoteBackend(f"{scheme}://127.0.0.1:{port}", upkeep=QUICK, **options)


def lines(path: Path) -> list[str]:
    return path.read_text().split() if path.exists() else []


# A connection that breaks.


@SCHEMES
async def test_the_calls_on_a_line_that_breaks_are_lost(scheme: str, served: Served, tmp_path: Path) -> None:
    """All of them and nobody else's; each may have begun, so none is sent elsewhere or again."""
    async with relay(served.port) as line, relay(served.port) as other:
        places = [remote(scheme, line.port), remote(scheme, other.port, name="other"), LocalBackend()]
        async with Runtime(places) as rt:
            lost = [asyncio.create_task(_hold(rt, "remote", tmp_path, f"{number}")) for number in range(3)]
            kept = asyncio.create_task(_hold(rt, "other", tmp_path, "kept"))
            await until(lambda: len(lines(tmp_path / "log")) == 4)
            line.cut()
            for call in lost:
                with pytest.raises(ConnectionLost) as caught:
                    await call
                assert caught.value.started
                assert caught.value.backend == "remote"
                assert f"127.0.0.1:{line.port} broke" in str(caught.value)
            assert not kept.done()
            (tmp_path / "go").touch()
            assert await kept == "kept"
    assert sorted(lines(tmp_path / "log")) == ["0", "1", "2", "kept"]


async def _hold(rt: Runtime, place: str, folder: Path, name: str) -> str:
    return await rt.options(
        strategy=lambda task, backends: [each for each in backends if each.name in (place, "local")]
    ).run(remoting.note_and_hold, str(folder), name)


@SCHEMES
async def test_a_pure_call_that_was_lost_runs_elsewhere(scheme: str, served: Served, tmp_path: Path) -> None:
    """Running it twice is harmless, as it says."""
    pure = Task(remoting.note_and_hold.fn, name="note_and_hold", pure=True)
    async with relay(served.port) as line:
        async with Runtime([remote(scheme, line.port), LocalBackend()], strategy="in_order") as rt:
            call = asyncio.create_task(rt.run(pure, str(tmp_path), "x"))
            await until(lambda: len(lines(tmp_path / "log")) == 1)
            line.cut()
            await until(lambda: len(lines(tmp_path / "log")) == 2)
            (tmp_path / "go").touch()
            assert await call == "x"
            assert rt.stats()["note_and_hold"].keys() == {"remote", "local"}


async def test_a_socket_comes_back(served: Served) -> None:
    """After a cut it is opened again, without anybody doing anything."""
    async with relay(served.port) as line:
        async with Runtime([place := remote("ws", line.port)]) as rt:
            for _ in range(3):
                assert await rt.run(remoting.double, 21) == 42
                await line.cut_until_next()
                await until(lambda: place.can_run(remoting.double))
            assert await rt.run(remoting.double, 21) == 42


@SCHEMES
async def test_a_batch_that_is_lost_may_have_begun(scheme: str, served: Served, tmp_path: Path) -> None:
    """All of it: some of its calls may have run."""
    async with relay(served.port) as line:
        async with Runtime([remote(scheme, line.port), LocalBackend()], strategy="in_order") as rt:
            calls = [(str(tmp_path), f"{number}") for number in range(8)]
            call = asyncio.create_task(rt.starmap(remoting.note_and_hold, calls))
            await until((tmp_path / "log").exists)
            line.cut()
            with pytest.raises(ConnectionLost) as caught:
                await call
            assert caught.value.started


@SCHEMES
async def test_a_stream_that_is_lost_says_so_after_its_items(scheme: str, served: Served, tmp_path: Path) -> None:
    """What has come is given out first. It is not begun anew: its reader has seen a part of it."""
    async with relay(served.port) as line:
        async with Runtime([remote(scheme, line.port), LocalBackend()], strategy="in_order") as rt:
            seen: list[int] = []
            with pytest.raises(ConnectionLost):
                async with rt.stream(remoting.numbered, str(tmp_path)) as items:
                    async for item in items:
                        seen.append(item)
                        if item == 20:
                            line.cut()
            assert seen == list(range(len(seen)))
            assert len(seen) > 20
            await until((tmp_path / "stopped").exists)


async def test_a_line_that_only_looks_open_is_found_out(served: Served, tmp_path: Path) -> None:
    """Nothing arrives any more and nothing ends: the heartbeat tells."""
    upkeep = Upkeep(heartbeat=0.2, first_pause=0.01, longest_pause=0.05)
    async with relay(served.port) as line:
        async with Runtime([RemoteBackend(f"ws://127.0.0.1:{line.port}", upkeep=upkeep)]) as rt:
            call = asyncio.create_task(_hold(rt, "remote", tmp_path, "x"))
            await until((tmp_path / "log").exists)
            line.stall()
            with pytest.raises(ConnectionLost, match="it does not answer"):
                await call


# A line that is full.


@pytest.mark.parametrize("late", [False, True])
async def test_a_call_that_ends_while_the_line_is_full_ends_alone(late: bool, served: Served) -> None:
    """Cancelled, or because its time is up: the others are answered as soon as the server reads again."""
    values, clock = np.ones(1 << 20), ManualClock()
    async with relay(served.port) as line:
        async with Runtime([place := remote("ws", line.port)], clock=clock) as rt:
            assert await rt.run(remoting.double, 21) == 42
            opened: Any = await place._line()
            line.stall()
            ends = rt.options(timeout=5.0) if late else rt
            ending = asyncio.create_task(ends.run(remoting.total, values))
            others = [asyncio.create_task(rt.run(remoting.total, values)) for _ in range(4)]
            counted = asyncio.create_task(_all(rt, 20))
            await until(lambda: len(opened._waiting) == 5 and len(opened._streams) == 1)
            await until(lambda: opened._socket._writer.protocol.writing_paused)
            if late:
                clock.advance(5.0)
                with pytest.raises(TaskTimeout, match="5 s"):
                    await ending
            else:
                ending.cancel()
                with pytest.raises(asyncio.CancelledError):
                    await ending
            assert not any(each.done() for each in (*others, counted))
            line.go_on()
            assert await asyncio.gather(*others) == [float(len(values))] * 4
            assert await counted == list(range(20))
            assert await place._line() is opened


async def _all(rt: Runtime, upto: int) -> list[int]:
    async with rt.stream(remoting.numbers, upto) as items:
        return [item async for item in items]


async def test_a_call_that_is_cancelled_before_there_is_room_is_not_sent(served: Served, tmp_path: Path) -> None:
    """Nor is anything said of it: the server never hears of the call, the batch or the stream."""
    async with relay(served.port) as line:
        async with Runtime([place := remote("ws", line.port)]) as rt:
            opened: Any = await place._line()
            line.stall()
            kept = [asyncio.create_task(rt.run(remoting.total, np.ones(1 << 20))) for _ in range(3)]
            await until(lambda: len(opened._outgoing) == 2)
            folder = str(tmp_path)
            ending = [
                asyncio.create_task(rt.run(remoting.tell, folder, "alone")),
                asyncio.create_task(rt.starmap(remoting.tell, [(folder, "first"), (folder, "second")])),
                asyncio.create_task(_all(rt, 20)),
            ]
            await until(lambda: len(opened._outgoing) == 5)
            for each in ending:
                each.cancel()
            await asyncio.wait(ending)
            assert len(opened._outgoing) == 2
            line.go_on()
            assert await asyncio.gather(*kept) == [1 << 20] * 3
            assert await rt.run(remoting.double, 21) == 42
            assert not opened._unanswered
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("close", [False, True])
async def test_a_line_that_breaks_while_it_is_full_loses_the_calls_on_it(close: bool, served: Served) -> None:
    """None of them waits for ever; those whose frame still waited for its turn have not begun, and say so."""
    async with relay(served.port) as line:
        place = remote("ws", line.port)
        opened: Any = await place._line()
        line.stall()
        calls = [asyncio.create_task(place.run_call(Call(remoting.total, (np.ones(1 << 20),)))) for _ in range(4)]
        await until(lambda: len(opened._outgoing) == 3)
        if close:
            await place.aclose()
        else:
            line.cut()
        first, *others = await asyncio.gather(*calls, return_exceptions=True)
        await place.aclose()
    assert isinstance(first, BackendClosed if close else ConnectionLost)
    assert first.started
    for each in others:
        assert isinstance(each, BackendClosed if close else BackendUnavailable)
        assert not each.started


async def test_a_stream_whose_line_breaks_before_there_is_room_was_not_begun(served: Served) -> None:
    """So it may go elsewhere."""
    async with relay(served.port) as line:
        async with Runtime([place := remote("ws", line.port), LocalBackend()], strategy="in_order") as rt:
            opened: Any = await place._line()
            line.stall()
            call = asyncio.create_task(place.run_call(Call(remoting.total, (np.ones(1 << 20),))))
            await until(lambda: opened._sender is not None)
            streamed = asyncio.create_task(_all(rt, 20))
            await until(lambda: len(opened._outgoing) == 1)
            line.cut()
            with pytest.raises(ConnectionLost):
                await call
            assert await streamed == list(range(20))


@pytest.mark.parametrize("task", [remoting.double, remoting.numbers])
async def test_a_line_that_is_found_broken_by_a_call_ends_that_call(task: Task[..., Any], served: Served) -> None:
    """Nothing was written, and what has told all who waited has not told it: it must not wait for ever."""
    async with Runtime([place := remote("ws", served.port), LocalBackend()], strategy="in_order") as rt:
        opened: Any = await place._line()
        opened._socket._writer.transport.abort()
        with pytest.raises(BackendUnavailable) as caught:
            await place.run_call(Call(task, (21,)))
        assert not caught.value.started
        assert await rt.run(remoting.double, 21) == 42


# Keys.


@SCHEMES
async def test_a_call_with_a_key_is_sent_again_and_runs_once(scheme: str, served: Served, tmp_path: Path) -> None:
    """However often its connection breaks: the server knows it, and keeps its outcome."""
    async with relay(served.port) as line:
        async with Runtime([place := remote(scheme, line.port)]) as rt:
            assert place.remembers_keys
            call = asyncio.create_task(rt.options(key=f"{tmp_path}").run(remoting.note_and_hold, str(tmp_path), "x"))
            await until((tmp_path / "log").exists)
            for _ in range(3):
                await line.cut_until_next()
            (tmp_path / "go").touch()
            assert await call == "x"
    assert lines(tmp_path / "log") == ["x"]


@SCHEMES
async def test_a_call_with_a_key_waits_until_its_deadline(scheme: str, served: Served, tmp_path: Path) -> None:
    """For a server that does not come back. The time is that of the runtime's clock."""
    clock = ManualClock()
    async with relay(served.port) as line:
        async with Runtime([remote(scheme, line.port)], clock=clock) as rt:
            keyed = rt.options(key=f"{tmp_path}-deadline", timeout=3600.0)
            call = asyncio.create_task(keyed.run(remoting.note_and_hold, str(tmp_path), "x"))
            await until((tmp_path / "log").exists)
            await line.stop()
            await until(lambda: clock.waiting >= 2)
            clock.advance(3599.0)
            await asyncio.sleep(0)
            assert not call.done()
            clock.advance(1.0)
            with pytest.raises(TaskTimeout, match="3600 s"):
                await call


@SCHEMES
async def test_a_call_with_a_key_and_no_deadline_is_patient_for_so_long(
    scheme: str, served: Served, tmp_path: Path
) -> None:
    """Then it is lost like any other, and may have begun."""
    clock = ManualClock()
    async with relay(served.port) as line:
        async with Runtime([remote(scheme, line.port)], clock=clock) as rt:
            call = asyncio.create_task(
                rt.options(key=f"{tmp_path}-patience").run(remoting.note_and_hold, str(tmp_path), "x")
            )
            await until((tmp_path / "log").exists)
            await line.stop()
            while not call.done():
                clock.advance(1.0)
                await asyncio.sleep(0.001)
            with pytest.raises(ConnectionLost) as caught:
                await call
            assert caught.value.started
            assert clock.time() >= QUICK.patience


async def test_without_memory_at_the_server_a_key_is_no_help(served: Served, tmp_path: Path) -> None:
    """A call is sent again only where the server has said that it remembers."""
    async with relay(served.port) as line:
        async with Runtime([place := remote("ws", line.port)]) as rt:
            place.remembers_keys = False
            call = asyncio.create_task(
                rt.options(key=f"{tmp_path}-none").run(remoting.note_and_hold, str(tmp_path), "x")
            )
            await until((tmp_path / "log").exists)
            line.cut()
            with pytest.raises(ConnectionLost):
                await call


# Servers that die.


@SCHEMES
async def test_a_server_that_is_killed_is_found_again(scheme: str, tmp_path: Path) -> None:
    """What it was doing is lost; meanwhile calls go elsewhere; when it is back they go there."""
    with program() as first:
        async with Runtime([place := remote(scheme, first.port), LocalBackend()], strategy="in_order") as rt:
            there = await rt.run(remoting.process)
            call = asyncio.create_task(rt.run(remoting.note_and_hold, str(tmp_path), "x"))
            await until((tmp_path / "log").exists)
            first.kill()
            with pytest.raises(ConnectionLost):
                await call
            assert await rt.run(remoting.double_again, 21) == 42
            await until(lambda: "Connection refused; it is tried again in" in place.why_not(remoting.double))
            assert not place.can_run(remoting.double)
            assert await rt.run(remoting.double, 21) == 42
            with program(first.port):
                await until(lambda: place.can_run(remoting.double))
                assert await rt.run(remoting.process) != there
                assert rt.stats()["process"] == {"remote": rt.stats()["process"]["remote"]}


@SCHEMES
async def test_a_server_that_died_with_a_call_tells_what_it_knows(scheme: str, tmp_path: Path) -> None:
    """One with a notebook, asked again by key, knows that the call had begun: it is not run again."""
    notebook = str(tmp_path / "notebook")
    with program(remember=notebook) as first:
        async with Runtime([remote(scheme, first.port)]) as rt:
            call = asyncio.create_task(rt.options(key="k-1").run(remoting.note_and_hold, str(tmp_path), "x"))
            await until(lambda: lines(tmp_path / "log") == ["x"])
            first.kill()
            with program(first.port, notebook):
                with pytest.raises(OutcomeUnknown) as caught:
                    await call
                assert caught.value.started
    assert lines(tmp_path / "log") == ["x"]


@pytest.mark.parametrize("notebook", ["", "another"])
@SCHEMES
async def test_a_call_with_a_key_is_not_sent_to_a_server_that_knows_nothing_of_it(
    scheme: str, notebook: str, tmp_path: Path
) -> None:
    """What comes back at the same address may remember no keys, or others: to it the call would be new."""
    with program(remember=str(tmp_path / "notebook")) as first:
        async with Runtime([remote(scheme, first.port)]) as rt:
            call = asyncio.create_task(rt.options(key="k-1").run(remoting.note_and_hold, str(tmp_path), "x"))
            await until(lambda: lines(tmp_path / "log") == ["x"])
            first.kill()
            with program(first.port, notebook and str(tmp_path / notebook)):
                with pytest.raises(ConnectionLost) as caught:
                    await call
                assert caught.value.started
                assert await rt.run(remoting.double, 21) == 42
    assert lines(tmp_path / "log") == ["x"]


@SCHEMES
async def test_a_runtime_starts_while_the_server_is_away(scheme: str, served: Served) -> None:
    """Being offline is normal: the place says why it cannot run anything, and joins when it can."""
    line = Relay(served.port)
    await line.start()
    await line.stop()  # a port at which nobody is
    async with Runtime([place := remote(scheme, line.port), LocalBackend()], strategy="in_order") as rt:
        assert rt.explain(remoting.double, 1).order == ("local",)
        assert "Connection refused" in rt.explain(remoting.double, 1).refusals["remote"]
        assert await rt.run(remoting.double, 21) == 42
        with pytest.raises(NoBackendAvailable, match="tried again in"):
            await rt.options(strategy="remote").run(remoting.double, 21)
        with pytest.raises(BackendUnavailable, match="tried again in") as caught:
            await place.run_call(Call(remoting.double, (21,)))
        assert not caught.value.started
        await line.start()
        await until(lambda: place.can_run(remoting.double))
        assert await rt.options(strategy="remote").run(remoting.double, 21) == 42
    await line.stop()


@SCHEMES
async def test_a_first_call_to_a_server_that_is_away_goes_elsewhere(scheme: str) -> None:
    """Nothing was known of it before; nothing was sent."""
    place = remote(scheme, 1)
    with pytest.raises(BackendUnavailable, match="Connection refused") as caught:
        await place.run_call(Call(remoting.double, (21,)))
    assert not caught.value.started
    await place.aclose()


@SCHEMES
async def test_closing_ends_calls_that_wait_for_the_server(scheme: str, served: Served, tmp_path: Path) -> None:
    """A call that is to be sent again does not outlive its place."""
    async with relay(served.port) as line:
        rt = Runtime([remote(scheme, line.port)])
        await rt.start()
        call = asyncio.create_task(rt.options(key=f"{tmp_path}").run(remoting.note_and_hold, str(tmp_path), "x"))
        await until((tmp_path / "log").exists)
        await line.stop()
        await asyncio.sleep(0)
        await rt.aclose()
        with pytest.raises(BackendClosed):
            await call


async def test_closing_leaves_no_session_that_was_opened_meanwhile(served: Served) -> None:
    """The server is tried again in the very moment of closing."""
    clock = ManualClock()
    async with relay(served.port) as line:
        place = remote("http", line.port)
        place.clock = clock
        await place.start()
        await line.stop()
        with pytest.raises((ConnectionLost, BackendUnavailable)):
            await place.run_call(Call(remoting.double_again, (21,)))
        with pytest.raises((ConnectionLost, BackendUnavailable)):
            await place.run_call(Call(remoting.double_again, (21,)))
        await until(lambda: clock.waiting == 1)
        place._look_again()
        closing = asyncio.create_task(place.aclose())
        clock.advance(60.0)
        await closing
        assert place._session is None


async def test_closing_tells_all_who_wait_for_a_server() -> None:
    """A start that is still under way ends; so does waiting until it can be reached."""
    begun, ended = asyncio.Event(), asyncio.Event()

    async def be_silent(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        begun.set()
        await reader.read()
        writer.close()
        ended.set()

    async with await asyncio.start_server(be_silent, "127.0.0.1", 0) as silent:
        place = RemoteBackend(f"http://127.0.0.1:{silent.sockets[0].getsockname()[1]}")
        starting = asyncio.create_task(place.start())
        waiting = asyncio.create_task(place.reached())
        call = asyncio.create_task(place.run_call(Call(remoting.double, (21,))))
        await begun.wait()
        await place.aclose()
        await starting
        for each in (waiting, call):
            with pytest.raises(BackendClosed):
                await each
        assert place._keeper is None
        await ended.wait()


# The keeper.


class Opened:
    """A line that does nothing but break when told."""

    def __init__(self) -> None:
        self.lost: asyncio.Future[str] = asyncio.get_running_loop().create_future()
        self.closed = False

    async def aclose(self) -> None:
        self.closed = True


def opening(*outcomes: Callable[[], Any]) -> tuple[Callable[[], Any], list[Opened]]:
    """A way to open lines that goes as said, one after the other, and then always well."""
    todo, made = list(outcomes), list[Opened]()

    async def open() -> Any:
        if todo:
            todo.pop(0)()
        made.append(Opened())
        return made[-1]

    return open, made


def refuse() -> None:
    raise BackendUnavailable("nobody is there", backend="remote")


async def test_pauses_grow_while_a_server_is_away() -> None:
    """Each is at most twice as long as the one before, up to a limit; and no call waits for one."""
    clock = ManualClock()
    open, made = opening(*[refuse] * 6)
    keeper = Keeper(open, Upkeep(first_pause=1.0, longest_pause=4.0), clock, "remote")
    for most in (1.0, 2.0, 4.0, 4.0, 4.0, 4.0):
        await until(lambda: keeper.away is not None and clock.waiting == 1)
        with pytest.raises(BackendUnavailable, match="nobody is there; it is tried again in") as caught:
            await keeper.now()
        assert caught.value.backend == "remote"
        clock.advance(most)
        await until(lambda: clock.waiting == 1 or keeper.line is not None)
    assert await keeper.now() is made[0]  # type: ignore[comparison-overlap]
    await keeper.aclose()
    assert made[0].closed


async def test_an_error_that_nobody_expects_does_not_end_the_keeping(caplog: pytest.LogCaptureFixture) -> None:
    """It is logged, it is the reason why the server is away, and it is tried again."""
    clock = ManualClock()

    def stumble() -> None:
        raise ZeroDivisionError("a bug")

    open, made = opening(stumble)
    with caplog.at_level(logging.CRITICAL, "hybrid_compute"):
        keeper = Keeper(open, Upkeep(), clock, "remote")
        await keeper.settled()
    assert "ZeroDivisionError: a bug" in keeper.why
    await until(lambda: clock.waiting == 1)
    clock.advance(1.0)
    assert await keeper.again() is made[0]  # type: ignore[comparison-overlap]
    await keeper.aclose()


async def test_a_line_that_is_lost_is_closed_and_opened_again() -> None:
    """Who waits for it gets the new one."""
    clock = ManualClock()
    open, made = opening()
    keeper = Keeper(open, Upkeep(), clock, "remote")
    assert await keeper.again() is made[0]  # type: ignore[comparison-overlap]
    made[0].lost.set_result("a cut")
    await until(lambda: keeper.away == "a cut" and clock.waiting == 1)
    assert made[0].closed
    waiting = asyncio.create_task(keeper.again())
    clock.advance(1.0)
    assert await waiting is made[1]  # type: ignore[comparison-overlap]
    await keeper.aclose()


class ClosedSlowly(Opened):
    """A line that says goodbye to a server which does not answer; asked again, it just ends."""

    def __init__(self) -> None:
        super().__init__()
        self.closing = asyncio.Event()

    async def aclose(self) -> None:
        if not self.closing.is_set():
            self.closing.set()
            await asyncio.Event().wait()
        self.closed = True


async def test_a_lost_line_is_closed_to_the_end() -> None:
    """Also where the place is closed in the middle of that."""
    made = ClosedSlowly()

    async def open() -> Any:
        return made

    keeper = Keeper(open, Upkeep(), ManualClock(), "remote")
    await keeper.again()
    made.lost.set_result("a cut")
    await made.closing.wait()
    await keeper.aclose()
    assert made.closed
