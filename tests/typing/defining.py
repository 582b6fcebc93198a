"""What `@task` makes of a function, for a type checker. A line marked `# E` must be refused, and no other."""

from collections.abc import AsyncIterator, Iterator
from typing import Any, assert_type

from hybrid_compute import TaskRegistry, task
from hybrid_compute.tasks import as_task


@task
def add(a: int, b: int = 0) -> int:
    return a + b


@task(name="text.shout", pure=True, timeout=5.0, private=True, needs={"cpu"}, cost="cpu", retries=2)
def shout(text: str, *, loud: bool = True) -> str:
    return text.upper() if loud else text


@task
async def fetch(url: str) -> bytes:
    return url.encode()


@task
def words(text: str) -> Iterator[str]:
    yield from text.split()


@task()
async def ticks(upto: int) -> AsyncIterator[float]:
    yield float(upto)


def plain(x: int) -> str:
    return str(x)


assert_type(add(1, 2), int)
assert_type(add(1), int)
assert_type(add(b=1, a=2), int)
assert_type(shout("a", loud=False), str)
assert_type(words("a b"), Iterator[str])
assert_type(ticks(3), AsyncIterator[float])
assert_type(add.name, str)
assert_type(add.timeout, float | None)
assert_type(add.needs, frozenset[str])

add("x")  # E: a str is no int
add()  # E: an argument is missing
add(1, 2, 3)  # E: there is no third
add(1, c=2)  # E: nor one of that name
shout("a", False)  # E: only by name
shout(loud=True)  # E: an argument is missing

task(timeout="5")  # E: seconds are a number
task(cost="cheap")  # E: there is no such cost
task(nmae="x")  # E: nor such a fact
task(needs=5)  # E: names are needed
task(42)  # E: a function is needed

assert_type(as_task(plain)(1), str)
assert_type(as_task(add)(1, 2), int)
as_task(plain)("x")  # E: still typed


async def awaited() -> None:
    assert_type(await fetch("x"), bytes)


registry = TaskRegistry([add, shout, plain])


@registry.task
def one(x: int) -> int:
    return x


@registry.task(name="another", pure=True)
def two(x: int) -> str:
    return str(x)


assert_type(one(1), int)
assert_type(two(1), str)
assert_type(registry.add(plain)(1), str)
assert_type(registry["one"](1, "anything"), Any)
one("x")  # E: still typed
two("x")  # E: with facts too
registry[0]  # E: by name
