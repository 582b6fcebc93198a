"""What a runtime gives back, for a type checker. A line marked `# E` must be refused, and no other."""

from collections.abc import AsyncIterator, Iterator, Sequence
from typing import Any, assert_type

from hybrid_compute import Backend, LocalBackend, Runtime, WorkerBackend, task
from hybrid_compute.strategies import Strategy, only, prefer
from hybrid_compute.tasks import AnyTask


@task
def add(a: int, b: int = 0) -> int:
    return a + b


@task(pure=True)
def join(first: str, second: int) -> str:
    return first * second


@task
async def fetch(url: str) -> bytes:
    return url.encode()


@task
def words(text: str) -> Iterator[str]:
    yield from text.split()


@task
async def ticks(upto: int) -> AsyncIterator[float]:
    yield float(upto)


@task
def nothing(x: int) -> None: ...


@task
def parts(x: str) -> list[bytes]:
    return [x.encode()]


def plain(x: int) -> str:
    return str(x)


async def waiting(x: int) -> str:
    return str(x)


async def run(rt: Runtime) -> None:
    assert_type(await rt.run(add, 1, 2), int)
    assert_type(await rt.run(add, 1), int)
    assert_type(await rt.run(add, b=1, a=2), int)
    assert_type(await rt.run(join, "a", 3), str)
    assert_type(await rt.run(fetch, "x"), bytes)
    assert_type(await rt.run(nothing, 1), None)
    assert_type(await rt.run(parts, "x"), list[bytes])
    assert_type(await rt.run(plain, 1), str)
    assert_type(await rt.run(waiting, 1), str)
    assert_type(await rt.run(lambda: 1), int)
    assert_type(await rt.run("add", 1, anything="x"), Any)

    # A generator task gives the list of its items.
    assert_type(await rt.run(words, "a b"), list[str])
    assert_type(await rt.run(ticks, 3), list[float])

    await rt.run(add, "x")  # E: a str is no int
    await rt.run(add)  # E: an argument is missing
    await rt.run(add, 1, 2, 3)  # E: there is no third
    await rt.run(add, 1, c=2)  # E: nor one of that name
    await rt.run(join, 3, "a")  # E: the other way round
    await rt.run(fetch, b"x")  # E: a coroutine task is typed as well
    await rt.run(words, 3)  # E: and a generator task
    await rt.run(plain, "x")  # E: and a plain function
    await rt.run(42)  # E: a task, a function or a name


async def options(rt: Runtime) -> None:
    quick = rt.options(strategy="worker", timeout=2.0, queue_timeout=1.0, priority=5)
    assert_type(await quick.run(add, 1, 2), int)
    await quick.run(add, "x")  # E: options change no types
    rt.options(timeout="2")  # E: seconds are a number
    rt.options(priority=0.5)  # E: an integer
    rt.options(deadline=2.0)  # E: there is no such option
    rt.options(strategy=prefer("worker", "local"))
    rt.options(strategy=5)  # E: a name or a strategy


async def many(rt: Runtime) -> None:
    assert_type(await rt.map(plain, [1, 2]), list[str])
    assert_type(await rt.map(add, range(3)), list[int])
    assert_type(await rt.map(fetch, ["x"]), list[bytes])
    assert_type(await rt.map(words, ["a b"]), list[list[str]])
    assert_type(await rt.map(ticks, [1]), list[list[float]])
    assert_type(await rt.map("add", [1, "x"]), list[Any])
    assert_type(await rt.map(nothing, (1, 2), limit=16), list[None])
    await rt.map(plain, ["x"])  # E: items of the wrong type
    await rt.map(fetch, [1])  # E: items of the wrong type
    await rt.map(join, ["x"])  # E: two parameters
    await rt.map(plain, 5)  # E: nothing to go through
    await rt.map(plain, [1], limit="x")  # E: a number

    assert_type(await rt.starmap(join, [("a", 1)]), list[str])
    assert_type(await rt.starmap(add, [(1,), (1, 2)]), list[int])
    assert_type(await rt.starmap(fetch, [("x",)]), list[bytes])
    assert_type(await rt.starmap(words, [("x",)]), list[list[str]])
    assert_type(await rt.starmap("add", [(1, 2)]), list[Any])
    await rt.starmap(join, [1])  # E: tuples of arguments


async def as_completed(rt: Runtime) -> None:
    async with rt.as_completed(plain, [1, 2], limit=4) as results:
        async for given, got in results:
            assert_type(given, int)
            assert_type(got, str)
    async with rt.as_completed(fetch, ["x"]) as fetched:
        async for pair in fetched:
            assert_type(pair, tuple[str, bytes])
    async with rt.as_completed(words, ["a b"]) as lists:
        async for entry in lists:
            assert_type(entry, tuple[str, list[str]])
    async with rt.as_completed("add", [1]) as named:
        async for each in named:
            assert_type(each[1], Any)
    rt.as_completed(plain, ["x"])  # E: items of the wrong type


async def stream(rt: Runtime) -> None:
    async with rt.stream(words, "a b") as items:
        async for word in items:
            assert_type(word, str)
    async with rt.stream(ticks, 3) as numbers:
        async for number in numbers:
            assert_type(number, float)
    async with rt.stream("words", "a b") as anything:
        async for each in anything:
            assert_type(each, Any)
    rt.stream(words, 3)  # E: an int is no text
    rt.stream(ticks)  # E: an argument is missing
    rt.stream(add, 1, 2)  # E: it yields nothing


async def construct() -> None:
    async with Runtime([WorkerBackend(4), LocalBackend()], strategy="auto", tasks=[add, plain]) as rt:
        assert_type(rt, Runtime)
        assert_type(rt.tasks["add"], AnyTask)
    Runtime([add])  # E: a task is no place
    Runtime(strategy=3)  # E: a name or a strategy
    Runtime(hooks=[len])  # E: it takes an event


def backwards(task: AnyTask, backends: Sequence[Backend], /) -> Sequence[Backend]:
    return backends[::-1]


strategy: Strategy = backwards
strategy = only("worker")


class Here(Backend):
    name = "here"

    def can_run(self, task: AnyTask, /) -> bool:
        return True

    async def run_task(self, task: AnyTask, /, *args: Any, **kwargs: Any) -> Any:
        return task.fn(*args, **kwargs)


class Unfinished(Backend):
    def can_run(self, task: AnyTask, /) -> bool:
        return True


Here()
Unfinished()  # E: it has no run_task
