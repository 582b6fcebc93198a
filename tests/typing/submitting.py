"""The executor and the rest of the public names, for a type checker. A line marked `# E` must be refused."""

from collections.abc import Iterator
from concurrent.futures import Executor, Future
from typing import assert_type

from hybrid_compute import WorkerExecutor, task
from hybrid_compute.testing import Asked, MockBackend


@task
def add(a: int, b: int = 0) -> int:
    return a + b


async def fetch(url: str) -> bytes:
    return url.encode()


def words(text: str) -> Iterator[str]:
    yield from text.split()


def plain(x: int) -> str:
    return str(x)


with WorkerExecutor(4) as pool:
    assert_type(pool, WorkerExecutor)
    assert_type(pool.submit(plain, 1), Future[str])
    assert_type(pool.submit(add, 1, b=2), Future[int])
    assert_type(pool.submit(plain, 1).result(timeout=1.0), str)
    assert_type(pool.submit(fetch, "x"), Future[bytes])
    assert_type(pool.submit(words, "a b"), Future[list[str]])
    assert_type(pool.map(plain, [1, 2], timeout=5.0, chunksize=10), Iterator[str])
    pool.submit(plain, "x")  # E: a str is no int
    pool.submit(add)  # E: an argument is missing
    pool.submit(add, 1, c=2)  # E: there is no such argument
    pool.submit(42)  # E: a function is needed

executor: Executor = WorkerExecutor(max_workers=2, initializer=plain, initargs=(1,))
WorkerExecutor("2")  # E: a number of workers

mock = MockBackend(lambda task, x: x, name="worker", rank=0, on_this_machine=False)
assert_type(mock.calls, list[Asked])
mock.assert_asked(add, 1, 2)
MockBackend(5)  # E: a handler is a function
