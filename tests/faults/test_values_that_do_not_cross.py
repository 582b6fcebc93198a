"""Arguments, results and exceptions that pickle refuses: a clear error, and nothing lost with them."""

import asyncio
import threading
from collections.abc import Iterator
from typing import Any

import pytest

from hybrid_compute import BlockingRuntime, Runtime, WorkerBackend
from hybrid_compute.errors import NotTransferable, TaskFailed
from tests.faults import odd, tasks


@pytest.fixture(scope="module")
def rt() -> Iterator[BlockingRuntime]:
    with BlockingRuntime([WorkerBackend(1)], strategy="worker") as runtime:
        yield runtime


def deep(levels: int) -> list[Any]:
    made: list[Any] = []
    for _ in range(levels):
        made = [made]
    return made


@pytest.mark.parametrize(
    ("value", "path"),
    [
        (threading.Lock(), "[0]"),
        ([1, {"k": (0, threading.Lock())}], "[0][1]['k'][1]"),
        (odd.Holder(child=odd.Holder(child=threading.Lock())), "[0].child.child"),
        (odd.RaisesWhenPickled(RuntimeError("not today")), "[0]"),
        (odd.RaisesWhenPickled(KeyError("not today")), "[0]"),
        (odd.RaisesWhenPickled(MemoryError("not today")), "[0]"),
        (deep(100_000), "[0]"),
    ],
    ids=["a lock", "a lock deep inside", "an attribute", "RuntimeError", "KeyError", "MemoryError", "too deep"],
)
def test_an_argument_that_cannot_cross_is_named(rt: BlockingRuntime, value: object, path: str) -> None:
    """The error names task and path, whatever kind of exception pickling ends in; the task never begins."""
    with pytest.raises(NotTransferable) as caught:
        rt.run(tasks.echo, value)
    assert "'echo'" in str(caught.value)
    assert path in str(caught.value)
    with pytest.raises(NotTransferable) as caught:
        rt.map(tasks.echo, [1, 2, value, 4])
    assert path in str(caught.value)
    assert rt.run(tasks.echo, 1) == 1


@pytest.mark.parametrize("kind", ["lock", "deep", "RuntimeError", "KeyError", "MemoryError", "SystemExit"])
@pytest.mark.parametrize("way", ["run", "map", "coroutine", "stream", "async stream"])
def test_a_result_that_cannot_cross_fails_its_call_alone(rt: BlockingRuntime, kind: str, way: str) -> None:
    """So does an item of a stream, which ends there. The worker lives on and nothing is stuck in it."""
    worker = rt.run(tasks.pid)
    with pytest.raises((NotTransferable, TaskFailed), match=kind if "E" in kind else "cannot cross") as caught:
        if way == "run":
            rt.run(odd.make, kind)
        elif way == "map":
            rt.map(odd.make, ["fine"] * 100 + [kind] + ["fine"] * 100)
        elif way == "coroutine":
            rt.run(odd.make_async, kind)
        elif way == "stream":
            rt.run(odd.stream, kind)
        else:
            rt.run(odd.stream_async, kind)
    assert "make" in str(caught.value) or "stream" in str(caught.value)
    assert rt.run(tasks.pid) == worker or way == "map"  # which gives up what it has under way
    assert rt.map(tasks.add_one, range(100)) == list(range(1, 101))


async def test_a_stream_that_breaks_gives_what_came_before_and_harms_no_other() -> None:
    """Two streams and a call on one worker: one stream meets an item that cannot cross, the rest goes on."""
    async with Runtime([WorkerBackend(1)], strategy="worker") as rt:

        async def broken() -> list[str]:
            seen = []
            with pytest.raises(NotTransferable, match="an item"):
                async with rt.stream(odd.stream, "lock") as items:
                    async for item in items:
                        seen.append(item)  # noqa: PERF401  # a comprehension would lose them with the failure
            return seen

        async def whole() -> list[int]:
            async with rt.stream(tasks.count_to, 500) as items:
                return [item async for item in items]

        before, numbers, added = await asyncio.gather(broken(), whole(), rt.run(tasks.add, 1, 2))
        assert (before, numbers, added) == (["fine"] * 3, list(range(500)), 3)


@pytest.mark.parametrize("kind", ["unreadable", "exits when read"])
def test_a_result_that_cannot_be_read_here_says_so(rt: BlockingRuntime, kind: str) -> None:
    """What pickles there and does not unpickle here is `NotTransferable`, by every way that leads here."""
    rt.run(odd.make, "fine")
    for _ in range(3):  # read by this very thread
        with pytest.raises(NotTransferable, match="cannot be read here"):
            rt.run(odd.make, kind)
    with pytest.raises(NotTransferable, match="cannot be read here"):
        rt.map(odd.make, [kind] * 10)
    with pytest.raises(NotTransferable, match="cannot be read here"):
        rt.run(odd.stream, kind)
    assert rt.run(tasks.add, 1, 2) == 3


def test_an_argument_that_cannot_be_read_there_fails_the_call(rt: BlockingRuntime) -> None:
    """The worker tells what its unpickling raised, and goes on."""
    worker = rt.run(tasks.pid)
    for _ in range(2):
        with pytest.raises(TaskFailed, match="not over there") as caught:
            rt.run(tasks.echo, odd.Unreadable())
        assert "Traceback" in caught.value.remote_traceback
    assert rt.run(tasks.pid) == worker


def test_a_function_that_cannot_be_had_in_the_worker_says_so(rt: BlockingRuntime) -> None:
    """A task whose module refuses to be imported there fails with that reason."""
    with pytest.raises(NotTransferable, match=r"cannot be loaded in the worker.*not in a worker"):
        rt.run(odd.only_here())
    assert rt.run(tasks.add, 1, 2) == 3


# Exceptions.


def raised(rt: BlockingRuntime, error: BaseException) -> TaskFailed:
    with pytest.raises(TaskFailed) as caught:
        rt.run(odd.raise_it, error)
    return caught.value


def test_an_exception_brings_its_cause_and_context_and_notes(rt: BlockingRuntime) -> None:
    """The chain is as it was, so that handling and printing it works as usual."""
    with pytest.raises(TaskFailed) as caught:
        rt.run(odd.fail_with_a_history)
    cause = caught.value.__cause__
    assert isinstance(cause, ValueError)
    assert cause.__notes__ == ["while testing"]
    assert isinstance(cause.__cause__, KeyError)
    assert isinstance(cause.__cause__.__context__, ZeroDivisionError)
    text = caught.value.remote_traceback
    for piece in ("ZeroDivisionError", "KeyError", "ValueError: in the end", "while testing", "fail_with_a_history"):
        assert piece in text


def test_the_context_of_an_exception_is_no_cause(rt: BlockingRuntime) -> None:
    """What happened during handling stays that, and what was suppressed stays suppressed."""
    with pytest.raises(TaskFailed) as caught:
        rt.run(odd.fail_while_handling, False)
    assert caught.value.__cause__ is not None
    assert isinstance(caught.value.__cause__.__context__, ZeroDivisionError)
    assert not caught.value.__cause__.__suppress_context__
    with pytest.raises(TaskFailed) as caught:
        rt.run(odd.fail_while_handling, True)
    assert caught.value.__cause__ is not None
    assert caught.value.__cause__.__suppress_context__


def test_an_exception_group_arrives_whole(rt: BlockingRuntime) -> None:
    """With its members, nested groups and notes; `except*` takes it apart as usual."""
    with pytest.raises(TaskFailed) as caught:
        rt.run(odd.fail_in_a_group)
    group = caught.value.__cause__
    assert isinstance(group, ExceptionGroup)
    assert group.message == "several"
    assert [type(each) for each in group.exceptions] == [ValueError, ExceptionGroup]
    assert group.__notes__ == ["of the group"]
    assert group.subgroup(KeyError) is not None
    for piece in ("several", "ValueError: one", "KeyError: 'two'", "of the group", "of a member"):
        assert piece in caught.value.remote_traceback


@pytest.mark.parametrize(
    "kind",
    [
        "holds a lock",
        "constructor wants more",
        "local class",
        "raises when unpickled",
        "raises when pickled",
        "exits when unpickled",
        "raises in str",
        "exits in str",
        "unpickles to something else",
        "turns into a base exception",
    ],
)
@pytest.mark.parametrize("way", ["run", "map", "coroutine", "stream"])
def test_an_exception_that_cannot_travel_is_told_all_the_same(rt: BlockingRuntime, kind: str, way: str) -> None:
    """Its type, its words and its traceback arrive, and so does the next result of the same worker."""
    worker = rt.run(tasks.pid)
    with pytest.raises(TaskFailed) as caught:
        if way == "run":
            rt.run(odd.fail_oddly, kind)
        elif way == "map":
            rt.map(odd.fail_oddly, [kind] * 10)
        elif way == "coroutine":
            rt.run(odd.fail_oddly_async, kind)
        else:
            rt.run(odd.fail_oddly_in_stream, kind)
    failed = caught.value
    assert "raised" in str(failed)
    assert "Traceback (most recent call last)" in failed.remote_traceback
    assert "fail_oddly" in failed.remote_traceback
    if "in str" not in kind:
        assert "the words of it" in failed.remote_traceback
    assert rt.run(tasks.pid) == worker or way == "map"  # which gives up what it has under way


def test_an_exception_keeps_the_cause_that_can_travel(rt: BlockingRuntime) -> None:
    """Where the exception itself stays behind, the text tells all of the chain."""
    with pytest.raises(TaskFailed) as caught:
        rt.run(odd.fail_oddly_from, "holds a lock")
    assert "ZeroDivisionError" in caught.value.remote_traceback
    assert "direct cause" in caught.value.remote_traceback


def test_an_enormous_exception_arrives(rt: BlockingRuntime) -> None:
    """Twenty megabytes of message do not stop it."""
    failed = raised(rt, ValueError("x" * (20 << 20)))
    assert isinstance(failed.__cause__, ValueError)
    assert len(str(failed.__cause__)) == 20 << 20


def test_a_chain_that_bites_its_tail_ends(rt: BlockingRuntime) -> None:
    """Causes that go in a circle, or on for ever, cost neither the worker nor the wait."""
    with pytest.raises(TaskFailed, match="ValueError"):
        rt.run(odd.fail_in_a_circle)
    with pytest.raises(TaskFailed, match="ValueError"):
        rt.run(odd.fail_after_many, 3000)
    assert rt.run(tasks.add, 1, 2) == 3


def test_errors_of_this_library_raised_by_a_task_are_its_own(rt: BlockingRuntime) -> None:
    """A task that raises `WorkerLost` or `NotTransferable` has failed; its worker is not lost."""
    for kind in ("WorkerLost", "BackendClosed", "TaskTimeout", "NotTransferable"):
        with pytest.raises(TaskFailed, match=kind):
            rt.run(odd.raise_ours, kind)
    assert rt.run(tasks.add, 1, 2) == 3
