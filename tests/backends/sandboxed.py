"""The tasks of other tests as a sandbox runs them: the same promises, kept by code that is not trusted.

Most are Python in a sandbox. What is called by the hundred is a function of a WASM module; so is what must be seen from
outside, by the functions that it is granted, for a sandbox has no files.
"""

from __future__ import annotations

import os
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from hybrid_compute import WasmBackend, WasmModule, task
from hybrid_compute.calls import Call
from hybrid_compute.tasks import AnyTask
from hybrid_compute.testing import tasks

# what a task raises is the same as in the contract's own


@task(sandbox=True, name="contract.echo")
def echo(value: Any) -> Any:
    return value


@task(sandbox=True, name="contract.fail")
def fail(text: str) -> None:
    try:
        raise KeyError("the cause")
    except KeyError as cause:
        error = ValueError(text)
        error.add_note("a note for the reader")
        raise error from cause


@task(sandbox=True, name="contract.fail_peculiarly")
def fail_peculiarly(text: str) -> None:
    class Peculiar(Exception):
        def __init__(self, text: str, number: int) -> None:
            super().__init__(text)

    raise Peculiar(text, 7)


@task(sandbox=True, name="contract.run_out")
def run_out() -> object:
    return next(iter(()))


@task(sandbox=True, name="contract.be_late")
def be_late() -> None:
    raise TimeoutError("the printer does not answer")


@task(sandbox=True, name="contract.leave")
def leave() -> None:
    import sys

    sys.exit("enough")


@task(sandbox=True, name="abs")
def absolute(number: int) -> int:
    return abs(number)


REACHING = WasmModule.from_wat("""
(module
  (import "host" "begin" (func $begin (param i32 i32)))
  (import "host" "may_go" (func $may_go (param i32 i32) (result i32)))
  (import "host" "append" (func $append (param i32 i32 i32 i32)))
  (memory (export "memory") 1)
  (data (i32.const 0) "done")
  (global $next (mut i32) (i32.const 64))
  (func (export "add") (param i64 i64) (result i64) (i64.add (local.get 0) (local.get 1)))
  (func (export "alloc") (param i32) (result i32)
    (drop (memory.grow (i32.add (i32.const 1) (i32.shr_u (local.get 0) (i32.const 16)))))
    (global.get $next)
    (global.set $next (i32.add (global.get $next) (local.get 0))))
  (func (export "nothing"))
  (func (export "same_float") (param f64) (result f64) (local.get 0))
  (func (export "same") (param i32 i32) (result i32 i32) (local.get 0) (local.get 1))
  (func (export "hold") (param i32 i32) (result i64)
    (call $begin (local.get 0) (local.get 1))
    (loop $wait (br_if $wait (i32.eqz (call $may_go (local.get 0) (local.get 1)))))
    (i64.const 4))
  (func (export "append") (param i32 i32 i32 i32)
    (call $append (local.get 0) (local.get 1) (local.get 2) (local.get 3))))
""")


def begin(folder: str) -> None:
    Path(folder, "begun").touch()


def may_go(folder: str) -> bool:
    Path(folder, "alive").write_text(str(time.monotonic()))
    return Path(folder, "go").exists()


def append_line(path: str, line: str) -> None:
    with open(path, "ab", buffering=0) as file:
        file.write(f"{line}\n".encode())


GRANTS = {"begin": begin, "may_go": may_go, "append": append_line}


@REACHING.task(grants=GRANTS, name="contract.add", pure=True)
def add(a: int, b: int = 0) -> int: ...  # type: ignore[empty-body]


@REACHING.task(grants=GRANTS, name="contract.nothing")
def nothing() -> None: ...


@REACHING.task(grants=GRANTS, export="same", name="contract.echo")
def echo_text(value: str) -> str: ...  # type: ignore[empty-body]


@REACHING.task(grants=GRANTS, export="same", name="contract.echo")
def echo_bytes(value: bytes) -> bytes: ...  # type: ignore[empty-body]


@REACHING.task(grants=GRANTS, export="same_float", name="contract.echo")
def echo_float(value: float) -> float: ...  # type: ignore[empty-body]


ECHOES = {str: echo_text, bytes: echo_bytes, float: echo_float}
"""What a module can take, it echoes; the rest Python does."""


@REACHING.task(grants=GRANTS, name="contract.hold")
def hold(folder: str) -> str: ...  # type: ignore[empty-body]


@REACHING.task(grants=GRANTS, name="contract.append")
def append(path: str, line: str) -> None: ...


@REACHING.task(grants=GRANTS, export="hold", name="hold")
def hold_too(folder: str) -> str: ...  # type: ignore[empty-body]


def getpid() -> int:
    return os.getpid()


ASKING = WasmModule.from_wat("""
(module (import "host" "getpid" (func $getpid (result i32))) (func (export "pid") (result i32) (call $getpid)))
""")


@ASKING.task(grants={"getpid": getpid})
def pid() -> int: ...  # type: ignore[empty-body]


@task(sandbox=True, name="_exit")
def leave_at_once(code: int) -> None:
    import os

    os._exit(code)


@task(sandbox=True, name="add")
def add_too(a: int, b: int) -> int:
    return a + b


@task(sandbox=True, private=True)
def secret() -> str:
    return "sesame"


@task(sandbox=True)
def spy(path: str) -> str:
    with open(path) as file:
        return file.read()


TWINS = {
    each.name: each
    for each in (
        *(absolute, add, append, be_late, echo, fail, fail_peculiarly, hold, leave, nothing, run_out),
        *(add_too, hold_too, leave_at_once, pid, secret, spy),
    )
}


class Twins(WasmBackend):
    """A sandbox that runs, for each task that it knows, the one of the same name above."""

    def can_run(self, task: AnyTask, /) -> bool:
        return task.name in TWINS

    async def run_call(self, call: Call, /) -> Any:
        return await super().run_call(_twin(call))

    async def run_batch(self, call: Call, inputs: Sequence[tuple[Any, ...]], limit: int | None, /) -> list[Any]:
        return await super().run_batch(_twin(call), inputs, limit)


def _twin(call: Call) -> Call:
    task = TWINS[call.task.name]
    if task is echo and call.args:
        task = ECHOES.get(type(call.args[0]), task)
    twin = Call(task, call.args, call.kwargs)
    twin.timeout, twin.deadline = call.timeout, call.deadline
    return twin


assert {tasks.add.name, tasks.hold.name} < TWINS.keys()
