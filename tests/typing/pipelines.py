"""What joins into a pipeline and what comes out of it, for a type checker. A line marked `# E` must be refused."""

from collections.abc import AsyncIterator, Iterator
from typing import Any, assert_type

from hybrid_compute import BlockingRuntime, Runtime, pipeline, task
from hybrid_compute.pipelines.pipeline import Pipeline
from hybrid_compute.strategies import prefer
from hybrid_compute.tasks import Stage


@task
def words(text: str, sep: str = " ") -> Iterator[str]:
    yield from text.split(sep)


@task
async def ticks(upto: int) -> AsyncIterator[float]:
    yield float(upto)


@task
async def fetch(url: str) -> bytes:
    return url.encode()


@task
def size(body: bytes) -> int:
    return len(body)


@task
def parts(text: str) -> list[bytes]:
    return [text.encode()]


@task
def first(found: list[bytes]) -> bytes:
    return found[0]


@task
def maybe(text: str) -> int | None:
    return len(text) or None


@task
def add(a: int, b: int = 0) -> int:
    return a + b


@task
def two(a: str, b: str) -> str:
    return a + b


def plain(x: int) -> str:
    return str(x)


async def waiting(x: int) -> str:
    return str(x)


async def whole(rt: Runtime) -> None:
    # The last stage says what comes out: of a coroutine what it returns, of a generator what it yields.
    assert_type(await pipeline(words).run(rt, "a b"), list[str])
    assert_type(await pipeline(ticks).run(rt, 1), list[float])
    assert_type(await pipeline(fetch).run(rt, "u"), list[bytes])
    assert_type(await pipeline(words, fetch).run(rt, "a b"), list[bytes])
    assert_type(await pipeline(words, fetch, size).run(rt, "a b", sep=","), list[int])
    assert_type(await pipeline(words, fetch, size, plain).run(rt, "a b"), list[str])
    assert_type(await pipeline(words, fetch, size, plain, words).run(rt, "a b"), list[str])
    assert_type(await pipeline(words, parts, first).run(rt, "a b"), list[bytes])
    assert_type(await pipeline(words, maybe).run(rt, "a b"), list[int | None])
    assert_type(await pipeline(waiting, fetch, ordered=False, ahead=4).run(rt, 1), list[bytes])
    assert_type(await pipeline(add, plain).run(rt, 1, b=2), list[str])
    assert_type(await pipeline(words, str.upper).run(rt, "a b"), list[str])
    assert_type(await pipeline(add, lambda x: x + 0.5).run(rt, 1), list[float])  # mypy: not after a generator
    assert_type(await pipeline(words, fetch, size, plain, words, fetch, size).run(rt, "a b"), list[Any])


async def at_places(rt: Runtime) -> None:
    # A stage at a place has the types of its task.
    assert_type(fetch("u").close(), None)
    assert_type(size.on("worker", limit=4)(b""), int)
    assert_type(await pipeline(words.on("remote"), fetch.on("worker", limit=4), size).run(rt, "a"), list[int])
    assert_type(await pipeline(words, fetch.on(prefer("worker"))).run(rt.options(timeout=5.0), "a"), list[bytes])
    stage: Stage[[bytes], int] = Stage(size, "worker")
    assert_type(await pipeline(fetch, stage).run(rt, "u"), list[int])
    fetch.on(5)  # E: no place
    fetch.on("worker", limit="4")  # E: a number
    fetch.on("worker", 4)  # E: which is named


async def streams(rt: Runtime) -> None:
    async with pipeline(words, fetch).stream(rt, "a b") as bodies:
        async for body in bodies:
            assert_type(body, bytes)
    async with pipeline(fetch, size).over(["u"]).stream(rt) as sizes:
        async for each in sizes:
            assert_type(each, int)


async def fed(rt: Runtime, numbers: AsyncIterator[int]) -> None:
    assert_type(await pipeline(fetch, size).over(["u"]).run(rt), list[int])
    assert_type(await pipeline(plain, fetch).over(numbers).run(rt), list[bytes])
    assert_type(await pipeline(add).over(range(3)).run(rt), list[int])
    pipeline(fetch, size).over([1])  # E: items of the wrong type
    pipeline(fetch).over(numbers)  # E: items of the wrong type
    pipeline(fetch).over(5)  # E: nothing to go through
    pipeline(two).over(["a"])  # E: two parameters
    await pipeline(fetch).over(["u"]).run(rt, "u")  # E: it has its items


async def wrong(rt: Runtime, blocking: BlockingRuntime) -> None:
    pipeline()  # E: no stage
    pipeline(words, size)  # E: a str is no bytes
    pipeline(fetch, words)  # E: nor the other way round
    pipeline(words.on("worker"), size.on("worker"))  # E: wherever it runs
    pipeline(words, fetch, size, words)  # E: in the last place
    pipeline(words, maybe, plain)  # E: it may be None
    pipeline(words, parts, size)  # E: a list is one item
    pipeline(words, two)  # E: one item, two parameters
    pipeline(words, "fetch")  # E: a task or a function
    pipeline(words, fetch, ordered=1.5)  # E: yes or no
    await pipeline(words, fetch).run(rt, 5)  # E: the first stage takes a text
    await pipeline(words, fetch).run(rt)  # E: an argument is missing
    await pipeline(words, fetch).run(blocking, "a")  # E: a runtime with an event loop


def shapes(pipe: Pipeline[[str], bytes]) -> None:
    pipe.ordered = False  # E: it cannot be changed
    assert_type(pipe.over(["a"]), Pipeline[[], bytes])
