"""Use workers where there are any, and this process where there are none: the call does not change.

Three machines. The first has workers. On the second they do not start, here because their initializer fails. The
third has no such backend at all. `auto` tries workers first, and a place that could not begin passes the call on.
"""

import asyncio
import os

from hybrid_compute import LocalBackend, Runtime, WorkerBackend, task
from hybrid_compute.backends.base import Backend
from hybrid_compute.events import CallPassedOn, Event


@task
def fingerprint(text: str) -> tuple[int, int]:
    """A checksum, and the process that computed it."""
    value = 0
    for letter in text * 1000:
        value = (value * 31 + ord(letter)) % 1_000_003
    return value, os.getpid()


def fail() -> None:
    raise RuntimeError("this machine is locked down")


def show(event: Event) -> None:
    if isinstance(event, CallPassedOn):
        print(f"  passed on by {event.backend}: {event.error}")


async def use(machine: str, places: list[Backend]) -> int:
    print(machine)
    async with Runtime(places, hooks=[show]) as rt:
        value, pid = await rt.run(fingerprint, "the same call everywhere")
    print(f"  {value}, computed {'in this process' if pid == os.getpid() else 'in a worker'}")
    return value


async def main() -> None:
    values = {
        await use("workers", [WorkerBackend(), LocalBackend()]),
        await use("workers that do not start", [WorkerBackend(initializer=fail), LocalBackend()]),
        await use("no workers", [LocalBackend()]),
    }
    assert len(values) == 1


if __name__ == "__main__":
    asyncio.run(main())
