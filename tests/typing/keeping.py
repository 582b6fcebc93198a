"""The outbox, for a type checker. A line marked `# E` must be refused."""

from typing import Any, assert_type

from hybrid_compute import LocalBackend, Outbox, Runtime, task
from hybrid_compute.outbox.box import Ticket


@task
def add(a: int, b: int = 0) -> int:
    return a + b


async def fetch(url: str) -> bytes:
    return url.encode()


async def keep() -> None:
    async with Outbox("calls.db", to=LocalBackend(), order="strict") as outbox:
        assert_type(outbox, Outbox)
        assert_type(await outbox.put(add, 1, b=2), Ticket[int])
        assert_type(await (await outbox.put(add, 1)).result(), int)
        assert_type(await outbox.options(key="a", expires=1.0).put(fetch, "x"), Ticket[bytes])
        assert_type(await outbox.put("add", 1), Ticket[Any])
        assert_type(await outbox.ticket("a"), Ticket[Any])
        await outbox.put(add, "1")  # E: a str is no int
        await outbox.put(add)  # E: an argument is missing
        await outbox.put(add, 1, key="a")  # E: options are not among the arguments of the task
        await outbox.calls("lost")  # E: there is no such state
        async with Runtime([outbox.place()]):
            pass
    Outbox("calls.db", order="random")  # E: there is no such order
    Outbox("calls.db", to="somewhere")  # E: a backend or a runtime is needed
