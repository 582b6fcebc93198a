"""`run_python`, and tasks whose source runs in a sandbox: the same answer at every place."""

from __future__ import annotations

import asyncio
import math
import os
import pickle
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from mcp import Client, StdioServerParameters
from mcp.client.stdio import stdio_client

from hybrid_compute.backends.base import Backend
from hybrid_compute.backends.local import LocalBackend
from hybrid_compute.backends.wasm import WasmBackend
from hybrid_compute.backends.worker import WorkerBackend
from hybrid_compute.errors import BackendClosed, LimitExceeded, NotTransferable, TaskFailed, TaskTimeout
from hybrid_compute.runtime import Runtime
from hybrid_compute.sandbox import Limits, Sandbox, run_python
from hybrid_compute.sandbox.shared import shared
from hybrid_compute.sandbox.source import source_of
from hybrid_compute.tasks import Task, task
from tests.cli.command import COMMAND, hybrid_compute
from tests.faults.watching import until, wait_until

pytestmark = [pytest.mark.timeout(180), pytest.mark.usefixtures("prepared")]


@task(sandbox=True)
def score(text: str, *, by: float = 2.0) -> float:
    """Some score."""
    import math

    class Scale:
        one = 1
        two = one + one

    def halved(number: float) -> float:
        return number / Scale.two

    return halved(math.sqrt(len(text)) * by)


@task(sandbox=True)
def where() -> dict[str, Any]:
    import os
    import sys

    return {"platform": sys.platform, "environment": dict(os.environ), "pid": os.getpid()}


@task(sandbox=True)
def fails(number: int) -> int:
    return 1 // number


@task(sandbox=True)
def lies(number: int) -> int:
    return "no number" * number  # type: ignore[return-value]


PLACES: list[Callable[[], Backend]] = [LocalBackend, WasmBackend, lambda: WorkerBackend(size=1)]


@pytest.mark.parametrize("place", PLACES, ids=["local", "wasm", "worker"])
async def test_the_same_at_every_place(place: Callable[[], Backend]) -> None:
    """Programs and functions, their results and their failures."""
    async with Runtime([place()]) as rt:
        assert await rt.run(run_python, "result = sum(input)", [1, 2, 3]) == 6
        assert await rt.run(run_python, "print('only said')") == "only said\n"
        assert await rt.run(score, "abcd") == 2.0
        assert await rt.run(score, "abcd", by=3) == 3.0
        seen = await rt.run(where)
        assert seen == {"platform": "wasi", "environment": {}, "pid": 42}
        with pytest.raises(TaskFailed, match="fails failed: ZeroDivisionError") as caught:
            await rt.run(fails, 0)
        line = fails.fn._fn.__code__.co_firstlineno + 2  # type: ignore[attr-defined]
        assert f'File "<sandbox>", line {line}, in fails' in caught.value.remote_traceback
        with pytest.raises(TaskFailed, match="Expected `int`, got `str`"):
            await rt.run(lies, 1)


def test_a_sandboxed_function_is_still_a_function() -> None:
    """Called at once, with a name, a line and hints; what it computes is what it would compute here."""
    assert score("abcd", by=1.0) == math.sqrt(4) / 2
    assert (score.name, score.kind, score.__doc__) == ("score", "function", "Some score.")
    assert score.where == f"{__file__}:{score.fn._fn.__code__.co_firstlineno}"  # type: ignore[attr-defined]


async def test_the_wasm_place_stops_what_nobody_waits_for() -> None:
    """By a timeout and by a cancellation, within moments."""
    async with Runtime([WasmBackend(threads=1)]) as rt:
        with pytest.raises(TaskTimeout):
            await rt.options(timeout=0.3).run(run_python, "while True: pass")
        forgotten = asyncio.ensure_future(rt.run(run_python, "while True: pass"))
        await until(lambda: len(shared()._running) == 1)
        forgotten.cancel()
        await until(lambda: not shared()._running)
        assert await rt.run(run_python, "result = 1") == 1


async def test_the_wasm_place_tells_the_limit() -> None:
    """As it does for modules."""
    async with Runtime([WasmBackend(threads=1)]) as rt:
        with pytest.raises(LimitExceeded, match=r"Limits\.memory"):
            await rt.run(run_python, "x = 'a' * 10**9")


@pytest.mark.parametrize("place", [LocalBackend, lambda: WorkerBackend(size=1)], ids=["local", "worker"])
async def test_other_places_tell_the_limit_as_the_cause(place: Callable[[], Backend]) -> None:
    """There it is a function as others are, and whatever those raise is the failure of a task."""
    async with Runtime([place()]) as rt:
        with pytest.raises(TaskFailed, match=r"LimitExceeded: .*Limits\.memory") as caught:
            await rt.run(run_python, "x = 'a' * 10**9")
    assert isinstance(caught.value.__cause__, LimitExceeded)


def price(item: str, count: int = 1) -> float:
    """What so many cost.

    In euros.
    """
    return {"apple": 0.5}[item] * count


SMALL = Sandbox(limits=Limits(time=0.3, memory=64 << 20), grants={"price": price}, seed=7, ready=0)
calculate = SMALL.task("calculate")


@task(sandbox=SMALL)
def costs(items: list[str]) -> float:
    while not items:
        pass
    return sum(price(item) for item in items)


@pytest.mark.parametrize("place", PLACES, ids=["local", "wasm", "worker"])
async def test_a_task_has_the_limits_grants_and_seed_of_its_sandbox(place: Callable[[], Backend]) -> None:
    """Of the function or the program, wherever it runs; a worker has a sandbox of its own that is the same."""
    async with Runtime([place()]) as rt:
        assert await rt.run(costs, ["apple", "apple"]) == 1.0
        assert await rt.run(calculate, "result = price('apple', count=input)", 3) == 1.5
        rolled = "import random; result = random.random()"
        assert await rt.run(calculate, rolled) == SMALL.run(rolled) != run_python(rolled)
        for call in (costs, []), (calculate, "while True: pass"):
            with pytest.raises((LimitExceeded, TaskFailed), match=r"its limit of time is 0\.3 s \(Limits\.time\)"):
                await rt.run(*call)


def test_the_description_of_a_tool_says_what_it_may_call() -> None:
    assert calculate.name == "calculate"
    assert "\n    price(item: str, count: int = 1) -> float: What so many cost.\n" in (calculate.fn.__doc__ or "")
    assert "may call" not in (run_python.fn.__doc__ or "")


def test_a_sandbox_travels_as_what_it_was_made_of() -> None:
    """Once to each process, however many calls there are."""
    once, twice = (pickle.loads(pickle.dumps(SMALL)) for _ in range(2))
    assert once is twice is not SMALL
    assert (once.limits, once.grants["price"].fn) == (SMALL.limits, price)
    assert (once._world().seed, once._spare.count) == (7, 0)


def test_clock_and_chance_travel_too() -> None:
    """Those of a sandbox that is to be the same each time, and those of one that is not."""
    source = "import random, time; result = [random.random(), time.time()]"
    for deterministic in True, False:
        with Sandbox(deterministic=deterministic, seed=91, ready=0) as box:
            there = pickle.loads(pickle.dumps(box))
            assert (there.run(source) == box.run(source)) is deterministic
            there.close()


@pytest.mark.parametrize("ready", [1, 3])
def test_how_many_are_to_be_ready_travels_too(ready: int) -> None:
    with Sandbox(seed=91, ready=ready) as box:
        with pickle.loads(pickle.dumps(box)) as there:
            assert there.run("result = 1") == 1
            wait_until(lambda: there.ready == ready)


async def test_a_closed_sandbox_goes_nowhere() -> None:
    """At a worker it would be another one, and open."""
    box = Sandbox(ready=0)
    calculate = box.task("calculate")
    box.close()
    async with Runtime([WorkerBackend(size=1)]) as rt:
        with pytest.raises(NotTransferable, match="cannot go to another process: this sandbox is closed") as caught:
            await rt.run(calculate, "result = 1")
    assert isinstance(caught.value.__cause__, BackendClosed)


TABLE = {"a": 1}


def test_what_is_not_complete_is_refused_when_it_is_defined() -> None:
    """With the names that are missing, and what to do."""
    near = 3

    def of_the_module(key: str) -> int:
        return TABLE[key] + len(os.sep)

    def of_the_function(key: int) -> int:
        return near + key

    def with_default(path: str = os.sep) -> str:
        return path

    async def later() -> None: ...

    def one_by_one() -> Any:
        yield 1

    advice = "import modules inside the function, and pass values as arguments"
    with pytest.raises(TypeError, match=rf"of_the_module .* uses TABLE, os of its module, .*; {advice}"):
        task(sandbox=True)(of_the_module)
    with pytest.raises(TypeError, match=r"of_the_function .* uses near of the function around it"):
        task(sandbox=True)(of_the_function)
    with pytest.raises(TypeError, match=r"with_default .* uses os of its module"):
        task(sandbox=True)(with_default)
    with pytest.raises(TypeError, match="only a plain function"):
        task(sandbox=True)(later)
    with pytest.raises(TypeError, match="a generator"):
        task(sandbox=True)(one_by_one)
    with pytest.raises(TypeError, match="only a plain function"):
        task(sandbox=True)(lambda x: x)
    with pytest.raises(TypeError, match="its source is needed"):
        task(sandbox=True)(eval("lambda x: x"))


def test_the_program_of_a_function_keeps_its_lines() -> None:
    """So that a traceback names the line in the file."""
    lines = source_of(fails.fn._fn).splitlines()  # type: ignore[attr-defined]
    at = fails.fn._fn.__code__.co_firstlineno  # type: ignore[attr-defined]
    assert lines[at] == "def fails(number: int) -> int:"
    assert not any(lines[:at])


def test_importing_it_loads_no_engine() -> None:
    """Who has tasks for a sandbox pays for it when one is called."""
    code = "import sys, hybrid_compute.sandbox; print([m for m in ('wasmtime', 'numpy', 'rich') if m in sys.modules])"
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert ran.stdout == "[]\n"


def test_run_python_is_a_task_that_travels_by_its_name() -> None:
    """Like any task of a module."""
    assert isinstance(run_python, Task)
    assert run_python.reference == ("hybrid_compute.sandbox.shared", "run_python")
    assert run_python.tool


async def test_it_is_a_tool_for_a_language_model() -> None:
    """Over MCP, by the command that any client can start."""
    program, *typed = COMMAND
    arguments = [*typed, "mcp", "hybrid_compute.sandbox"]
    server = StdioServerParameters(command=program, args=arguments, env=dict(os.environ))
    with Path(os.devnull).open("w") as errors:
        async with Client(stdio_client(server, errlog=errors)) as client:
            [tool] = (await client.list_tools()).tools
            assert tool.name == "run_python"
            assert "leaves its answer in the variable `result`" in (tool.description or "")
            assert set(tool.input_schema["properties"]) == {"source", "input"}
            answer = await client.call_tool("run_python", {"source": "result = sum(input)", "input": [1, 2, 3]})
            assert answer.structured_content == {"result": 6}
            failed = await client.call_tool("run_python", {"source": "1 / 0"})
            assert failed.is_error
            assert "ZeroDivisionError: division by zero" in str(failed.content)
            spent = await client.call_tool("run_python", {"source": "x = 'a' * 10**9"})
            assert "its limit of memory is 256 MiB" in str(spent.content)


def test_the_command_says_that_it_is_ready() -> None:
    """What is there is not made again."""
    ran = hybrid_compute("sandbox", "prepare")
    assert (ran.returncode, ran.stdout) == (0, "The Python sandbox is ready.\n")
