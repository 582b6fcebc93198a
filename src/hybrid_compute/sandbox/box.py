"""A box: one interpreter, which runs one program and is thrown away."""

from __future__ import annotations

import base64
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from hybrid_compute.errors import InvalidInput, LimitExceeded, TaskFailed
from hybrid_compute.sandbox import components, grants
from hybrid_compute.sandbox.answers import Outcome, exceeded, outcome_of
from hybrid_compute.sandbox.imports import Caller
from hybrid_compute.sandbox.interpreter import Interpreter
from hybrid_compute.sandbox.limits import Limits
from hybrid_compute.sandbox.prepare import PROFILE
from hybrid_compute.sandbox.values import tagged
from hybrid_compute.sandbox.worlds import World, fixed
from hybrid_compute.schema import encode_json
from hybrid_compute.tasks import AnyTask
from hybrid_compute.wasm import capi, mappings
from hybrid_compute.wasm.held import Held
from hybrid_compute.wasm.leash import Leash
from hybrid_compute.wasm.limits import MOST, in_units
from hybrid_compute.wasm.limits import Limits as HeldLimits
from hybrid_compute.wasm.signals import insist_on_handlers


@dataclass(frozen=True, slots=True)
class Job:
    """A program, and what it is given. `name` is what errors call it."""

    source: str
    input: Any = None
    files: Mapping[str, str | bytes] = field(default_factory=dict)
    grants: Mapping[str, AnyTask] = field(default_factory=dict)
    world: World = field(default_factory=lambda: fixed(0))
    name: str = "the program"
    function: str | None = None
    """Of a source that defines one: it is called with the `args` and `kwargs` of the input."""
    returns: Sequence[str] = ()
    """The types that its result may have parts of, besides those of JSON."""

    def __post_init__(self) -> None:
        if not isinstance(self.source, str):
            raise InvalidInput(f"the source of {self.name} must be a text, not of type {type(self.source).__name__}")

    def encoded(self, limits: Limits) -> tuple[str, str]:
        """The job and the input, as the runner inside reads them. Raises `NotTransferable` or `InvalidInput`."""
        as_bytes = isinstance(self.input, bytes | bytearray | memoryview)
        job = {
            "source": self.source,
            "bytes": as_bytes,
            "files": {path: _in_base64(path, content) for path, content in self.files.items()},
            "grants": list(self.grants),
            "seed": self.world.seed,
            "output": limits.output,
            "result": limits.result,
        }
        if self.function is not None:
            job |= {"function": self.function, "returns": self.returns}
            return json.dumps(job), encode_json(tagged(self.input)).decode()
        given = base64.b64encode(self.input) if as_bytes else encode_json(self.input)
        return json.dumps(job), given.decode()


_REPORT = 1 << 20
"""Bytes of a report, without what the program printed."""
_ESCAPED = 12
"""Bytes that one character may take up in JSON."""
_ADDRESSABLE = 1 << 32
"""Bytes that an interpreter of 32 bits can have."""
_FIRST = Job("result = sum(input); print(result)", [1, 2])


class Box(Held, Caller):
    """An interpreter that is ready to run a program. It serves one thread at a time. `close` it."""

    def __init__(self, interpreter: Interpreter, limits: Limits) -> None:
        held = HeldLimits(limits.time, None, min(limits.memory, MOST), stack=PROFILE.stack)
        super().__init__(interpreter.engine, held, _FIRST.name)
        self.limits_of_program = limits
        self._job = _FIRST
        self._host_calls = 0
        store: int = capi.store_new(interpreter.engine.pointer, self.number, None)
        try:
            self.hold(store, capi.store_context(store))
            capi.store_limiter(store, min(limits.memory, _ADDRESSABLE), -1, -1, -1, -1)
            context = components.Context(self.context)
            instance = components.instantiate(interpreter.linker, interpreter.compiled, context)
            self._run = components.Function(instance, context, "run")
            self.run(_FIRST, Leash())  # touches the pages that every program touches
        except BaseException:
            self.close()
            raise

    def run(self, job: Job, leash: Leash) -> Outcome:
        """Run the program, in this thread.

        Raises `TaskFailed`, `LimitExceeded` or `BackendUnavailable`, or what the leash says.
        """
        self._job, self.name = job, job.name
        self._host_calls = 0
        limits = self.limits_of_program
        encoded = job.encoded(limits)
        insist_on_handlers()
        self.begin(leash)
        try:
            told = leash.taken()
            if told is not None:  # before it began
                raise told
            report, result = self._run(encoded, (_REPORT + _ESCAPED * limits.output, limits.result))
        except components.TooLong as long:
            raise exceeded(self.name, ("output", "result")[long.index], limits) from None
        except components.Failed as error:
            raise self._failure(error) from None
        finally:
            self.end()
        return outcome_of(report, result, limits, job.name, self._system_gives)

    # What the program asks for, while it runs.

    @property
    def world(self) -> World:
        return self._job.world

    def sleep(self, seconds: float) -> None:
        if not seconds >= 0:  # our `time.sleep` in there never asks for that
            raise TaskFailed(f"{self.name} has broken the interpreter that ran it: it asked to sleep for {seconds} s")
        self.world.clock.sleep(round(min(seconds, 1e9) * 1e9), self.leash.may_go_on)

    def call_grant(self, name: str, arguments: str) -> str:
        self._host_calls += 1
        if self._host_calls > self.limits_of_program.host_calls:
            raise exceeded(self.name, "host_calls", self.limits_of_program)
        if len(arguments) > self.limits_of_program.result:
            raise exceeded(self.name, "result", self.limits_of_program)
        return grants.answer(self._job.grants, name, arguments)

    def _system_gives(self, size: int) -> bool:
        """Whether it has so much for a box, now that this one is gone: then it would have had it for this one."""
        self.close()
        return mappings.are_there(min(size, _ADDRESSABLE))

    def _failure(self, error: Exception) -> BaseException:
        told = self.leash.taken()
        if told is not None:
            return told
        text = str(error)
        if "call stack exhausted" in text:
            stack = in_units(self.limits.stack)
            return LimitExceeded(
                f"{self.name} nested its calls more deeply than the {stack} of stack of a sandbox allow",
                backend="wasm",
                started=True,
            )
        reason = text.strip().rpartition("\n")[2].strip()
        if "get-stderr" in reason:  # where it would have said why
            reason = "it gave up"
        return TaskFailed(f"{self.name} has broken the interpreter that ran it: {reason}", remote_traceback=text)


def _in_base64(path: object, content: object) -> str:
    if not isinstance(path, str):
        raise InvalidInput(f"the path of a file must be a text, not {path!r}")
    try:
        given = content.encode() if isinstance(content, str) else content
    except UnicodeError as error:
        raise InvalidInput(f"the content of the file {path!r} cannot be UTF-8: {error}") from error
    if not isinstance(given, bytes | bytearray | memoryview):
        raise InvalidInput(f"the content of the file {path!r} must be text or bytes, not {given!r}")
    return base64.b64encode(given).decode()
