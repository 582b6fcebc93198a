"""The same words without await, for a type checker. A line marked `# E` must be refused, and no other."""

from collections.abc import AsyncIterator, Iterator
from typing import Any, assert_type

from hybrid_compute import BlockingRuntime, task


@task
def add(a: int, b: int = 0) -> int:
    return a + b


@task
async def fetch(url: str) -> bytes:
    return url.encode()


@task
def words(text: str) -> Iterator[str]:
    yield from text.split()


@task
async def ticks(upto: int) -> AsyncIterator[float]:
    yield float(upto)


def plain(x: int) -> str:
    return str(x)


with BlockingRuntime() as rt:
    assert_type(rt, BlockingRuntime)

    assert_type(rt.run(add, 1, 2), int)
    assert_type(rt.run(fetch, "x"), bytes)
    assert_type(rt.run(plain, 1), str)
    assert_type(rt.run(words, "a b"), list[str])
    assert_type(rt.run(ticks, 3), list[float])
    assert_type(rt.run("add", 1, anything="x"), Any)
    rt.run(add, "x")  # E: a str is no int
    rt.run(add)  # E: an argument is missing
    rt.run(add, 1, c=2)  # E: there is no such argument
    rt.run(fetch, 1)  # E: a coroutine task is typed as well
    rt.run(42)  # E: a task, a function or a name

    quick = rt.options(strategy="worker", timeout=2.0)
    assert_type(quick.run(add, 1, 2), int)
    quick.run(add, "x")  # E: options change no types
    rt.options(timeout="2")  # E: seconds are a number

    assert_type(rt.map(plain, [1, 2]), list[str])
    assert_type(rt.map(add, range(3), limit=2), list[int])
    assert_type(rt.map(fetch, ["x"]), list[bytes])
    assert_type(rt.map(words, ["a b"]), list[list[str]])
    assert_type(rt.map("add", [1]), list[Any])
    rt.map(plain, ["x"])  # E: items of the wrong type

    assert_type(rt.starmap(add, [(1, 2)]), list[int])
    assert_type(rt.starmap(fetch, [("x",)]), list[bytes])
    assert_type(rt.starmap("add", [(1, 2)]), list[Any])
    rt.starmap(add, [1])  # E: tuples of arguments

    with rt.as_completed(plain, [1, 2]) as results:
        for given, got in results:
            assert_type(given, int)
            assert_type(got, str)
    with rt.as_completed(fetch, ["x"]) as fetched:
        for pair in fetched:
            assert_type(pair, tuple[str, bytes])
    rt.as_completed(plain, ["x"])  # E: items of the wrong type

    with rt.stream(words, "a b") as items:
        for word in items:
            assert_type(word, str)
    with rt.stream(ticks, 3) as numbers:
        for number in numbers:
            assert_type(number, float)
    rt.stream(words, 3)  # E: an int is no text
    rt.stream(add, 1, 2)  # E: it yields nothing
