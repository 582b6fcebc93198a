"""`docs/support.md` is true: each cell is compared with what its place really does.

The table is the list of tests. The last column names a function of this module, which finds out whether a place can do
what its row says.
"""

import asyncio
import contextvars
import functools
import os
import subprocess
import sys
import threading
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Generator, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any, TypeAlias

import pytest

from hybrid_compute import LocalBackend, QueueLimits, RemoteBackend, Runtime, WorkerBackend, empty, progress, task
from hybrid_compute.backends.base import Backend
from hybrid_compute.errors import (
    HybridComputeError,
    LimitExceeded,
    NoBackendAvailable,
    NotTransferable,
    TaskFailed,
    TaskTimeout,
)
from hybrid_compute.events import Event, Progress
from hybrid_compute.tasks import TaskRegistry
from tests.backends.sandboxed import Twins
from tests.backends.shaded import make_gpu
from tests.server.serving import serving

PAGE = Path(__file__).parents[1] / "docs" / "support.md"

Place: TypeAlias = Callable[[], Backend]
Check: TypeAlias = Callable[[Place, Path], Awaitable[bool]]


def make_local() -> Backend:
    return LocalBackend(threads=1)


def make_worker() -> Backend:
    return WorkerBackend(1)


def make_portable() -> Backend:
    return WorkerBackend(1, portable=True)


def make_wasm() -> Backend:
    return Twins(threads=1)


def make_remote() -> Backend:
    return RemoteBackend(server())


PLACES: dict[str, Place] = {
    "local": make_local,
    "worker": make_worker,
    "portable": make_portable,
    "wasm": make_wasm,
    "gpu": make_gpu,
    "remote": make_remote,
}
CHECKS: dict[str, Check] = {}


SERVERS = ExitStack()


@functools.cache
def server() -> str:
    """The address of a server of the tasks below, which runs until `SERVERS` are closed."""
    tasks = TaskRegistry.of(sys.modules[__name__])
    for fn in (abs, repr, os._exit):
        tasks.add(fn)
    return SERVERS.enter_context(serving(tasks)).socket_url


@pytest.fixture(autouse=True, scope="module")
def _stopped() -> Generator[None]:
    with SERVERS:
        yield


def check(found_out: Check) -> Check:
    CHECKS[found_out.__name__] = found_out  # type: ignore[attr-defined]
    return found_out


def table() -> list[tuple[str, str, bool]]:
    """`(check, place, whether the page says yes)` for each cell."""
    found: list[tuple[str, str, bool]] = []
    head, _, *rows = [line for line in PAGE.read_text().splitlines() if line.startswith("|")]
    _, *places, _ = cells(head)
    for row in rows:
        _, *answers, name = cells(row)
        for place, answer in zip(places, answers, strict=True):
            assert answer in ("yes", "no"), row
            found.append((name.strip("`"), place, answer == "yes"))
    return found


def cells(line: str) -> list[str]:
    return [cell.strip() for cell in line[1:].rstrip("|").split("|")]


@pytest.mark.timeout(180)  # the first run on a machine makes the interpreter of sandboxes
@pytest.mark.usefixtures("prepared")
@pytest.mark.parametrize(("name", "place", "promised"), table())
async def test_a_cell_says_what_the_place_does(name: str, place: str, promised: bool, tmp_path: Path) -> None:
    """Yes means that it was seen to happen, no that it was seen not to."""
    if place == "gpu":
        make_gpu()  # skips, also what is found out by another program, where there is none
    async with asyncio.timeout(40):
        try:
            does = await CHECKS[name](PLACES[place], tmp_path)
        except NoBackendAvailable:  # it says itself that it does not
            does = False
        assert does == promised


def test_every_check_has_its_row() -> None:
    """Nothing is found out and then not told."""
    assert sorted(CHECKS) == sorted({name for name, _, _ in table()})


# Tasks


@task
def pid() -> int:
    return os.getpid()


@task(private=True)
def secret() -> str:
    return "sesame"


@task
def add(a: int, b: int) -> int:
    return a + b


@task
def hold(folder: str) -> None:
    """Say that it has begun, then wait for the word to go on; at most half a minute."""
    Path(folder, "begun").touch()
    until = time.monotonic() + 30
    while not Path(folder, "go").exists() and time.monotonic() < until:
        time.sleep(0.002)
        Path(folder, "alive").write_text(str(time.monotonic()))


@task
async def meet(folder: str, name: str, other: str) -> bool:
    """Wait until the other is here too: nobody gets through alone."""
    Path(folder, name).touch()
    while not Path(folder, other).exists():  # noqa: ASYNC110  # the other may be in another process
        await asyncio.sleep(0.002)
    return True


@task
async def sleep_and_tell(folder: str) -> None:
    Path(folder, "begun").touch()
    try:
        await asyncio.sleep(30)
    except asyncio.CancelledError:
        Path(folder, "stopped").touch()
        raise


@task
def count(upto: int) -> Iterator[int]:
    yield from range(upto)


@task
async def count_async(upto: int) -> AsyncIterator[int]:
    for number in range(upto):
        yield number


@task
def count_into(folder: str) -> Iterator[int]:
    """Count, and say in a file how far."""
    for number in range(100_000):
        Path(folder, "produced").write_text(str(number))
        yield number


@task
def report() -> None:
    progress(1, 2, "half")


@task
def filled(size: int) -> Any:
    made = empty(size)
    made[:] = 1
    return made


@task
def first(values: Any) -> float:
    return float(values[0])


@task
def spy(path: str) -> str:
    return Path(path).read_text()


async def appears(path: Path) -> None:
    while not path.exists():  # noqa: ASYNC110  # another process makes it
        await asyncio.sleep(0.002)


async def begins(call: asyncio.Task[Any], folder: Path) -> None:
    """Wait until a task says that it has begun; a call that no place takes raises what it has to say."""
    begun = asyncio.create_task(appears(folder / "begun"))
    await asyncio.wait([call, begun], return_when=asyncio.FIRST_COMPLETED)
    begun.cancel()
    if call.done():
        await call


async def goes_on(folder: Path) -> bool:
    """Whether a held task is still at it: whether it signs once more within a second."""
    await asyncio.sleep(0.2)  # for the word to reach a place that is not this machine
    (folder / "alive").unlink(missing_ok=True)
    try:
        async with asyncio.timeout(1):
            await appears(folder / "alive")
    except TimeoutError:
        return False
    finally:
        (folder / "go").touch()
    return True


# What places do


@check
async def runs_functions(make: Place, folder: Path) -> bool:
    captured = 40
    async with Runtime([make()]) as rt:
        try:
            return await rt.run(lambda x: x + captured, 2) == await rt.run(add, 40, 2) == 42
        except NoBackendAvailable:
            return False


@check
async def runs_coroutines_side_by_side(make: Place, folder: Path) -> bool:
    async with Runtime([make()]) as rt:
        return all(await asyncio.gather(rt.run(meet, str(folder), "a", "b"), rt.run(meet, str(folder), "b", "a")))


@check
async def streams_generators(make: Place, folder: Path) -> bool:
    async with Runtime([make()]) as rt, rt.stream(count, 3) as items:
        return [item async for item in items] == [0, 1, 2]


@check
async def streams_async_generators(make: Place, folder: Path) -> bool:
    async with Runtime([make()]) as rt, rt.stream(count_async, 3) as items:
        return [item async for item in items] == [0, 1, 2]


@check
async def holds_back_a_stream(make: Place, folder: Path) -> bool:
    async with Runtime([make()]) as rt, rt.stream(count_into, str(folder)) as items:
        async for item in items:
            if item == 10:
                break
        # A producer that nobody holds back goes on; one that is held back comes to rest.
        before, now = "", "0"
        while before != now and int(now or 0) < 1000:
            before = now
            await asyncio.sleep(0.2)
            now = (folder / "produced").read_text()
        return int(now) < 1000


@check
async def reports_progress(make: Place, folder: Path) -> bool:
    seen: list[Event] = []
    async with Runtime([make()], hooks=[seen.append]) as rt:
        await rt.run(report)
        await asyncio.sleep(0)  # a thread hands it to the loop
    return [(each.done, each.total, each.note) for each in seen if isinstance(each, Progress)] == [(1, 2, "half")]


@check
async def runs_elsewhere(make: Place, folder: Path) -> bool:
    async with Runtime([make()]) as rt:
        return await rt.run(pid) != os.getpid()


CRASH = """
import asyncio, os
from hybrid_compute.errors import NoBackendAvailable, TaskFailed, WorkerLost
from hybrid_compute.runtime import Runtime
from tests.test_support import SERVERS, {make}

async def main():
    async with Runtime([{make}()]) as rt:
        try:
            await rt.run(os._exit, 7)
        except (TaskFailed, WorkerLost):
            print(await rt.run(abs, -42))
        except NoBackendAvailable:
            os._exit(7)

if __name__ == "__main__":
    with SERVERS:
        asyncio.run(main())
"""


@check
async def survives_a_crash(make: Place, folder: Path) -> bool:
    # In a program of its own, for it may not.
    command = [sys.executable, "-c", CRASH.format(make=make.__name__)]  # type: ignore[attr-defined]
    program = await asyncio.create_subprocess_exec(*command, cwd=PAGE.parents[1], stdout=subprocess.PIPE)
    printed, _ = await program.communicate()
    assert (program.returncode, printed) in [(0, b"42\n"), (7, b"")]
    return program.returncode == 0


@check
async def contains(make: Place, folder: Path) -> bool:
    (folder / "secret").write_text("sesame")
    async with Runtime([make()]) as rt:
        try:
            return await rt.run(spy, str(folder / "secret")) != "sesame"
        except TaskFailed as error:
            return isinstance(error.__cause__, FileNotFoundError)


@check
async def stops_a_function_in_time(make: Place, folder: Path) -> bool:
    async with Runtime([make()]) as rt:
        await rt.run(pid)  # so that what counts is not the start of the place
        with pytest.raises(TaskTimeout):
            await rt.options(timeout=0.3).run(hold, str(folder))
        return not await goes_on(folder)


@check
async def stops_a_cancelled_function(make: Place, folder: Path) -> bool:
    async with Runtime([make()]) as rt:
        call = asyncio.create_task(rt.run(hold, str(folder)))
        await begins(call, folder)
        call.cancel()
        await asyncio.wait([call])
        return not await goes_on(folder)


@check
async def stops_a_cancelled_coroutine(make: Place, folder: Path) -> bool:
    async with Runtime([make()]) as rt:
        call = asyncio.create_task(rt.run(sleep_and_tell, str(folder)))
        await begins(call, folder)
        call.cancel()
        await appears(folder / "stopped")
        return True


@check
async def sends_batches(make: Place, folder: Path) -> bool:
    place = make()
    async with Runtime([place]) as rt:
        assert await rt.map(abs, range(-9, 0)) == list(range(9, 0, -1))
    return place.batches


@check
async def goes_by_priority(make: Place, folder: Path) -> bool:
    order: list[int] = []

    async def call(rt: Runtime, priority: int) -> None:
        await rt.options(priority=priority).run(pid)
        order.append(priority)

    async with Runtime([make()]) as rt:
        held = asyncio.create_task(rt.run(hold, str(folder)))
        await begins(held, folder)
        calls = [asyncio.create_task(call(rt, priority)) for priority in (0, 1, 2)]
        await asyncio.sleep(0)
        (folder / "go").touch()
        await asyncio.gather(held, *calls)
    return order == [2, 1, 0]


@check
async def gives_up_waiting(make: Place, folder: Path) -> bool:
    async with Runtime([make()]) as rt:
        held = asyncio.create_task(rt.run(hold, str(folder)))
        await begins(held, folder)
        # Either it gives up, or it waits until it is let through.
        asyncio.get_running_loop().call_later(1.0, (folder / "go").touch)
        try:
            await rt.options(queue_timeout=0.05).run(pid)
            gave_up = False
        except LimitExceeded:
            gave_up = True
        (folder / "go").touch()
        await held
        return gave_up


@check
async def bounds_its_queue(make: Place, folder: Path) -> bool:
    place = make()
    if isinstance(place, WorkerBackend):
        place = WorkerBackend(1, queue=QueueLimits(calls=1, when_full="raise"), portable=make is make_portable)
    async with Runtime([place]) as rt:
        held = asyncio.create_task(rt.run(hold, str(folder)))
        await begins(held, folder)
        asyncio.get_running_loop().call_later(0.3, (folder / "go").touch)
        answers = await asyncio.gather(*(rt.run(pid) for _ in range(5)), return_exceptions=True)
        await held
    return any(isinstance(answer, LimitExceeded) for answer in answers)


@check
async def moves_arrays_without_a_copy(make: Place, folder: Path) -> bool:
    pytest.importorskip("numpy")
    async with Runtime([make()]) as rt:
        made = await rt.run(filled, 1 << 20)
        assert await rt.run(first, made) == 1
        stats = rt.stats()
        there, back = (next(iter(stats[name].values())) for name in ("first", "filled"))
    return there.sent < 1000 and back.received < 1000


@check
async def takes_anything(make: Place, folder: Path) -> bool:
    async with Runtime([make()]) as rt:
        try:
            return await rt.run(repr, threading.Lock()) != ""
        except NotTransferable:
            return False


NOBODY = "nobody"
user: contextvars.ContextVar[str] = contextvars.ContextVar("user", default=NOBODY)


@task
def who() -> str:
    return user.get()


@check
async def shows_context_variables(make: Place, folder: Path) -> bool:
    user.set("somebody")
    async with Runtime([make()]) as rt:
        return await rt.run(who) == "somebody"


async def takes(make: Place, *needs: str) -> bool:
    async with Runtime([make()]) as rt:
        try:
            return await rt.run(task(needs=needs)(abs), -1) == 1
        except NoBackendAvailable:
            return False


@check
async def provides_cpu(make: Place, folder: Path) -> bool:
    return await takes(make, "cpu")


@check
async def provides_process(make: Place, folder: Path) -> bool:
    return await takes(make, "process")


@check
async def provides_this_process(make: Place, folder: Path) -> bool:
    return await takes(make, "thread", "in-process")


@check
async def provides_a_gpu(make: Place, folder: Path) -> bool:
    return await takes(make, "gpu")


@check
async def runs_private_tasks(make: Place, folder: Path) -> bool:
    async with Runtime([make()]) as rt:
        try:
            return await rt.run(secret) == "sesame"
        except HybridComputeError:
            return False
