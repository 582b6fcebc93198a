"""`Sandbox`: Python that is not trusted, run where it can reach nothing but what it was given."""

from __future__ import annotations

import functools
import os
import threading
import weakref
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from time import monotonic
from typing import Any, ParamSpec, Self, TypeVar

from hybrid_compute.errors import BackendClosed, TaskTimeout
from hybrid_compute.sandbox import grants as granting
from hybrid_compute.sandbox import prepare as making
from hybrid_compute.sandbox.answers import Outcome
from hybrid_compute.sandbox.box import Box, Job
from hybrid_compute.sandbox.functions import SandboxedFunction, programs
from hybrid_compute.sandbox.interpreter import interpreter
from hybrid_compute.sandbox.limits import Limits
from hybrid_compute.sandbox.room import run_with_room, started
from hybrid_compute.sandbox.worlds import World, fixed, real
from hybrid_compute.tasks import AnyTask
from hybrid_compute.wasm.leash import Leash

P = ParamSpec("P")
R = TypeVar("R")


class Sandbox:
    """Runs Python programs, each in an interpreter of its own that has no files, no network and no other processes.

    A program sees `input`, and its answer is what it leaves in `result`: both anything that JSON can say, or bytes.
    Beyond that it can reach the functions in `grants`, and nothing else. Time and chance are the same for every
    program, starting with `seed`, unless `deterministic` is false.

    `ready` interpreters are kept ready while nothing else is to do. All methods may be called from any thread.

        >>> with Sandbox() as box:
        ...     box.run("result = sum(input)", [1, 2, 3], timeout=2.0)
        6
    """

    def __init__(
        self,
        *,
        limits: Limits | None = None,
        grants: Mapping[str, Callable[..., Any]] | None = None,
        deterministic: bool = True,
        seed: int = 0,
        ready: int = 2,
    ) -> None:
        self.limits = limits if limits is not None else Limits()
        self._granted = tuple((grants or {}).items())
        self.grants: Mapping[str, AnyTask] = granting.tasks_of(grants or {})
        self._deterministic = deterministic
        self._seed = seed
        self._running: set[Leash] = set()
        self._spare = Spare(self.limits, ready)
        self._closed = False
        weakref.finalize(self, self._spare.close)

    def run(
        self,
        source: str,
        input: Any = None,
        *,
        files: Mapping[str, str | bytes] | None = None,
        timeout: float | None = None,
        name: str = "the program",
    ) -> Any:
        """What the program leaves in `result`; what it printed, if it leaves none.

        `files` are there for its `open`, by their paths. Raises `TaskFailed` for what the program raises, with its
        traceback; `LimitExceeded` where it needs more than `limits`; `TaskTimeout` after `timeout` seconds;
        `BackendUnavailable` where the system has less than it needs and may have;
        `InvalidInput` or `NotTransferable` for what cannot be given to a program.
        """
        return self.execute(source, input, files=files, timeout=timeout, name=name).result

    def execute(
        self,
        source: str,
        input: Any = None,
        *,
        files: Mapping[str, str | bytes] | None = None,
        timeout: float | None = None,
        name: str = "the program",
        leash: Leash | None = None,
    ) -> Outcome:
        """The same, with what it printed as `output`. `leash` can stop it from any thread."""
        leash = leash if leash is not None else Leash()
        if timeout is not None:
            interpreter()  # its time is that of the program: to make this may take half a minute
            _limit(leash, timeout, name)
        return self._execute(Job(source, input, files or {}, self.grants, self._world(), name), leash)

    def call(
        self,
        source: str,
        function: str,
        args: Sequence[Any] = (),
        kwargs: Mapping[str, Any] | None = None,
        *,
        returns: Sequence[str] = (),
        leash: Leash | None = None,
    ) -> Any:
        """What a function of the source returns for these arguments, which it gets as they are.

        They may be all that JSON can say, and bytes, tuples, sets, dates and the like. The result is JSON or bytes;
        what is in it of the types that `returns` names is said in JSON's words.
        """
        given = {"args": [*args], "kwargs": dict(kwargs or {})}
        job = Job(source, given, {}, self.grants, self._world(), function, function, returns)
        return self._execute(job, leash if leash is not None else Leash()).result

    def _execute(self, job: Job, leash: Leash) -> Outcome:
        self._insist_on_open()
        return run_with_room(lambda: self._run(job, leash))

    def contain(self, fn: Callable[P, R]) -> SandboxedFunction[P, R]:
        """The function, whose source runs in this sandbox from now on: what `@task(sandbox=box)` makes a task of."""
        return SandboxedFunction(fn, self._itself, self.grants)

    def task(self, name: str = "run_python") -> AnyTask:
        """`run_python` in this sandbox: a task that runs a program within its limits and with its grants.

        >>> box = Sandbox(limits=Limits(time=1.0), grants={"double": lambda x: 2 * x})
        >>> box.task("calculate")("result = double(input)", 21)
        42
        """
        return programs(self._itself, name, self.grants)

    @staticmethod
    def prepare(tell: Callable[[str], object] | None = None) -> None:
        """Make the interpreter now, if this machine does not have it yet, rather than at the first `run`.

        That takes half a minute, once. `tell` hears of each step. Raises `BackendUnavailable` if it cannot be made.
        """
        making.prepare(tell)
        interpreter()

    def _run(self, job: Job, leash: Leash) -> Outcome:
        self._running.add(leash)  # first of all: whoever closes stops it now, or has closed before and is seen
        try:
            self._insist_on_open()
            box = self._spare.take()
            try:
                return box.run(job, leash)
            finally:
                self._spare.replace(box)
        finally:
            self._running.discard(leash)

    def _insist_on_open(self) -> None:
        if self._closed:
            raise BackendClosed("this sandbox is closed", backend="wasm")

    def _world(self) -> World:
        return fixed(self._seed) if self._deterministic else real()

    @property
    def ready(self) -> int:
        """How many interpreters are ready now, for programs that come next."""
        return len(self._spare)

    def close(self) -> None:
        """Stop what runs, with `BackendClosed`, and give everything back. More than once is harmless."""
        self._closed = True
        for leash in list(self._running):
            leash.stop(BackendClosed("this sandbox was closed", backend="wasm", started=True))
        self._spare.close()

    def _itself(self) -> Self:
        """A function that travels, unlike `lambda: self`."""
        return self

    def __reduce__(self) -> tuple[Any, ...]:
        """In another process there is one such sandbox, however often a task of it comes there.

        A closed one goes nowhere: it would be open there.
        """
        self._insist_on_open()
        return _such, (self.limits, self._granted, self._deterministic, self._seed, self._spare.count)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_exception: object) -> None:
        self.close()


@functools.lru_cache(maxsize=16)
def _such(
    limits: Limits, grants: tuple[tuple[str, Callable[..., Any]], ...], deterministic: bool, seed: int, ready: int
) -> Sandbox:
    return Sandbox(limits=limits, grants=dict(grants), deterministic=deterministic, seed=seed, ready=ready)


class Spare:
    """Interpreters that are ready before they are asked for. A thread makes them, and clears away those that were used.

    Each of both takes about as long as a small program.
    """

    def __init__(self, limits: Limits, count: int) -> None:
        self._limits = limits
        self.count = count
        self._boxes: deque[Box] = deque()
        self._used: deque[Box] = deque()
        self._wanted = threading.Event()
        self._vacant = threading.Lock()  # held by the one thread that makes them
        self._thread: threading.Thread | None = None
        self._process = os.getpid()
        self._closed = False

    def __len__(self) -> int:
        return len(self._boxes)

    def take(self) -> Box:
        """One that is ready, or else a new one."""
        if self._process != os.getpid():  # a forked child: its parent's are not its own
            self.__init__(self._limits, self.count)  # type: ignore[misc]
        try:
            return self._boxes.popleft()
        except IndexError:
            return Box(interpreter(), self._limits)

    def replace(self, used: Box) -> None:
        """This one is used up. There is time to make another one, now."""
        if self.count and not self._closed and self._vacant.acquire(blocking=False):
            self._start()
        if self._thread is None or self._used:  # what a program took is not to pile up
            used.close()
        else:
            self._used.append(used)
        self._wanted.set()
        if self._closed:  # meanwhile, and nobody comes any more to clear it away
            self._clear()

    def _start(self) -> None:
        try:
            self._thread = started(self._fill, "hybrid-compute-sandbox-ready")
        except RuntimeError:  # this process may have no more threads: then each is made when it is asked for
            self._vacant.release()

    def _fill(self) -> None:
        while True:
            self._wanted.clear()  # before it looks: who closes says so, and then sets it
            if self._closed:
                return
            try:
                while self._used:
                    self._used.popleft().close()
                while len(self._boxes) < self.count and not self._closed:
                    self._boxes.append(Box(interpreter(), self._limits))
            except Exception:  # who asks next tries it again, and is told
                self._thread = None
                self._vacant.release()
                return
            self._wanted.wait()

    def close(self) -> None:
        self._closed = True
        self._wanted.set()
        thread = self._thread
        if thread is not None and thread is not threading.current_thread() and self._process == os.getpid():
            thread.join()
        self._thread = None
        self._clear()

    def _clear(self) -> None:
        for boxes in (self._boxes, self._used):
            while boxes:
                try:
                    box = boxes.popleft()
                except IndexError:  # another thread was quicker
                    break
                box.close()


def _limit(leash: Leash, timeout: float, name: str) -> None:
    if not timeout > 0:
        raise ValueError(f"timeout must be a positive number of seconds, not {timeout!r}")

    def late() -> TaskTimeout:
        return TaskTimeout(f"{name} was not done within its timeout of {timeout:g} s, and was stopped")

    leash.limit(monotonic() + timeout, late)
