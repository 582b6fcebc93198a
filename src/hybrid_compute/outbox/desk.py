"""What the verbs of one outbox share: the file, the sender, the tasks it knows, and who waits for what."""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import Callable, Collection, Iterable, Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

from msgspec import UNSET, Raw

from hybrid_compute.backends.base import Backend
from hybrid_compute.backends.wrappers import Wrapper
from hybrid_compute.errors import (
    BackendClosed,
    HybridComputeError,
    NotTransferable,
    PolicyRefused,
    TaskNotFound,
)
from hybrid_compute.links.database import Synchronous
from hybrid_compute.links.told import told
from hybrid_compute.links.wire import MESSAGE_PACK
from hybrid_compute.links.writer import Writer
from hybrid_compute.outbox import store
from hybrid_compute.outbox.entries import GIVEN_UP, Draft, Outcome, State, Status
from hybrid_compute.outbox.file import open_file
from hybrid_compute.outbox.sender import Rules, Sender
from hybrid_compute.policy import private_stays_here
from hybrid_compute.runtime import Runtime
from hybrid_compute.schema import as_input
from hybrid_compute.tasks import AnyTask, TaskRegistry, as_task


@dataclass(frozen=True, slots=True)
class PutOptions:
    """How calls are put: see `Outbox.options`."""

    key: str | None = None
    priority: int = 0
    expires: float | None = None
    tries: int = 10


class Kept(NamedTuple):
    """A call that is kept, under this key; `new` if it was not before."""

    key: str
    task: str
    new: bool


class Desk:
    """One outbox, behind its verbs and its place in a runtime."""

    def __init__(
        self,
        path: Path,
        to: Runtime | Backend | None,
        tasks: TaskRegistry | Iterable[Callable[..., Any]],
        rules: Rules,
        synchronous: Synchronous,
    ) -> None:
        self.path = path
        self.now = rules.now
        self._owns_place = isinstance(to, Backend)
        self.to = Runtime([_Asked(to)], strategy="in_order", clock=rules.clock) if isinstance(to, Backend) else to
        self.places: Sequence[Backend] = (to,) if isinstance(to, Backend) else to.backends if to is not None else ()
        known = [tasks[name] for name in tasks] if isinstance(tasks, TaskRegistry) else list(tasks)
        if self.to is not None:
            known += [self.to.tasks[name] for name in self.to.tasks]
        self.tasks = TaskRegistry(known)
        self.writer = Writer(path, partial(open_file, path, synchronous=synchronous), "outbox")
        self.sender = Sender(self.writer, self.to, self.places, self.tasks, rules, self._ended)
        self._waiting: dict[str, list[asyncio.Future[None]]] = {}
        self._state = "new"

    async def start(self) -> None:
        if self._state != "new":
            raise BackendClosed(f"the outbox {self.path} was opened before: make a new one", backend="later")
        self._state = "open"
        async with AsyncExitStack() as stack:  # what cannot be opened closes what was
            stack.push_async_callback(self.writer.aclose)
            await self.writer.start()
            if self._owns_place and self.to is not None:
                await self.to.start()
            await self.sender.start()
            stack.pop_all()

    async def aclose(self) -> None:
        if self._state != "open":
            return
        self._state = "closed"
        async with AsyncExitStack() as stack:
            stack.push_async_callback(self.writer.aclose)
            if self._owns_place and self.to is not None:
                stack.push_async_callback(self.to.aclose)
            stack.callback(self._ended, None)
            await self.sender.aclose(self.to.aclose if self._owns_place and self.to is not None else None)

    def learn(self, task: Callable[..., Any] | str) -> AnyTask:
        """The task behind a name or a function, if calls of it may be kept here."""
        known = self.tasks[task] if isinstance(task, str) else as_task(task)
        if known.streams:
            raise TypeError(f"task {known.name!r} is a {known.kind}: a stream cannot wait, so an outbox keeps none")
        refusals = {place.name: reason for place in self.places if (reason := private_stays_here(known, place))}
        if self.places and len(refusals) == len(self.places):
            reasons = ", ".join(f"{name} ({reason})" for name, reason in refusals.items())
            raise PolicyRefused(f"no place may run {known.name!r}: {reasons}", refusals=refusals)
        return self.tasks.add(known)

    async def put(self, task: AnyTask, args: tuple[Any, ...], kwargs: dict[str, Any], options: PutOptions) -> Kept:
        """Keep a call. When this returns, it is on disk."""
        input = _written(task, args, kwargs)
        now = self.now()
        draft = Draft(
            options.key or str(uuid.uuid4()),
            task.name,
            input,
            options.priority,
            options.tries,
            None if options.expires is None else now + options.expires,
        )
        new = await self.writer.do(partial(store.put, draft=draft, now=now))
        self.sender.wake()
        return Kept(draft.key, task.name, new)

    async def status(self, key: str) -> Status:
        found = await self.writer.read(partial(store.status, key=key))
        if found is None:
            raise self._no_such(key)
        return found

    async def drop(self, keys: Collection[str] | None, states: Collection[State] = GIVEN_UP) -> list[str]:
        dropped = await self.writer.do(partial(store.drop, keys=keys, states=states))
        self._ended(dropped)
        return dropped

    def withdraw(self, key: str) -> None:
        """Stop and forget a call that nobody waits for any more, unless it is under way elsewhere."""
        if key not in self._waiting:
            self.sender.give_up(key)

    def forget(self, key: str) -> None:
        """Forget a call that has been answered, and the answer used."""
        self.writer.post(partial(store.forget, key=key))

    async def result(self, key: str, name: str) -> Any:
        outcome = await self._end_of(key)
        if name not in self.tasks:
            raise TaskNotFound(f"the call of key {key!r} has ended, but task {name!r} is unknown here: say tasks=[...]")
        task = self.tasks[name]
        result = MESSAGE_PACK.read_result(task, Raw(outcome.body)) if outcome.state == "done" else None
        if not outcome.fetched:
            self.writer.post(partial(store.fetched, key=key, now=self.now()))
        if outcome.state != "done":
            raise _error(outcome, task)
        return result

    async def _end_of(self, key: str) -> Outcome:
        """What became of the call, once it has come to its end."""
        while True:
            ended = asyncio.get_running_loop().create_future()
            self._waiting.setdefault(key, []).append(ended)  # before looking, so that no end is missed
            try:
                outcome = await self.writer.read(partial(store.outcome, key=key))
                if outcome is None:
                    raise self._no_such(key)
                if outcome.state not in ("waiting", "sent"):
                    return outcome
                if self._state == "closed":
                    raise BackendClosed(f"the outbox {self.path} is closed, and the call stays in it", backend="later")
                await ended
            finally:
                self._forget(key, ended)

    def _forget(self, key: str, ended: asyncio.Future[None]) -> None:
        waiting = self._waiting[key]
        waiting.remove(ended)
        if not waiting:
            del self._waiting[key]

    def _ended(self, keys: Iterable[str] | None) -> None:
        """Calls have come to an end, or any may have: those who wait look for themselves."""
        for key in list(self._waiting) if keys is None else keys:
            for ended in self._waiting.get(key, ()):
                if not ended.done():
                    ended.set_result(None)

    def _no_such(self, key: str) -> LookupError:
        return LookupError(
            f"there is no call of key {key!r} in {self.path}: it was never put, dropped, or fetched long ago"
        )


class _Asked(Wrapper):
    """A place that is asked though it cannot run the task at the moment: only then does it say that it is away."""

    def can_run(self, task: AnyTask, /) -> bool:
        return True


def _written(task: AnyTask, args: tuple[Any, ...], kwargs: dict[str, Any]) -> bytes:
    """The input of a call as it is kept. What could not be read back is refused now, and not in a week."""
    value = as_input(task, args, kwargs)
    try:
        input = b"" if value is UNSET else b"".join(MESSAGE_PACK.write_value(value))
    except NotTransferable as error:
        raise NotTransferable(f"the input of task {task.name!r} cannot be kept: {error}") from error
    MESSAGE_PACK.bind(task, Raw(input))
    return input


def _error(outcome: Outcome, task: AnyTask) -> HybridComputeError:
    """What became of a call that has no result."""
    failure = outcome.failure
    place = failure.details.get("backend")
    return told(failure, task, place if isinstance(place, str) else "later")
