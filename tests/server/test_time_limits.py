"""How long a call may take: the least that its client, its task and the server say."""

import asyncio
from itertools import product

import pytest

from hybrid_compute.backends.local import LocalBackend
from hybrid_compute.runtime import Runtime
from hybrid_compute.server.limits import Limits
from hybrid_compute.tasks import Task, TaskRegistry
from tests.server.serving import serving
from tests.server.talking import post

NEVER = 3_600.0


async def wait() -> None:
    await asyncio.Event().wait()


EVERY = product((None, 0.05, NEVER), (None, 0.06, NEVER), (None, 0.07, NEVER))
SAID = [limits for limits in EVERY if set(limits) - {None, NEVER}]


@pytest.mark.parametrize(("asked", "own", "longest"), SAID)
def test_the_shortest_limit_holds(asked: float | None, own: float | None, longest: float | None) -> None:
    """No client gets more time than the author of a task gave it, and no task more than the server gives to any."""
    least = min(each for each in (asked, own, longest) if each is not None)
    runtime = Runtime([LocalBackend()], tasks=TaskRegistry([Task(wait, name="wait", timeout=own)]))
    with serving(runtime, limits=Limits(longest=longest)) as served:
        for stream in (False, True):
            answer = post(served.port, {"task": "wait", "timeout": asked, "stream": stream})
            assert answer.failure() == (504, "task_timeout")
            assert f" {least:g} s" in answer.value["error"]
