"""`hybrid-compute doctor`: what works on this machine, what does not and why, and how quick each place is.

Nothing is taken on trust: every part of the fast path is tried, and every place has to run real calls and say in
which process they ran.
"""

from __future__ import annotations

import asyncio
import importlib.metadata
import importlib.util
import os
import platform
import signal
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from statistics import median, quantiles
from time import perf_counter
from typing import Any

import msgspec

from hybrid_compute.backends.base import Backend
from hybrid_compute.backends.local import LocalBackend
from hybrid_compute.backends.worker import WorkerBackend, has_fast_path, usable_cores
from hybrid_compute.cli import screen
from hybrid_compute.cli.exits import PlacesFailed
from hybrid_compute.runtime import Runtime
from hybrid_compute.tasks import AnyTask, task
from hybrid_compute.timings import duration

CALLS = 500
PATIENCE = 20.0
"""Seconds after which a place that has not answered is said not to work."""
OPTIONAL = {"click": "cli", "rich": "cli", "uvloop": "uvloop", "numpy": ""}
"""Optional libraries, and the extra that brings each."""


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing looked at. `fine` is None where it makes no difference."""

    what: str
    fine: bool | None
    text: str


@dataclass(frozen=True, slots=True)
class Place:
    """One place: seconds to its first result, and of the calls after it; or why it does not work."""

    name: str
    first: float | None = None
    typical: float | None = None
    slow: float | None = None
    why_not: str = ""


@dataclass(frozen=True, slots=True)
class Diagnosis:
    """All that the doctor found."""

    machine: list[Finding]
    fast_path: list[Finding]
    libraries: list[Finding]
    places: list[Place]
    gpus: list[Finding] = field(default_factory=list)


@task(cost="trivial")
def where_trivial() -> int:
    """The process this runs in; in a runtime's own process, right in its event loop."""
    return os.getpid()


@task
def where() -> int:
    """The process this runs in."""
    return os.getpid()


@task
async def where_coroutine() -> int:
    """The process this runs in, as a coroutine."""
    return os.getpid()


async def examine() -> Diagnosis:
    """Look at everything, one after the other."""
    places = [
        await measure("local, in the event loop", LocalBackend(), where_trivial),
        await measure("local, coroutine", LocalBackend(), where_coroutine),
        await measure("local, in a thread", LocalBackend(), where),
        await measure("worker", WorkerBackend(), where),
        await measure("worker, coroutine", WorkerBackend(), where_coroutine),
    ]
    if has_fast_path():
        places.append(await measure("worker, portable path", WorkerBackend(portable=True), where))
    # Only now: drivers of gpus start threads, and a process that has some is no good to fork workers from.
    return Diagnosis(list(_machine()), list(_fast_path()), list(_libraries()), places, list(_gpus()))


async def measure(name: str, backend: Backend, where: AnyTask) -> Place:
    """Real calls at one place: how long the first takes, and those after it; or what went wrong."""
    laps: list[float] = []
    try:
        async with asyncio.timeout(PATIENCE), Runtime([backend], strategy=backend.name) as rt:
            for _ in range(1 + CALLS):
                began = perf_counter()
                pid = await rt.run(where)
                laps.append(perf_counter() - began)
                if (pid == os.getpid()) == backend.isolates:
                    return Place(name, why_not=f"it ran in process {pid}, and this is process {os.getpid()}")
    except Exception as error:  # whatever is wrong with a place is what the doctor is here to say
        return Place(name, why_not=" ".join(f"{type(error).__name__}: {error}".split()))
    return Place(name, laps[0], median(laps[1:]), quantiles(laps[1:], n=20)[-1])


def _machine() -> Iterator[Finding]:
    yield Finding("hybrid-compute", None, importlib.metadata.version("hybrid-compute"))
    yield Finding("python", None, f"{platform.python_implementation()} {platform.python_version()} ({sys.executable})")
    yield Finding("system", None, f"{platform.system()} {platform.release()}, {platform.machine()}")
    yield Finding("cores", None, f"{usable_cores()} of {os.cpu_count()}")
    way = "forked from a template process" if has_fast_path() else "started one by one (portable path)"
    yield Finding("workers are", None, way)


def _fast_path() -> Iterator[Finding]:
    yield Finding("linux", sys.platform == "linux", f"this is {sys.platform}")
    yield _tried("memfd_create", "shared memory without a name", _try_memfd)
    yield _tried("pidfd_open", "sure aim at a process", _try_pidfd)
    yield _tried("O_ASYNC", "workers that never outlive their parent", _try_async)


def _tried(what: str, purpose: str, attempt: Callable[[], Any]) -> Finding:
    try:
        attempt()
    except (AttributeError, ImportError, OSError) as error:
        return Finding(what, False, f"{purpose}: {error}")
    return Finding(what, True, purpose)


def _try_memfd() -> None:
    os.close(os.memfd_create("hybrid-compute-doctor"))


def _try_pidfd() -> None:
    os.close(os.pidfd_open(os.getpid()))


def _try_async() -> None:
    import fcntl

    reading, writing = os.pipe()
    try:
        fcntl.fcntl(reading, fcntl.F_SETOWN, os.getpid())
        if not hasattr(signal, "SIGIO"):
            raise OSError("there is no SIGIO")
    finally:
        os.close(reading)
        os.close(writing)


def _libraries() -> Iterator[Finding]:
    for name, extra in OPTIONAL.items():
        if importlib.util.find_spec(name) is None:
            install = f"hybrid-compute[{extra}]" if extra else name
            yield Finding(name, None, f"not installed: install {install} to use it")
        else:
            yield Finding(name, True, importlib.metadata.version(name))


def _gpus() -> Iterator[Finding]:
    """Those that tasks could run on. Not to have one is no fault."""
    from hybrid_compute.errors import BackendUnavailable
    from hybrid_compute.gpu.adapters import adapters as known
    from hybrid_compute.gpu.adapters import choose

    try:
        choose()
    except BackendUnavailable as error:
        yield Finding("none", None, str(error))
        return
    for each in known():
        slow = ", slower than the processor itself: for tests" if each.is_software else ""
        yield Finding(each.api, None if each.is_software else True, f"{each.name}, {each.kind}, {each.driver}{slow}")


def show(found: Diagnosis) -> None:
    """Print it for a person."""
    console = screen.console()
    for title, findings in (
        ("This machine", found.machine),
        ("The fast path", found.fast_path),
        ("Optional libraries", found.libraries),
        ("Gpus", found.gpus),
    ):
        console.print(f"\n{title}", style="bold")
        for each in findings:
            console.print(f"  {_MARK[each.fine]} {each.what:<14} {each.text}", style=_STYLE[each.fine])
    shown = screen.table("place", "first result", "typical", "slow (p95)", title="\nPlaces")
    for place in found.places:
        if place.first is None or place.typical is None or place.slow is None:
            shown.add_row(f"✗ {place.name}", place.why_not, style="red")
        else:
            times = map(duration, (place.first, place.typical, place.slow))
            shown.add_row(f"✓ {place.name}", *times)
    console.print(shown)


_MARK = {True: "✓", False: "✗", None: "·"}
_STYLE = {True: None, False: "red", None: None}


def as_json(found: Diagnosis) -> bytes:
    return msgspec.json.format(msgspec.json.encode(found), indent=2)


def insist(found: Diagnosis) -> None:
    """Raise `PlacesFailed` if a place does not work."""
    broken = [place.name for place in found.places if place.why_not]
    if broken:
        raise PlacesFailed(f"these places do not work here: {'; '.join(broken)}")
