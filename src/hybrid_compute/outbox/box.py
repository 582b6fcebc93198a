"""`Outbox`: calls for a place that is offline are kept in a file, and sent when it is back.

    put ──> the file ──> sender ──> a runtime or backend ──> the file ──> ticket.result()

A call is accepted when `put` returns: from then on it outlives the program, in the order and with the key that it was
given. What was sent and may have begun is sent again only where that is harmless.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Collection, Coroutine, Iterable
from dataclasses import replace
from functools import partial
from pathlib import Path
from types import TracebackType
from typing import Any, Final, Generic, ParamSpec, Self, TypeVar, overload

from hybrid_compute.backends.base import Backend
from hybrid_compute.clock import Clock, SystemClock
from hybrid_compute.links.database import Synchronous
from hybrid_compute.outbox import store
from hybrid_compute.outbox.deciding import Backoff
from hybrid_compute.outbox.desk import Desk, PutOptions
from hybrid_compute.outbox.entries import GIVEN_UP, STATES, State, Status
from hybrid_compute.outbox.place import LaterBackend
from hybrid_compute.outbox.sender import Order, Rules
from hybrid_compute.runtime import Runtime
from hybrid_compute.tasks import TaskRegistry

P = ParamSpec("P")
T = TypeVar("T")
T_co = TypeVar("T_co", covariant=True)

DAY: Final = 86400.0


class Puts:
    """The verb of an outbox under one set of options: what `Outbox` offers, and what `outbox.options(...)` returns."""

    def __init__(self, desk: Desk, options: PutOptions) -> None:
        self._desk = desk
        self._options = options

    def options(
        self,
        *,
        key: str | None = None,
        priority: int | None = None,
        expires: float | None = None,
        tries: int | None = None,
    ) -> Puts:
        """The same verb with other options; what is not given stays as it is here.

        Calls of one `key` are one call, now and after a restart; without one, each call gets a key of its own. Calls
        of higher `priority` go first. A call that could not be sent before it `expires`, in seconds from now, is given
        up, and so is one that its place has begun and lost, or refused, in so many `tries`. A place that cannot be
        reached uses up none.

            >>> await outbox.options(priority=5, expires=3600.0).put(add, 1, 2)
        """
        if key == "":
            raise ValueError("a key cannot be empty: leave it out, and the call gets one of its own")
        if expires is not None and not expires > 0:
            raise ValueError(f"expires must be a positive number of seconds, not {expires!r}")
        if tries is not None and tries < 1:
            raise ValueError(f"a call that is tried {tries} times is never sent")
        given = {"key": key, "priority": priority, "expires": expires, "tries": tries}
        changed: dict[str, Any] = {name: value for name, value in given.items() if value is not None}
        return Puts(self._desk, replace(self._options, **changed))

    @overload
    async def put(
        self, task: Callable[P, Coroutine[Any, Any, T]], /, *args: P.args, **kwargs: P.kwargs
    ) -> Ticket[T]: ...
    @overload
    async def put(self, task: Callable[P, T], /, *args: P.args, **kwargs: P.kwargs) -> Ticket[T]: ...
    @overload
    async def put(self, task: str, /, *args: Any, **kwargs: Any) -> Ticket[Any]: ...
    async def put(self, task: Callable[..., Any] | str, /, *args: Any, **kwargs: Any) -> Ticket[Any]:
        """Keep a call, to be sent as soon as its place can be reached. When this returns, it is on disk.

        Cancelled meanwhile, the call may be on disk or not: put it again under the same key, and it is kept once.

        Raises `InvalidInput` or `NotTransferable` if the arguments do not fit the task or cannot be kept,
        `PolicyRefused` if a private task would leave this machine, `ValueError` if there is a different call under the
        key, and `OSError` if the disk is full; then nothing was accepted.

            >>> ticket = await outbox.put(add, 1, 2)
            >>> await ticket.result()
            3
        """
        desk = self._desk
        kept = await desk.put(desk.learn(task), args, kwargs, self._options)
        return Ticket(desk, kept.key, kept.task)


class Ticket(Generic[T_co]):
    """A call that was put. It is known by its `key`, with which `Outbox.ticket` finds it again after a restart."""

    def __init__(self, desk: Desk, key: str, task: str) -> None:
        self._desk = desk
        self.key = key
        self.task = task

    async def result(self) -> T_co:
        """Wait until the call has come to its end, and return what the task returned.

        It may be asked for as often as one likes, also after a restart. A day after the first time (`keep` of the
        outbox) it is removed from the file: nothing is lost if the program dies between here and the use of it.
        Cancelling this leaves the call as it is.

        Raises what `Runtime.run` would have raised if the task failed, `OutcomeUnknown` or another `BackendError` if
        the call was given up, `TaskTimeout` if it expired, and `LookupError` if it was dropped.
        """
        result: T_co = await self._desk.result(self.key, self.task)
        return result

    async def status(self) -> Status:
        """How it stands. Raises `LookupError` if the call was dropped."""
        return await self._desk.status(self.key)

    async def drop(self) -> None:
        """Forget the call, whether it waits, was given up or has a result that is not wanted any more.

        Raises `ValueError` if it is under way.
        """
        await self._desk.drop([self.key])

    def __repr__(self) -> str:
        return f"<Ticket {self.key!r} for {self.task!r}>"


class Outbox(Puts):
    """Keeps calls in a file and sends them to a place when it can be reached.

    `to` is a backend, which is then opened and closed with the outbox, or a runtime that is open already; without one,
    calls are kept for another program that has it. `tasks` are those that the file may hold from before: a call whose
    task nobody here knows waits. `limit` calls are under way at a time, or one if the `order` is `strict`. An outcome
    is kept until it was fetched and for `keep` seconds after. `synchronous="NORMAL"` is quicker and may lose the last
    calls in a power cut. `now` is the time of the day, and `clock` what pauses are counted by.

        async with Outbox("calls.db", to=RemoteBackend(url)) as outbox:
            ticket = await outbox.put(add, 1, 2)
            print(await ticket.result())
    """

    def __init__(
        self,
        path: str | os.PathLike[str],
        *,
        to: Runtime | Backend | None = None,
        tasks: TaskRegistry | Iterable[Callable[..., Any]] = (),
        order: Order = "priority",
        limit: int = 32,
        backoff: Backoff | None = None,
        keep: float = DAY,
        synchronous: Synchronous = "FULL",
        clock: Clock | None = None,
        now: Callable[[], float] = time.time,
    ) -> None:
        if order not in ("priority", "strict"):
            raise ValueError(f"calls are sent in the order 'priority' or 'strict', not {order!r}")
        if synchronous not in ("FULL", "NORMAL"):
            raise ValueError(f"synchronous is 'FULL' or 'NORMAL', not {synchronous!r}")
        if limit < 1:
            raise ValueError(f"an outbox that may have {limit} calls under way would send none")
        rules = Rules(order, limit, backoff or Backoff(), keep, clock or SystemClock(), now)
        super().__init__(Desk(Path(path), to, tasks, rules, synchronous), PutOptions())

    async def ticket(self, key: str) -> Ticket[Any]:
        """The call of this key, for instance after a restart. Raises `LookupError` if there is none."""
        found = await self._desk.status(key)
        return Ticket(self._desk, key, found.task)

    async def calls(self, *states: State) -> list[Status]:
        """How it stands with all calls, or those in these states, in the order in which they were put."""
        return await self._desk.writer.read(partial(store.listed, states=states or STATES))

    async def counts(self) -> dict[State, int]:
        """How many calls there are in each state."""
        return await self._desk.writer.read(store.counts)

    async def retry(self, *keys: str) -> list[str]:
        """Let calls that were given up wait again, all of them if no keys are said; the keys of those that now do.

        A call whose outcome is unknown is run anew: look first whether it was done. Raises `LookupError` or
        `ValueError` if there is no such call or it was not given up; then nothing was changed.
        """
        retried = await self._desk.writer.do(partial(store.retry, keys=keys or None))
        self._desk.sender.wake()
        return retried

    async def drop(self, *keys: str, states: Collection[State] = GIVEN_UP) -> list[str]:
        """Forget calls, or all in these `states` if no keys are said; the keys of those that are gone.

        Raises `LookupError` or `ValueError` if there is no such call or it is under way; then nothing was changed.
        """
        return await self._desk.drop(keys or None, states)

    @property
    def to(self) -> Runtime | None:
        """The runtime that calls are sent to; around the backend, if the outbox was given one."""
        return self._desk.to

    def place(self) -> LaterBackend:
        """A place named "later" for a runtime, which keeps here the calls that no other place takes."""
        return LaterBackend(self._desk)

    async def start(self) -> None:
        """Open the file and the place, and begin to send. Called by `async with`.

        Raises `OSError` if the file is not an outbox or cannot be opened.
        """
        await self._desk.start()

    async def aclose(self) -> None:
        """Stop sending, and close the file; the calls stay in it. Harmless when repeated.

        What is under way and may be sent again is broken off; for what may not, this waits. Who waits for a result
        gets `BackendClosed`.
        """
        await self._desk.aclose()

    async def __aenter__(self) -> Self:
        await self.start()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.aclose()

    def __repr__(self) -> str:
        return f"<Outbox {str(self._desk.path)!r}{'' if self.to is None else f' to {self.to!r}'}>"
