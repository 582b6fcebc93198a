"""`RemoteBackend`: tasks that run at a server, asked over HTTP or on a WebSocket.

    call ── write ──> Message ── line ──> the server ── line ──> Answer ── read ──> the result, or the error it told

Here a call becomes a message, and an answer a result. `http.py` and `socket.py` carry them; `keeper.py` sees to it
that there is a line to carry them on.
"""

from __future__ import annotations

import asyncio
import importlib.util
import math
import ssl as tls
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Iterable, Sequence
from contextlib import AsyncExitStack, aclosing, asynccontextmanager
from time import perf_counter
from typing import TYPE_CHECKING, Any, Literal

from msgspec import UNSET, UnsetType

from hybrid_compute.backends.base import Backend
from hybrid_compute.backends.remote.address import parse
from hybrid_compute.backends.remote.batch import Batch
from hybrid_compute.backends.remote.health import pause
from hybrid_compute.backends.remote.keeper import Keeper
from hybrid_compute.backends.remote.line import Answer, Fields, Line, Message
from hybrid_compute.backends.remote.listing import Listing
from hybrid_compute.backends.remote.upkeep import Upkeep
from hybrid_compute.calls import Call
from hybrid_compute.errors import (
    BackendClosed,
    BackendError,
    BackendUnavailable,
    ConnectionLost,
    HybridComputeError,
    NotTransferable,
    RemoteProtocolError,
    TaskNotFound,
)
from hybrid_compute.links.told import told
from hybrid_compute.links.wire import JSON, MESSAGE_PACK, Failure, Reply, size_of
from hybrid_compute.schema import as_input
from hybrid_compute.tasks import AnyTask, as_task
from hybrid_compute.tracing import current

if TYPE_CHECKING:
    import aiohttp

_ENCODINGS = {"msgpack": MESSAGE_PACK, "json": JSON}


class _Elsewhere:
    """An attribute that is false and stays so."""

    def __get__(self, backend: object, owner: type) -> bool:
        return False

    def __set__(self, backend: object, value: bool) -> None:
        raise AttributeError("a remote backend is never on this machine, wherever its server is: this cannot be set")


def _elsewhere() -> Any:  # Any, for the type of the attribute it stands for
    return _Elsewhere()


class RemoteBackend(Backend):
    """Runs tasks at a server, which knows them by their names.

    With `http` and `https` each call is a request; with `ws` and `wss` all calls share one WebSocket. Nothing is opened
    before the first call, or before a runtime starts; a server that is away then is tried again, and fails nothing.
    What it can run is in its own list, which is asked for again when it is older than a minute, unless `tasks` says it.

    When a connection breaks, the calls on it end with `ConnectionLost`, and those that nothing was sent of with
    `BackendUnavailable`. A call with a key is sent again, where the server remembers keys. A server that cannot be
    reached is tried again after growing pauses; meanwhile every call is refused at once, so that it can go elsewhere.

    A private task never goes there, not even if the server is on this machine.

        >>> async with Runtime([RemoteBackend("http://localhost:8000"), LocalBackend()]) as rt:
        ...     await rt.run(add, 1, 2)
        3
    """

    rank = 3
    on_this_machine: bool = _elsewhere()
    isolates = True
    batches = True

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        if "on_this_machine" in vars(cls):
            raise TypeError(f"{cls.__name__} is a remote backend: it is never on this machine")

    def __init__(
        self,
        url: str,
        *,
        token: str | None = None,
        tasks: Iterable[str | Callable[..., Any]] | None = None,
        name: str = "remote",
        provides: Iterable[str] = ("cpu",),
        encoding: Literal["msgpack", "json"] = "msgpack",
        ssl: tls.SSLContext | None = None,
        upkeep: Upkeep | None = None,
    ) -> None:
        if encoding not in _ENCODINGS:
            raise ValueError(f"encoding is 'msgpack' or 'json', not {encoding!r}")
        if isinstance(provides, str):
            raise TypeError(f"provides is a set of names: write provides={{{provides!r}}}")
        if token is not None and not (token.isascii() and token.isprintable() and token):
            raise ValueError("a token is printable ASCII, and this one is not")
        self.name = name
        self.provides = frozenset(provides)
        self.remembers_keys = False  # until the server says so
        self._address = parse(url)
        self._token = token
        self._named = None if tasks is None else Listing(_names(tasks))
        self._encoding = _ENCODINGS[encoding]
        self._ssl = ssl
        self._upkeep = upkeep or Upkeep()
        self._listing: Listing | None = None
        self._listed_at = -math.inf
        self._session: aiohttp.ClientSession | None = None
        self._keeper: Keeper | None = None
        self._looking: asyncio.Task[None] | None = None
        self._loop: asyncio.AbstractEventLoop | None = None

    # What it can do.

    def can_run(self, task: AnyTask, /) -> bool:
        if self._keeper is not None and self._keeper.away is not None:
            return False
        known = self._named or self._listing
        self._look_again_if_old()
        return known is None or task.name in known

    def why_not(self, task: AnyTask, /) -> str:
        if self._keeper is not None and self._keeper.away is not None:
            return self._keeper.why
        where = "the list given to it" if self._named is not None else f"the list of {self._address.base}"
        return f"it is not in {where}, which has {self._named or self._listing or 'not come yet'}"

    # Life.

    async def start(self) -> None:
        """Reach the server, or find it away. Raises `BackendUnavailable` only if aiohttp is not installed."""
        self.check_open()
        _insist_on_aiohttp(self.name)
        await self._kept().settled()

    async def aclose(self) -> None:
        await super().aclose()
        keeper, looking = self._keeper, self._looking
        self._keeper = self._looking = None
        if looking is not None:
            looking.cancel()
            await asyncio.gather(looking, return_exceptions=True)
        if keeper is not None:
            await keeper.aclose()
        session, self._session = self._session, None  # only now: until it was closed, the keeper may have opened one
        if session is not None:
            await session.close()

    async def reached(self) -> None:
        """Wait until the server can be reached."""
        await self._kept().again()

    async def probe(self) -> float:
        """Ask the server for its list of tasks; the seconds until it is here. Raises `BackendUnavailable`."""
        await self._kept().now()
        began = perf_counter()
        await self._look()
        return perf_counter() - began

    # Calls.

    async def run_task(self, task: AnyTask, /, *args: Any, **kwargs: Any) -> Any:
        return await self.run_call(Call(task, args, kwargs))

    async def run_call(self, call: Call, /) -> Any:
        if call.task.streams:
            async with self.stream_call(call) as items:
                return [item async for item in items]
        self.check_open()
        try:
            if call.deadline is None and self._address.by_socket:  # it ends with its socket, which closing ends
                return self._read(call, await self._ask(call))
            async with super().within_limits(call):
                return self._read(call, await self._ask(call))
        except (ConnectionLost, BackendUnavailable) as error:
            raise self._as_closed(error) from error.__cause__

    @asynccontextmanager
    async def stream_call(self, call: Call, /) -> AsyncGenerator[AsyncIterator[Any]]:
        async with AsyncExitStack() as stack:
            async with self.within_limits(call):
                message = self._written(call, call.args)
                message.fields.pop("key", None)  # a server remembers results, not streams
                line = await self._line()
                call.sent += _size(message)
                answers = await stack.enter_async_context(line.stream(message))
            yield await stack.enter_async_context(aclosing(self._items(call, answers)))

    async def run_batch(self, call: Call, inputs: Sequence[tuple[Any, ...]], limit: int | None, /) -> list[Any]:
        async with self.within_limits(call):
            line = await self._line()

            async def ask(messages: list[Message]) -> list[Answer]:
                call.sent += sum(_size(each) for each in messages)
                return await line.ask_many(messages)

            batch = Batch(ask, lambda answer: self._read(call, answer), limit, self._listing)
            return await batch.run(self._written(call, args) for args in inputs)

    @asynccontextmanager
    async def within_limits(self, call: Call) -> AsyncGenerator[None]:
        try:
            async with super().within_limits(call):
                yield
        except (ConnectionLost, BackendUnavailable) as error:
            raise self._as_closed(error) from error.__cause__

    def _as_closed(self, error: BackendError) -> BackendError:
        """What a broken line means: if it was closed here, that is the reason."""
        return BackendClosed(self._is_closed, backend=self.name, started=error.started) if self.closed else error

    async def _ask(self, call: Call) -> Answer:
        message = self._written(call, call.args)  # before anything is opened: what cannot be sent costs nothing
        line = await self._line()
        known = self._listing
        call.sent += _size(message)
        began = perf_counter()
        try:
            return await self._carry(line, message, call)
        except ConnectionLost as lost:
            if call.key is None or self.closed or not self._still_remembers(known):
                raise
            async with self.within_limits(call):  # closing ends its pauses, too
                return await self._ask_again(call, message, known, lost)
        finally:
            call.ran = perf_counter() - began  # with the way there and back: only the server could tell them apart

    async def _carry(self, line: Line, message: Message, call: Call) -> Answer:
        """The answer to a call. If somebody wants to hear how far it is, it is asked for as a stream that says so."""
        if not self.hooks and call.listener is None:
            return await line.ask(message)
        async with line.stream(message) as answers:
            async for answer in answers:
                if not self._is_progress(call, answer):
                    return answer
        raise self._broken_off(call)

    async def _ask_again(self, call: Call, message: Message, known: Listing | None, lost: ConnectionLost) -> Answer:
        """Ask once more for a call that may have run, which the server knows by its key. Raises `lost` in the end.

        The list is asked for on each try, and after the line was opened: whoever answers there may be another server.
        """
        for tried in range(_AGAIN):
            line = await self._back(call, tried, lost)
            try:
                await self._look()
            except BackendUnavailable as error:
                if not (self._address.by_socket or line.lost.done()):
                    line.lost.set_result(str(error))  # a socket finds out by itself
                continue
            if not self._still_remembers(known):
                raise lost
            message.fields.update(self._limits(call))
            try:
                return await self._carry(line, message, call)
            except (ConnectionLost, BackendUnavailable):
                continue
        raise lost

    def _still_remembers(self, known: Listing | None) -> bool:
        """Whether the server as it is now has the keys that it was given when its list was `known`."""
        now = self._listing
        if not self.remembers_keys or known is None or now is None:
            return False
        return known.remembers_keys and now.notebook == known.notebook

    async def _back(self, call: Call, tried: int, lost: ConnectionLost) -> Line:
        """A line again, after a pause. A call without a deadline has the upkeep's patience; then `lost` is raised."""
        waiting = Call(call.task)
        if call.deadline is None:
            waiting.deadline = self.clock.time() + self._upkeep.patience
        limit = asyncio.timeout(None)
        try:
            async with limit:
                with self.expiring(limit, waiting):
                    await self.clock.sleep(pause(tried, self._upkeep.first_pause, self._upkeep.longest_pause))
                    return await self._kept().again()
        except TimeoutError:
            raise lost from None

    async def _items(self, call: Call, answers: AsyncIterator[Answer]) -> AsyncGenerator[Any]:
        """The items of a stream. What its task says of its progress goes to whoever listens."""
        while True:
            async with self.within_limits(call):
                answer = await anext(answers, None)
            if answer is None:
                raise self._broken_off(call)
            reply = answer.reply
            call.received += answer.size
            if not isinstance(reply.chunk, UnsetType):
                yield answer.encoding.read_result(call.task, reply.chunk)
            elif reply.error is not None:
                raise self._told(call, reply)
            elif not self._is_progress(call, answer):
                return

    def _is_progress(self, call: Call, answer: Answer) -> bool:
        """Whether it says how far the task is, which then is told to whoever listens."""
        said = answer.reply.progress
        if isinstance(said, UnsetType):
            return False
        self.hooks.report(call, said.done, said.total, said.note)
        return True

    def _broken_off(self, call: Call) -> ConnectionLost:
        text = f"{self._address.base} broke off in the middle of {call.task.name!r}"
        return ConnectionLost(text, backend=self.name, started=True)

    # From calls to messages, and from answers to results.

    def _written(self, call: Call, args: tuple[Any, ...]) -> Message:
        """A call as a message. Raises `InvalidInput` or `NotTransferable`."""
        task = call.task
        value = as_input(task, args, call.kwargs)
        try:
            written = None if value is UNSET else self._encoding.write_value(value)
        except NotTransferable as error:
            text = f"the input of task {task.name!r} cannot go to {self.name}: {error}"
            raise NotTransferable(text) from error
        return Message({"task": task.name, **self._limits(call), **_context(call)}, written)

    def _limits(self, call: Call) -> Fields:
        left = self.time_left(call)
        # In whole milliseconds, upwards: so the server says "0.05 s" where the caller did, and is not the first to.
        return {} if left is None else {"timeout": math.ceil(left * 1000) / 1000}

    def _read(self, call: Call, answer: Answer) -> Any:
        """The result in an answer. Raises the error that the server tells of."""
        reply = answer.reply
        call.received += answer.size
        if reply.error is not None:
            raise self._told(call, reply)
        if isinstance(reply.result, UnsetType):
            raise RemoteProtocolError(f"{self._address.base} answered {call.task.name!r} with neither result nor error")
        return answer.encoding.read_result(call.task, reply.result)

    def _told(self, call: Call, reply: Reply) -> HybridComputeError:
        error = told(Failure(reply.error or "no reason given", reply.code, reply.details), call.task, self.name)
        if not isinstance(error, TaskNotFound):
            return error
        # It is there for its caller, so it is the server that lacks it, and another place may do.
        self._look_again()
        return BackendUnavailable(f"{self._address.base} has no task {call.task.name!r}", backend=self.name)

    # The line, and the list.

    async def _line(self) -> Line:
        keeper = self._kept()
        self._look_again_if_old()
        return keeper.line or await keeper.now()

    def _kept(self) -> Keeper:
        self.check_open()
        if self._keeper is None:
            self._keeper = Keeper(self._open, self._upkeep, self.clock, self.name)
            self._loop = asyncio.get_running_loop()
        return self._keeper

    async def _open(self) -> Line:
        _insist_on_aiohttp(self.name)
        from hybrid_compute.backends.remote import http, socket

        if self._session is None:
            self._session = http.open_session(self._address, self._token, self._ssl, self._upkeep)
        await self._look()
        if self._address.by_socket:
            return await socket.open_socket(
                self._session, self._address, self._encoding, self.name, self._upkeep, self._most, self._calls()
            )
        return http.HttpLine(self._session, self._address, self._encoding, self.name, self._upkeep, self._most)

    def _most(self) -> int | None:
        """Bytes that the server takes in one message, as far as it is known."""
        return None if self._listing is None else self._listing.body

    def _calls(self) -> int:
        """Calls under way at a time on one WebSocket: half of what the server allows, which leaves room for streams."""
        allowed = None if self._listing is None else self._listing.calls
        return max(1, (allowed or _USUAL) // 2)

    async def _look(self) -> None:
        """Get the server's list of its tasks. Raises `BackendUnavailable`."""
        from hybrid_compute.backends.remote.http import fetch_listing

        assert self._session is not None
        self._listed_at = self.clock.time()  # also where it fails: to ask all the time would not help
        listing = await fetch_listing(self._session, self._address, self.name, self._upkeep)
        self._listing, self.remembers_keys = listing, listing is not None and listing.remembers_keys

    def _look_again_if_old(self) -> None:
        loop = self._loop
        if loop is not None and self.clock.time() - self._listed_at > self._upkeep.refresh and not loop.is_closed():
            loop.call_soon_threadsafe(self._look_again)  # it may be a waiting thread that asks

    def _look_again(self) -> None:
        if self._session is not None and not self.closed and (self._looking is None or self._looking.done()):
            self._listed_at = self.clock.time()
            self._looking = asyncio.create_task(self._try_to_look())

    async def _try_to_look(self) -> None:
        try:
            await self._look()
        except BackendUnavailable:
            pass  # the old list is as good as can be had; whether the server is away, its line finds out

    def __repr__(self) -> str:
        state = "not opened" if self._keeper is None else "connected" if self._keeper.line is not None else "away"
        return f"<RemoteBackend {self.name!r} at {self._address.base}, {'closed' if self.closed else state}>"


_USUAL = 1_000
"""Calls that a server has under way on one WebSocket, where it does not say."""

_AGAIN = 5
"""Times that a call with a key is sent again: what takes its server down each time should not do so for ever."""


def _size(message: Message) -> int:
    """Bytes of its input."""
    return size_of(message.value or [])


def _context(call: Call) -> Fields:
    """What else the server is told of a call."""
    trace = current()
    known = {} if call.key is None else {"key": call.key}
    return known if trace is None else {**known, "traceparent": trace}


def _names(tasks: Iterable[str | Callable[..., Any]]) -> list[str]:
    return [each if isinstance(each, str) else as_task(each).name for each in tasks]


def _insist_on_aiohttp(name: str) -> None:
    if importlib.util.find_spec("aiohttp") is None:
        raise BackendUnavailable("RemoteBackend is not available: install hybrid-compute[client]", backend=name)
