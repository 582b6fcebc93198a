"""A small program, run where it can do no harm: until its first answer, again and again, and what that holds.

A fresh `python -I` for each program is what people do without a sandbox; it keeps programs apart, but not from the
machine. Pyodide in Node is another CPython in WebAssembly, which can be given JavaScript and with it everything.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from typing import Any

from benchmarks import pyodide
from benchmarks.harness import Group
from benchmarks.lazy import Lazy
from benchmarks.machine import pss
from benchmarks.measure import Effort, Figures, Series, time_calls

hc: Any = Lazy("hybrid_compute.sandbox")

FIRST = "first answer of a new process"
CALL = "one program after the other"
READY = "one program, with an interpreter ready"
LOOP = "a loop of 300,000 turns"
MEMORY = "memory of each, after its first program"
OURS = "Sandbox"
FRESH_PYTHON = "python -I, a new process for each"

group = Group("sandbox", "A program that is not trusted")

PROGRAM = "result = sum(input)"
NUMBERS = [1, 2, 3]
SPIN = """
state = 1
for turn in range(300_000):
    state ^= (state << 13) & 0xFFFFFFFF
    state ^= state >> 17
    state = (state + turn) & 0xFFFFFFFF
result = state
"""
_HELD = 10


@group.limit("exec in this process", CALL, LOOP)
def plain(effort: Effort) -> Figures:
    def run(source: str) -> Any:
        names: dict[str, Any] = {"input": NUMBERS}
        exec(compile(source, "<program>", "exec"), names)
        return names["result"]

    return {
        CALL: time_calls(lambda: run(PROGRAM), effort, unit="ms"),
        LOOP: time_calls(lambda: run(SPIN), effort, unit="ms"),
    }


@group.ours(OURS, CALL, READY, LOOP)
def ours(effort: Effort) -> Figures:
    with hc.Sandbox() as sandbox:
        assert sandbox.run(PROGRAM, NUMBERS) == 6
        call = time_calls(lambda: sandbox.run(PROGRAM, NUMBERS), effort, unit="ms")
        loop = time_calls(lambda: sandbox.run(SPIN), effort, unit="ms")
        ready = [_when_ready(sandbox) for _ in range(max(min(effort.calls // 30, 100), 1))]
    return {CALL: call, LOOP: loop, READY: Series.of(ready, "ms")}


def _when_ready(sandbox: Any) -> float:
    while sandbox.ready < 2:
        time.sleep(0.001)
    start = time.perf_counter()
    sandbox.run(PROGRAM, NUMBERS)
    return (time.perf_counter() - start) * 1000


@group.ours(OURS, MEMORY)
def our_memory(effort: Effort) -> Figures:
    """Of sandboxes that are alive at once, beyond the first, which brings what all of them share."""
    from hybrid_compute.sandbox.box import Box, Job
    from hybrid_compute.sandbox.interpreter import interpreter
    from hybrid_compute.wasm.leash import Leash

    def one() -> Any:
        box = Box(interpreter(), hc.Limits())
        box.run(Job(PROGRAM, NUMBERS), Leash())
        return box

    kept = [one()]
    before = pss(os.getpid())
    kept += [one() for _ in range(_HELD)]
    return {MEMORY: Series.of([(pss(os.getpid()) - before) / _HELD], "MB")}


OUR_FIRST = f"from hybrid_compute.sandbox import Sandbox; print(Sandbox(ready=0).run({PROGRAM!r}, {NUMBERS}))"
OF_OUR_FIRST = [sys.executable, "-c", OUR_FIRST]
THEIRS = [sys.executable, "-I", "-c"]


@group.ours(OURS, FIRST)
def our_first(effort: Effort) -> Figures:
    return {FIRST: time_calls(lambda: _answers(OF_OUR_FIRST, "6"), effort, unit="ms")}


@group.peer(FRESH_PYTHON, FIRST, CALL, READY, LOOP, MEMORY)
def fresh_python(effort: Effort) -> Figures:
    first = time_calls(lambda: _answers([*THEIRS, _alone(PROGRAM)], "6"), effort, unit="ms")
    loop = time_calls(
        lambda: subprocess.run([*THEIRS, _alone(SPIN)], capture_output=True, check=True), effort, unit="ms"
    )
    memory = _held([*THEIRS, f"{_alone(PROGRAM)}\nsys.stdout.flush(); sys.stdin.read()"])
    return {FIRST: first, CALL: first, READY: first, LOOP: loop, MEMORY: memory}


@group.peer("pyodide in node", FIRST, MEMORY, slow=True)
def pyodide_alone(effort: Effort) -> Figures:
    first = pyodide.command("first", PROGRAM)
    return {
        FIRST: time_calls(lambda: _answers(first, "6"), effort, unit="ms", warm=True),
        MEMORY: _held(pyodide.command("hold", PROGRAM)),
    }


@group.peer("pyodide, one interpreter for all", CALL, LOOP, slow=True)
def pyodide_shared(effort: Effort) -> Figures:
    return {
        CALL: _told(pyodide.command("calls", PROGRAM, effort.calls, effort.seconds)),
        LOOP: _told(pyodide.command("calls", SPIN, effort.calls, effort.seconds)),
    }


@group.peer("pyodide, a new interpreter for each", CALL, slow=True)
def pyodide_fresh(effort: Effort) -> Figures:
    return {CALL: _told(pyodide.command("fresh", PROGRAM, effort.calls, effort.seconds))}


def _alone(source: str) -> str:
    """The program with its input, and an answer that others can read."""
    return f"import json, sys\ninput = json.loads({json.dumps(NUMBERS)!r})\n{source}\nprint(json.dumps(result))"


def _answers(command: list[str], expected: str) -> None:
    said = subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()
    if said != expected:
        raise RuntimeError(f"{command[0]} answered {said!r}, not {expected}")


def _held(command: list[str]) -> Series:
    """The memory of one process that has answered, and is kept."""
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        process.stdout.readline()
        held = pss(process.pid)
        process.kill()
    return Series.of([held], "MB")


def _told(command: list[str]) -> Series:
    samples = json.loads(subprocess.run(command, capture_output=True, text=True, check=True).stdout)
    return Series.of((sample / 1000 for sample in samples), "ms")
