"""The place that runs guests: where a call runs, how it is stopped, and that no guest harms another's call."""

import asyncio
import sys
import threading
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest

from hybrid_compute import LocalBackend, Runtime, WasmBackend, task
from hybrid_compute.calls import Call
from hybrid_compute.clock import ManualClock
from hybrid_compute.errors import (
    BackendClosed,
    InvalidInput,
    LimitExceeded,
    NoBackendAvailable,
    NotPermitted,
    TaskFailed,
    TaskTimeout,
)
from hybrid_compute.wasm import Limits, Trap, WasmModule
from hybrid_compute.wasm.watch import watch
from tests.faults.watching import until
from tests.wasm.guests import bad, good
from tests.wasm.outside import ran

GOOD, BAD = good(), bad()
add, sum_to = GOOD.task("add"), GOOD.task("sum_to")
spin = BAD.task("spin", limits=Limits(time=None))
PLACES = WasmModule.from_wat("""
(module (import "host" "where" (func $where (result i64)))
  (func (export "where") (result i64) (call $where)))
""")


def where() -> int:
    """The thread that calls."""
    return threading.get_ident()


WHERE = PLACES.task("where", grants={"where": where}, pure=True)


@asynccontextmanager
async def opened(threads: int = 2) -> AsyncIterator[WasmBackend]:
    backend = WasmBackend(threads=threads)
    async with asyncio.timeout(30):
        await backend.start()
        try:
            yield backend
        finally:
            await backend.aclose()


# Which tasks, and where.


async def test_it_takes_what_was_made_for_it() -> None:
    """And is asked first for it; for the rest it says why not."""

    @task
    def double(x: int) -> int:
        return 2 * x

    async with Runtime([LocalBackend(), WasmBackend()]) as runtime:
        assert await runtime.run(add, 1, 2) == 3
        assert await runtime.run(double, 2) == 4
        assert "add: runs at wasm" in str(runtime.explain(add, 1, 2))
        with pytest.raises(NoBackendAvailable, match="it runs only tasks of WASM modules"):
            await runtime.options(strategy="wasm").run(double, 2)


async def test_a_sandboxed_task_is_contained_at_any_place() -> None:
    """The sandbox is in the task; the place only runs it."""
    async with Runtime([LocalBackend()]) as runtime:
        assert await runtime.run(add, 1, 2) == 3
        with pytest.raises(TaskFailed, match="gives up") as caught:
            await runtime.run(BAD.task("give_up"))
        assert isinstance(caught.value.__cause__, Trap)


async def test_it_runs_in_threads() -> None:
    """Not in the event loop, unless a task is known to be short and harmless."""
    async with opened() as backend:
        threads = {await backend.run_call(Call(WHERE)) for _ in range(50)}
        assert threading.get_ident() not in threads
        assert len(threads) <= 3


async def test_short_calls_run_in_the_event_loop_until_one_is_not_short(monkeypatch: pytest.MonkeyPatch) -> None:
    """It is stopped after two milliseconds and begun anew in a thread; its task is never trusted again."""
    monkeypatch.setattr("hybrid_compute.backends.wasm.SHORT", 10.0)
    async with opened() as backend:
        seen = backend._seen[sum_to]
        for _ in range(20):
            assert await backend.run_call(Call(sum_to, (10,))) == 55
        assert seen.is_short
        call = Call(sum_to, (100_000_000,))
        assert await backend.run_call(call) == 5_000_000_050_000_000
        assert not seen.is_short
        assert not seen.trusted
        for _ in range(20):
            await backend.run_call(Call(sum_to, (10,)))
        assert not seen.is_short


async def test_what_reaches_out_of_its_sandbox_never_runs_in_the_loop(monkeypatch: pytest.MonkeyPatch) -> None:
    """It could not be begun anew."""
    monkeypatch.setattr("hybrid_compute.backends.wasm.SHORT", 10.0)
    count = GOOD.task("count", reuse=True)
    async with opened() as backend:
        for _ in range(30):
            await backend.run_call(Call(WHERE))
            await backend.run_call(Call(count))
        assert not backend._seen[WHERE].is_short
        assert not backend._seen[count].is_short


async def test_state_is_kept_by_each_thread() -> None:
    count = GOOD.task("count", reuse=True)
    async with opened(threads=1) as backend:
        assert [await backend.run_call(Call(count)) for _ in range(3)] == [1, 2, 3]


async def test_a_batch_is_run_in_pieces() -> None:
    """In order, the first failure raised, and each call within limits of its own."""
    async with opened() as backend:
        inputs = [(number, 1) for number in range(1000)]
        assert await backend.run_batch(Call(add), inputs, None) == list(range(1, 1001))
        assert await backend.run_batch(Call(add), inputs, 1) == list(range(1, 1001))
        assert await backend.run_batch(Call(add), [], None) == []
        with pytest.raises(InvalidInput, match="not 'two'"):
            await backend.run_batch(Call(add), [(1, 1)] * 100 + [("two", 1)] + [(1, 1)] * 100, None)
        turn = GOOD.task("sum_to", limits=Limits(fuel=100_000))
        assert await backend.run_batch(Call(turn), [(1000,)] * 300, None) == [500500] * 300


# What goes wrong.


async def test_a_trap_is_a_failure_of_the_task() -> None:
    """With its code, and the calls of the guest in the traceback."""
    async with opened() as backend:
        with pytest.raises(TaskFailed, match=r"task 'divide' raised Trap: .* \(INTEGER_DIVISION_BY_ZERO\)") as caught:
            await backend.run_call(Call(BAD.task("divide"), (1, 0)))
        assert isinstance(caught.value.__cause__, Trap)
        assert caught.value.__cause__.code == "INTEGER_DIVISION_BY_ZERO"
        assert "in the guest, innermost call first:" in caught.value.remote_traceback


async def test_a_limit_is_a_failure_of_the_place() -> None:
    """Which has begun the call, and so it is not run elsewhere, unless it is pure."""
    async with opened() as backend:
        backend.name = "cell"
        with pytest.raises(LimitExceeded, match="its limit of fuel is 100 units") as caught:
            await backend.run_call(Call(BAD.task("spin", limits=Limits(fuel=100))))
        assert (caught.value.backend, caught.value.started) == ("cell", True)


async def test_what_a_granted_function_raises_is_a_failure_of_the_task() -> None:
    def angry() -> int:
        raise KeyError("not there")

    def strict() -> int:
        raise NotPermitted("not today")

    async with opened() as backend:
        with pytest.raises(TaskFailed, match="KeyError: 'not there'"):
            await backend.run_call(Call(PLACES.task("where", grants={"where": angry})))
        with pytest.raises(NotPermitted, match="not today"):
            await backend.run_call(Call(PLACES.task("where", grants={"where": strict})))


@pytest.mark.skipif(sys.platform == "win32", reason="the size of a stack is not looked up there")
@pytest.mark.parametrize("busy", [False, True], ids=["its threads", "the one for quick calls"])
def test_its_threads_have_room_for_the_largest_guest(busy: bool) -> None:
    """In a program of its own, where no thread gets the larger stack of another that has ended."""
    assert ran(f"""
        import asyncio
        from hybrid_compute import WasmBackend
        from hybrid_compute.calls import Call
        from hybrid_compute.errors import LimitExceeded
        from hybrid_compute.wasm import stack
        from hybrid_compute.wasm.watch import watch

        module = WasmModule.from_wat('''
            (module (import "host" "size" (func $size (result i64))) (func (export "size") (result i64) (call $size))
              (func $deeper (export "deep") (call $deeper)) (func (export "spin") (loop (br 0))))''')

        def size() -> int:
            return stack.here.stack.size

        def made(name, **limits):
            return Call(module.task(name, grants={{"size": size}}, limits=Limits(**limits)))

        async def main():
            backend = WasmBackend(threads=1)
            await backend.start()
            spinning = asyncio.ensure_future(backend.run_call(made("spin", time=None))) if {busy} else None
            while {busy} and not watch.running:
                await asyncio.sleep(0)
            print(await backend.run_call(made("size")) >= 8 << 20)
            try: await backend.run_call(made("deep", stack=4 << 20))
            except LimitExceeded as error: print(error)
            await backend.aclose()
            if spinning:
                await asyncio.wait([spinning])
                spinning.exception()

        asyncio.run(main())
    """) == (
        "True\ndeep nested its calls more deeply: its limit of stack is 4 MiB (Limits.stack)\n",
        "",
        0,
    )


# How it is stopped.


async def running(backend: WasmBackend, **limits: Any) -> asyncio.Task[Any]:
    """A call that runs without end, and is under way."""
    call = Call(spin)
    if limits:
        call.timeout, call.deadline = limits["timeout"], backend.clock.time() + limits["timeout"]
    under_way = asyncio.ensure_future(backend.run_call(call))
    await until(lambda: watch.running)
    return under_way


async def test_cancelling_a_call_stops_its_guest() -> None:
    async with opened() as backend:
        call = await running(backend)
        call.cancel()
        with pytest.raises(asyncio.CancelledError):
            await call
        await until(lambda: not watch.running)
        assert await backend.run_call(Call(add, (1, 2))) == 3


async def test_a_call_beyond_its_deadline_is_stopped() -> None:
    """By the clock of the place."""
    async with opened() as backend:
        backend.clock = clock = ManualClock()
        call = await running(backend, timeout=3600.0)
        clock.advance(3599.0)
        await asyncio.sleep(0)
        assert not call.done()
        clock.advance(1.0)
        with pytest.raises(TaskTimeout, match="was not done after 3600 s"):
            await call
        await until(lambda: not watch.running)


async def test_closing_stops_what_runs_and_what_waits() -> None:
    async with opened(threads=1) as backend:
        calls = [await running(backend), *(asyncio.ensure_future(backend.run_call(Call(spin))) for _ in range(20))]
        await asyncio.sleep(0)
        await backend.aclose()
        for outcome in await asyncio.gather(*calls, return_exceptions=True):
            assert isinstance(outcome, BackendClosed)
        await until(lambda: not watch.running)


async def test_what_is_cancelled_while_it_waits_never_begins() -> None:
    begun: list[int] = []

    def where() -> int:
        begun.append(1)
        return 0

    async with opened(threads=1) as backend:
        holding = await running(backend)
        ask = PLACES.task("where", grants={"where": where})
        backend._seen[ask].begun = 1  # not its first call: it waits like any other
        waiting = asyncio.ensure_future(backend.run_call(Call(ask)))
        await asyncio.sleep(0)
        waiting.cancel()
        holding.cancel()
        await asyncio.gather(waiting, holding, return_exceptions=True)
        assert await backend.run_call(Call(add, (1, 2))) == 3
        assert begun == []


async def test_what_is_quick_does_not_wait_behind_what_is_not() -> None:
    """All threads are taken by guests that run without end, and more of them wait."""
    async with opened(threads=2) as backend:
        assert await backend.run_call(Call(add, (1, 2))) == 3
        hogs = [asyncio.ensure_future(backend.run_call(Call(spin))) for _ in range(10)]
        await until(lambda: len(watch.running) >= 2)
        seen = backend._seen[add]
        seen.trusted = False  # not in the event loop
        for _ in range(20):
            seen.calls, seen.mean = 1, 0.0  # on a machine that is busy it may have taken long: then it would wait
            assert seen.is_quick
            assert await backend.run_call(Call(add, (1, 2))) == 3
        for hog in hogs:
            hog.cancel()
        await asyncio.gather(*hogs, return_exceptions=True)


async def test_what_it_took_to_compile_is_not_held_against_a_task() -> None:
    """The first call says nothing of how long the others take; nothing is known after it, as before."""
    async with opened() as backend:
        twice = GOOD.task("add")
        seen = backend._seen[twice]
        assert await backend.run_call(Call(twice, (1, 2))) == 3
        assert (seen.calls, seen.mean, seen.begun, seen.is_quick) == (0, 0.0, 0, True)
        assert await backend.run_call(Call(twice, (1, 2))) == 3
        assert (seen.calls, seen.begun) == (1, 1)
        seen.mean = 1.0
        assert not seen.is_quick


# Hostile and good ones, mixed.


async def test_no_good_call_is_lost_among_hostile_ones() -> None:
    """Each gets its own outcome, and no thread, memory or guest is left over."""
    limits = Limits(time=0.005, memory=1 << 20)
    hostile = [BAD.task(name, limits=limits) for name in ("spin", "recurse", "give_up", "hoard", "far", "beyond_table")]

    def lie() -> str: ...

    hostile.append(BAD.task(export="endless")(lie))
    before = set(threading.enumerate())
    async with opened(threads=3) as backend:
        calls = []
        for number in range(300):
            calls.append(backend.run_call(Call(add, (number, 1))))
            calls.append(backend.run_call(Call(hostile[number % len(hostile)])))
        outcomes = await asyncio.gather(*calls, return_exceptions=True)
        assert outcomes[::2] == list(range(1, 301))
        assert {type(each) for each in outcomes[1::2]} == {LimitExceeded, TaskFailed}
        assert not watch.running
        made = [thread.name for thread in threading.enumerate() if thread not in before]
        assert len(made) <= 3 + 1 + 1, "three threads, one for the quick, and the watch"
        assert all(name.startswith("hybrid-compute-wasm") for name in made)


async def test_it_says_what_is_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without wasmtime it does not start, and tells what to install."""
    monkeypatch.setitem(__import__("sys").modules, "wasmtime", None)
    with pytest.raises(Exception, match=r"pip install 'hybrid-compute\[wasm\]'"):
        await WasmBackend().start()
    with pytest.raises(ValueError, match="threads must be at least 1, not 0"):
        WasmBackend(threads=0)


async def test_a_thread_that_could_not_be_started_is_not_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    """The call fails, and the next one starts it."""
    async with opened(threads=1) as backend:

        def no_more(self: threading.Thread) -> None:
            raise RuntimeError("can't start new thread")

        with monkeypatch.context() as patched, pytest.raises(RuntimeError):
            patched.setattr(threading.Thread, "start", no_more)
            await backend.run_call(Call(GOOD.task("add"), (1, 2)))
        assert await backend.run_call(Call(GOOD.task("add"), (1, 2))) == 3


SAID = WasmModule.from_wat("""
(module
  (memory (export "memory") 160)
  (func (export "alloc") (param i32) (result i32) (i32.const 1024))
  (func (export "said") (param i32 i32) (result i64)
    (i64.or (i64.shl (i64.extend_i32_u (local.get 0)) (i64.const 32)) (i64.extend_i32_u (local.get 1)))))
""")


def said(text: str) -> str: ...  # type: ignore[empty-body]  # the module has the body


async def test_a_call_with_long_arguments_is_not_trusted_again() -> None:
    """To hand them over takes time in the event loop that no leash ends: once."""
    async with opened() as backend:
        echo = SAID.task(said)
        seen = backend._seen[echo]
        for _ in range(20):
            assert await backend.run_call(Call(echo, ("short",))) == "short"
        seen.mean = 0.0
        assert seen.is_short
        assert await backend.run_call(Call(echo, ("x" * (8 << 20),))) == "x" * (8 << 20)
        assert not seen.trusted
