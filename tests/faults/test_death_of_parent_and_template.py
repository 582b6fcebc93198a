"""Who depends on whom: workers go with the parent, however it dies, and live on without the template."""

import asyncio
import os
import signal
import subprocess
import sys
from pathlib import Path

import psutil
import pytest

from hybrid_compute import BlockingRuntime, Runtime, WorkerBackend
from tests.faults import tasks
from tests.faults.programs import PROGRAMS
from tests.faults.watching import alive, descendants, kill, marks, until, wait_until

WITHIN = 1.0
"""Seconds in which nothing of a dead parent is left."""


def template_of(pool: WorkerBackend) -> int:
    """The process that all workers are children of."""
    (parent,) = {psutil.Process(pid).ppid() for pid in pool.pids}
    return parent


@pytest.mark.parametrize("state", sorted(PROGRAMS))
@pytest.mark.parametrize("ending", [signal.SIGKILL, signal.SIGTERM])
def test_no_worker_survives_its_parent(tmp_path: Path, state: str, ending: signal.Signals) -> None:
    """A second after the parent's death there is no worker, no template and nothing below them, whatever they did."""
    marked = tmp_path / "marks"
    program = subprocess.Popen([sys.executable, "-m", "tests.faults.programs", state, str(marked)])
    try:
        wait_until(lambda: len(marks(marked)) == 2, "both workers are at it")
        below = [each.pid for each in descendants(program.pid)]
        assert len(below) >= 2 + (not state.startswith("portable"))  # the workers, and the template
        program.send_signal(ending)
        program.wait()
        wait_until(lambda: not alive(below), f"the descendants are gone: {alive(below)}", WITHIN)
    finally:
        program.kill()
        program.wait()


LATE = """
import os
from hybrid_compute.links import child, template
calls, replies, nobody, control = os.pipe(), os.pipe(), os.pipe(), os.pipe()
child.Worker.run = lambda worker: worker.channel.write(b"an answer")
child.PipeChannel.__init__ = lambda channel, calls, replies, control: setattr(channel, "_replies", replies)
os.close(replies[0])
template._become_worker(1, memoryview(bytearray(64)), 1, [calls[0], replies[1], control[0]], nobody)
"""


def test_a_worker_that_answers_when_its_parent_has_gone_leaves_without_a_word() -> None:
    """There is nobody left to tell, and what it would write goes to a terminal that belongs to others."""
    late = subprocess.run([sys.executable, "-c", LATE], capture_output=True, text=True, timeout=30, check=False)
    assert (late.returncode, late.stderr) == (1, "")


async def test_calls_go_on_when_the_template_dies() -> None:
    """The template is needed to start workers, not to keep them: what runs is answered all the same."""
    async with Runtime([pool := WorkerBackend(2)], strategy="worker") as rt:
        await pool.warm_up()
        before = sorted(pool.pids)
        naps = [rt.run(tasks.nap, 0.3) for _ in range(2)]
        await asyncio.sleep(0)
        kill(template_of(pool))
        assert sorted(await asyncio.gather(*naps)) == before
        assert await asyncio.gather(*(rt.run(tasks.add, n, 1) for n in range(100))) == list(range(1, 101))
        assert sorted(pool.pids) == before


async def test_workers_are_replaced_after_the_death_of_the_template() -> None:
    """A new template starts with the first worker that is needed; losses are still noticed and reported."""
    async with Runtime([pool := WorkerBackend(2)], strategy="worker") as rt:
        await pool.warm_up()
        first = sorted(pool.pids)
        kill(template_of(pool))
        await until(lambda: {psutil.Process(pid).ppid() for pid in first} != {os.getpid()})
        for pid in first:
            kill(pid)
        await until(lambda: pool.stats().idle == 2 and not set(pool.pids) & set(first), "two new workers")
        assert await asyncio.gather(*(rt.run(tasks.add, n, 1) for n in range(100))) == list(range(1, 101))
        assert pool.stats().lost == 2
    await until(lambda: not descendants(), "nothing is left")


async def test_the_template_may_die_again_and_again() -> None:
    """Each time the pool goes on, and in the end no process is left."""
    async with Runtime([pool := WorkerBackend(2)], strategy="worker") as rt:
        everybody: set[int] = set()
        for turn in range(10):
            await pool.warm_up()
            everybody |= {each.pid for each in descendants()} | set(pool.pids)
            kill(template_of(pool) if turn % 2 else pool.pids[0])
            kill(pool.pids[-1])
            calls = [rt.run(tasks.mark_pure, "/dev/null", number) for number in range(50)]
            assert await asyncio.gather(*calls) == list(range(50))
    await until(lambda: not alive(everybody), "nothing is left")


def test_threads_are_answered_when_template_and_worker_die_under_them() -> None:
    """A thread that reads its worker's pipe itself learns of the death without the template's help."""
    with BlockingRuntime([WorkerBackend(1)], strategy="worker") as rt:
        assert rt.run(tasks.add, 1, 2) == 3
        for _ in range(5):
            worker = rt.run(tasks.pid)
            kill(psutil.Process(worker).ppid())
            kill(worker)
            assert rt.run(tasks.add, 1, 2) == 3
