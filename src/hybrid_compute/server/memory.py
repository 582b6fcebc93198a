"""Calls that are remembered by their keys, so that one that is sent twice runs once.

    a new key            runs, whatever becomes of the connection that brought it; the outcome is kept
    a key under way      waits for the same outcome
    a key that is done   is answered with the outcome it had
    a key that had begun when the server died   runs again if its task is pure; else nobody knows, and is told so

What never began (a full queue, a closed place, no such task) is not kept: it may be sent again. With a notebook all of
this outlives the server: what has begun is on disk before it begins, and an outcome before it is told.
"""

from __future__ import annotations

import asyncio
import hashlib
import time
from collections.abc import Awaitable, Callable, Coroutine
from dataclasses import dataclass, field
from typing import Any, Protocol, TypeAlias

from hybrid_compute.errors import (
    BackendClosed,
    BackendError,
    HybridComputeError,
    OutcomeUnknown,
    ProtocolError,
    TaskError,
    TaskNotFound,
)
from hybrid_compute.links.wire import Encoding, Failure, Pieces, Request
from hybrid_compute.server.refusals import AsTold, Refused

WITHDRAWN = "withdrawn"
"""What a task is cancelled with when its client says so, not when its connection has gone."""

WITHDRAWN_CALL = Failure("the call was withdrawn", "cancelled")
"""What its client is then told."""

LONGEST = 255
"""Characters of a key."""

Key: TypeAlias = tuple[str, str]
"""The tenant, and the key it gave: no tenant ever meets the keys of another."""

Outcome: TypeAlias = bytes | Failure


@dataclass(frozen=True, slots=True)
class Entry:
    """What a notebook knows of a key: which call it was, when it began, and its outcome if there is one."""

    call: bytes
    began: float
    outcome: Outcome | None


class Notebook(Protocol):
    """Where keys are remembered beyond this process."""

    id: str

    async def begin(self, key: Key, call: bytes, now: float, *, again: bool) -> Entry | None:
        """What is known of this key; None if nothing was (or `again`, and no outcome): then it is noted as begun."""
        ...

    async def end(self, key: Key, outcome: Outcome | None) -> None:
        """Note the outcome; None forgets the key."""
        ...

    async def aclose(self) -> None: ...


@dataclass(slots=True)
class _Known:
    call: bytes
    began: float
    running: asyncio.Task[Outcome] = field(init=False)
    stoppable: bool = False
    """Whether the task itself runs, not the notebook that says so."""
    withdrawn: bool = False

    def withdraw(self) -> None:
        """Stop the task, or see to it that it never begins; what is noted of it is noted all the same."""
        self.withdrawn = True
        if self.stoppable:
            self.running.cancel()


@dataclass(slots=True)
class _Shelf:
    """The keys of one tenant, in the order in which they began, and how much room they take."""

    known: dict[str, _Known] = field(default_factory=dict[str, "_Known"])
    bytes: int = 0

    def make_room(self, old: float, most: int) -> None:
        """Forget what is too old, and the oldest of what is too much."""
        forgotten: list[str] = []
        for key, known in self.known.items():
            if self.bytes < most and known.began > old:
                break
            if known.running.done():
                self.bytes -= _size(known.running.result())
                forgotten.append(key)
        for key in forgotten:
            del self.known[key]


class Memory:
    """The keys of one app. Outcomes are kept for `keep` seconds, `most` bytes of each tenant; a notebook keeps all.

    To wait for a call under way, or to hear its outcome again, costs nothing of a quota.
    """

    def __init__(
        self,
        tell: Callable[[BaseException], Failure],
        notebook: Notebook | None = None,
        *,
        keep: float = 86_400,
        most: int = 64 << 20,
        now: Callable[[], float] = time.time,
    ) -> None:
        self.notebook = notebook
        self._tell = tell
        self._keep = keep
        self._most = most
        self._now = now
        self._shelves: dict[str, _Shelf] = {}
        self._closed = False

    @property
    def notebook_id(self) -> str | None:
        """Which notebook knows the keys after a restart; None if they are forgotten with the server.

        A client may send a call again that may have run only to where this is what it was.
        """
        return None if self.notebook is None else self.notebook.id

    async def once(
        self,
        key: Key,
        call: bytes,
        run: Callable[[], Coroutine[Any, Any, Pieces]],
        *,
        pure: bool,
    ) -> Pieces:
        """The outcome of the call with this key, which runs if it never has. `call` is its `digest`."""
        if not 0 < len(key[1]) <= LONGEST:
            raise ProtocolError(f"a key has 1 to {LONGEST} characters, not {len(key[1])}")
        if self._closed:
            raise BackendClosed("this server is shutting down")
        shelf = self._shelves.setdefault(key[0], _Shelf())
        shelf.make_room(self._now() - self._keep, self._most)
        known = shelf.known.get(key[1])
        if known is None:
            known = shelf.known[key[1]] = _Known(call, self._now())
            known.running = asyncio.create_task(self._carry_out(key, known, shelf, run, pure))
            known.running.add_done_callback(_look_at_it)
        _insist_on_one_call(key, call, known.call)
        try:
            outcome = await asyncio.shield(known.running)
        except asyncio.CancelledError as error:
            if WITHDRAWN in error.args:
                known.withdraw()
            raise
        if isinstance(outcome, Failure):
            raise AsTold(outcome)
        return [outcome]

    async def aclose(self) -> None:
        """Wait for what is under way, and close the notebook."""
        self._closed = True
        known = [each.running for shelf in self._shelves.values() for each in shelf.known.values()]
        await asyncio.gather(*known, return_exceptions=True)
        if self.notebook is not None:
            await self.notebook.aclose()

    async def _carry_out(
        self, key: Key, known: _Known, shelf: _Shelf, run: Callable[[], Awaitable[Pieces]], pure: bool
    ) -> Outcome:
        notebook = self.notebook
        kept = False
        try:
            if notebook is not None:
                entry = await notebook.begin(key, known.call, self._now(), again=pure)
                if entry is not None:
                    return _outcome_of(key, known.call, entry)
            if known.withdrawn:
                outcome: Outcome | Exception = AsTold(WITHDRAWN_CALL)
            else:
                known.stoppable = True
                outcome = await self._outcome(run, pure)
                known.stoppable = False
            if notebook is not None:
                await notebook.end(key, None if isinstance(outcome, Exception) else outcome)
            if isinstance(outcome, Exception):
                raise outcome
            if notebook is None:
                kept = True
                shelf.bytes += _size(outcome)
            return outcome
        finally:
            if not kept:
                del shelf.known[key[1]]

    async def _outcome(self, run: Callable[[], Awaitable[Pieces]], pure: bool) -> Outcome | Exception:
        """What came of a call, to be kept; or the error of one that may begin again."""
        try:
            return b"".join(await run())
        except asyncio.CancelledError:
            return WITHDRAWN_CALL
        except BackendClosed as error:
            if not error.started or pure:
                return error
            lost = OutcomeUnknown(f"the call had begun when the server was stopped: {error}", started=True)
            return self._tell(lost)
        except Exception as error:
            return self._tell(error) if _is_final(error, pure) else error


def _size(outcome: Outcome) -> int:
    return 1_000 + (len(outcome) if isinstance(outcome, bytes) else len(outcome.error))


def _look_at_it(running: asyncio.Task[Outcome]) -> None:
    """Nobody may be left to hear of a failure: what was to be told is told to the next who asks."""
    if not running.cancelled():
        running.exception()


def digest(request: Request, encoding: Encoding, answer_in: Encoding) -> bytes:
    """What must be the same for a call to be the same call."""
    head = f"{request.task}\0{encoding.content_type}\0{answer_in.content_type}\0".encode("utf-8", "surrogatepass")
    return hashlib.sha256(head + memoryview(request.input)).digest()


def _insist_on_one_call(key: Key, call: bytes, known: bytes) -> None:
    if call != known:
        raise Refused("invalid_input", f"the key {key[1]!r} was given to another call before: give each its own")


def _outcome_of(key: Key, call: bytes, entry: Entry) -> Outcome:
    _insist_on_one_call(key, call, entry.call)
    if entry.outcome is not None:
        return entry.outcome
    raise OutcomeUnknown(
        f"the call {key[1]!r} had begun when the server died; it is not pure, so it is not run again", started=True
    )


def _is_final(error: BaseException, pure: bool) -> bool:
    """Whether the call has had its run: the task has failed, or its place has, and it must not begin again."""
    if isinstance(error, BackendError):
        return error.started and not pure
    if isinstance(error, TaskError):
        return not isinstance(error, TaskNotFound)
    return not isinstance(error, HybridComputeError | Refused)  # a bug, which may have come at any point
