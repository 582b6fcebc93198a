"""Coroutines and tasks with a timeout, granted to guests: they do the same wherever the guest runs."""

import asyncio
import contextvars
import threading
from collections.abc import AsyncIterator, Iterator

import pytest

from hybrid_compute import BlockingRuntime, LocalBackend, Runtime, task
from hybrid_compute.backends.wasm import ENOUGH, WasmBackend
from hybrid_compute.errors import LimitExceeded, TaskFailed, TaskTimeout
from hybrid_compute.wasm import Limits, WasmComponent, WasmModule
from tests.faults.watching import wait_until
from tests.wasm.test_grants import asking, double, greet

CALLING = WasmModule.from_wat("""
(module (import "host" "f" (func $f (param i32) (result i32)))
  (func (export "call") (param i32) (result i32) (call $f (local.get 0))))
""")
WHO: contextvars.ContextVar[str] = contextvars.ContextVar("who", default="nobody")


async def later(number: int) -> int:
    await asyncio.sleep(0)
    return number + len(WHO.get())


def test_a_coroutine_is_run_to_its_end() -> None:
    """A bare one, and a task; a module kept or not."""
    for reuse in (False, True):
        call = CALLING.task("call", grants={"f": later}, reuse=reuse)
        assert [call(1), call(2)] == [7, 8]
    assert CALLING.task("call", grants={"f": task(later)})(1) == 7
    with CALLING.open(grants={"f": later}) as instance:
        assert instance["call"](1) == 7


async def test_a_coroutine_is_run_where_an_event_loop_runs_already() -> None:
    """In the loop's own thread, which waits; with the variables of the caller's context."""
    WHO.set("ann")
    assert CALLING.task("call", grants={"f": later})(1) == 4
    assert asking(double, greet)("greet", '{"name": "ann"}') == '{"text":"ann"}'


async def test_a_guest_that_may_call_a_coroutine_runs_at_every_place() -> None:
    """However short its calls are: it is never run in the event loop of the place."""
    call = CALLING.task("call", grants={"f": later})
    async with Runtime([WasmBackend(threads=1)]) as rt:
        assert await rt.map(call, range(3 * ENOUGH)) == [6 + n for n in range(3 * ENOUGH)]
    async with Runtime([LocalBackend()]) as rt:
        assert [await rt.run(call, n) for n in range(3)] == [6, 7, 8]


def test_components_call_coroutines_too() -> None:
    asks = WasmComponent.from_wat("""
        (component
          (import "f" (func $f (param "n" s32) (result s32)))
          (core func $lowered (canon lower (func $f)))
          (core module $code
            (import "host" "f" (func $f (param i32) (result i32)))
            (func (export "call") (param i32) (result i32) (call $f (local.get 0))))
          (core instance $i (instantiate $code (with "host" (instance (export "f" (func $lowered))))))
          (func (export "call") (param "n" s32) (result s32) (canon lift (core func $i "call"))))
    """)

    @asks.task(grants={"f": later})
    def call(n: int) -> int: ...  # type: ignore[empty-body]

    assert call(1) == 7


async def test_a_coroutine_ends_when_its_guest_is_stopped() -> None:
    """By the time of the guest, or because nobody waits for it any more; and it is told, as a coroutine is."""
    ended, begun = [], asyncio.Event()
    loop = asyncio.get_running_loop()

    async def for_ever(_number: int) -> int:
        loop.call_soon_threadsafe(begun.set)
        try:
            return await asyncio.Event().wait()
        finally:
            ended.append("ended")

    late = CALLING.task("call", grants={"f": for_ever}, limits=Limits(time=0.5))
    with pytest.raises(LimitExceeded, match="its limit of time is"):
        await asyncio.to_thread(late, 1)
    assert ended == ["ended"]
    begun.clear()
    async with Runtime([WasmBackend(threads=1)]) as rt:
        call = asyncio.ensure_future(rt.run(CALLING.task("call", grants={"f": for_ever}, limits=Limits(time=None)), 1))
        await begun.wait()
        call.cancel()
        with pytest.raises(asyncio.CancelledError):
            await call
        assert await rt.run(CALLING.task("call", grants={"f": later}), 1) == 7, "its thread is free"
        await asyncio.to_thread(wait_until, lambda: len(ended) == 2)  # nobody waits for it to end


@pytest.mark.parametrize("kind", ["coroutine", "function", "guest"])
def test_the_timeout_of_a_granted_task_holds(kind: str) -> None:
    """The guest ends with it. A plain function cannot be stopped: it runs to its end unheard."""
    go, ended = threading.Event(), threading.Event()

    async def wait(number: int) -> int:
        return await asyncio.Event().wait()

    def block(number: int) -> int:
        go.wait()
        ended.set()
        return number

    spin = WasmModule.from_wat('(module (func (export "spin") (param i32) (result i32) (loop (br 0)) (i32.const 0)))')

    def spinning(n: int) -> int: ...  # type: ignore[empty-body]

    if kind == "guest":
        slow = spin.task(export="spin", name="slow", timeout=0.05, limits=Limits(time=None))(spinning)
    else:
        slow = task(name="slow", timeout=0.05)(wait if kind == "coroutine" else block)  # type: ignore[arg-type]
    with pytest.raises(TaskTimeout, match=r"task 'slow', which was granted to a guest, was not done after 0\.05 s"):
        CALLING.task("call", grants={"f": slow})(1)
    with pytest.raises(TaskTimeout, match="task 'slow'"):
        asking(slow)("slow", "1")
    go.set()
    assert kind != "function" or ended.wait(10)


def test_what_is_done_in_time_is_not_touched() -> None:
    @task(timeout=30)
    def quick(number: int) -> int:
        if number < 0:
            raise StopIteration("of its own")
        return number + len(WHO.get())

    assert CALLING.task("call", grants={"f": quick})(1) == 7
    with BlockingRuntime([WasmBackend(threads=1)]) as rt, pytest.raises(TaskFailed, match="StopIteration"):
        rt.run(CALLING.task("call", grants={"f": quick}), -1)


def test_what_cannot_be_called_is_refused_when_it_is_granted() -> None:
    """Not at the first call."""

    def several(n: int) -> Iterator[int]:
        yield n

    async def some(n: int) -> AsyncIterator[int]:
        yield n

    for grant in (several, task(some), [several]):
        with pytest.raises(TypeError, match="gives a stream, which cannot be granted to a guest"):
            CALLING.task("call", grants={"f": grant})
    with pytest.raises(TypeError, match="a guest cannot be granted 7 as 'f'"):
        CALLING.task("call", grants={"f": 7})
