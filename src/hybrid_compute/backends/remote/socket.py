"""Calls on one WebSocket: hundreds at a time, told apart by their ids.

    ask     {id, task, input}                      ->  {id, result} or {id, error}
    stream  {id, task, input, stream, credit: 16}  ->  {id, chunk} ...  {id, credit: 8} ->  {id, chunk} ... {id, result}
    left    {id, cancel}                               nobody waits for what still comes

One reader takes what arrives and gives it to whom it belongs; it never waits for any of them. Whoever streams grants
the server credit as it reads, so that one slow reader does not hold up the others. A frame is written at once where
there is room, as there nearly always is. Where there is none, one sender waits for it, and what comes after queues up
behind: so no call is cancelled by another.
"""

from __future__ import annotations

import asyncio
import itertools
from collections import deque
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager

import aiohttp
import msgspec
from msgspec import UNSET, UnsetType

from hybrid_compute.backends.remote.address import Address
from hybrid_compute.backends.remote.http import reason_of
from hybrid_compute.backends.remote.line import CREDIT, Answer, Fields, Message, fitting
from hybrid_compute.backends.remote.upkeep import Upkeep
from hybrid_compute.errors import (
    BackendError,
    BackendUnavailable,
    ConnectionLost,
    HybridComputeError,
    RemoteProtocolError,
)
from hybrid_compute.links.begun import Waiting, begin
from hybrid_compute.links.wire import JSON, MESSAGE_PACK, Encoding, Pieces, Reply

_CLOSING = aiohttp.ClientWSTimeout(ws_close=1.0)  # pyright: ignore[reportCallIssue]  # it cannot read attrs
"""What a server may take to say goodbye."""


async def open_socket(
    session: aiohttp.ClientSession,
    address: Address,
    encoding: Encoding,
    name: str,
    upkeep: Upkeep,
    most: Callable[[], int | None] = lambda: None,
    calls: int = 500,
) -> SocketLine:
    """A line on a WebSocket, for messages of at most so many bytes, and so many of them under way at a time.

    Raises `BackendUnavailable`.
    """
    try:
        async with asyncio.timeout(upkeep.connect):
            socket = await session.ws_connect(
                address.calls, heartbeat=upkeep.heartbeat, max_msg_size=upkeep.largest, timeout=_CLOSING
            )
    except aiohttp.WSServerHandshakeError as error:
        raise BackendUnavailable(f"{address.calls} is no WebSocket for us: {error.status}", backend=name) from error
    except (aiohttp.ClientError, OSError, TimeoutError) as error:
        raise BackendUnavailable(f"{address.base} cannot be reached: {reason_of(error)}", backend=name) from error
    return SocketLine(socket, address, encoding, name, most, calls)


class SocketLine:
    """A line that is one WebSocket. When it breaks, exactly the calls on it are lost."""

    def __init__(
        self,
        socket: aiohttp.ClientWebSocketResponse,
        address: Address,
        encoding: Encoding,
        name: str,
        most: Callable[[], int | None],
        calls: int,
    ) -> None:
        self.lost: asyncio.Future[str] = asyncio.get_running_loop().create_future()
        self._socket = socket
        self._address = address
        self._encoding = encoding
        self._name = name
        self._most = most
        self._room = asyncio.Semaphore(calls)  # what is beyond waits here, where it has not begun
        self._ids = itertools.count(1)
        self._waiting: dict[int, asyncio.Future[list[Answer] | None]] = {}
        self._streams: dict[int, _Arriving] = {}
        self._unanswered: set[int] = set()  # also those withdrawn: the server answers them all the same
        self._kind = aiohttp.WSMsgType.BINARY if encoding.binary else aiohttp.WSMsgType.TEXT
        self._outgoing: dict[int, bytes] = {}  # frames that wait for room, in order, by the id of their call
        self._sender: asyncio.Task[None] | None = None  # while there is no room
        self._reader = asyncio.create_task(self._read())

    async def ask(self, message: Message, /) -> Answer:
        id = message.fields["id"] = next(self._ids)
        (answer,) = await self._ask(self._encoding.write_request(*message), [id])
        return answer

    async def ask_many(self, messages: Sequence[Message], /) -> list[Answer]:
        written: list[Pieces] = []
        for message in messages:
            message.fields["id"] = next(self._ids)
            written.append(self._encoding.write_request(*message))
        return await self._ask(self._encoding.write_batch(written), [each.fields["id"] for each in messages])

    @asynccontextmanager
    async def stream(self, message: Message, /) -> AsyncGenerator[AsyncIterator[Answer]]:
        id = message.fields["id"] = next(self._ids)
        message.fields.update(stream=True, credit=CREDIT)
        self._send(id, self._encoding.write_request(*message))
        arriving = self._streams[id] = _Arriving(lambda room: self._say({"id": id, "credit": room}))
        try:
            yield arriving
        finally:
            del self._streams[id]
            if not arriving.ended:
                self._withdraw([id])

    async def aclose(self) -> None:
        self._lose("it was closed here")
        working = [each for each in (self._reader, self._sender) if each is not None]
        for each in working:
            each.cancel()
        await asyncio.gather(*working, return_exceptions=True)
        await self._socket.close()

    async def _ask(self, written: Pieces, ids: list[int]) -> list[Answer]:
        """Send one frame with the calls of these ids when there is room, and wait for the frame that answers them."""
        async with self._room:
            return await self._ask_now(written, ids)

    async def _ask_now(self, written: Pieces, ids: list[int]) -> list[Answer]:
        self._send(ids[0], written)
        answered: asyncio.Future[list[Answer] | None] = self.lost.get_loop().create_future()
        self._waiting[ids[0]] = answered
        try:
            answers = await answered
        except asyncio.CancelledError:
            self._withdraw(ids)
            raise
        finally:
            del self._waiting[ids[0]]
        if answers is None:
            raise self._loss(ids[0])
        if _is_nameless(answers[0].reply):  # one answer to many calls is that of each: none of them was looked at
            answers = answers * len(ids)
        if len(answers) != len(ids):
            raise RemoteProtocolError(f"{self._name} gave {len(answers)} answers to {len(ids)} calls")
        return answers

    # What is sent.

    def _send(self, id: int, written: Pieces) -> None:
        """Hand over the frame of a call. Raises `BackendUnavailable` or `LimitExceeded`, and then it is not sent."""
        self._insist_on_line()
        data = b"".join(fitting(written, self._most(), self._name))
        self._unanswered.add(id)
        self._put(id, data)
        self._insist_on_line()  # that it is lost may turn out just here, where this call is not yet among those told

    def _insist_on_line(self) -> None:
        if self.lost.done():
            raise BackendUnavailable(self.lost.result(), backend=self._name)

    def _withdraw(self, ids: list[int]) -> None:
        """Nobody waits for these calls of one frame any more: it is not sent, or the server is told."""
        if self._outgoing.pop(ids[0], None) is not None:
            self._unanswered.discard(ids[0])
            return
        for id in ids:
            self._say({"id": id, "cancel": True})

    def _say(self, fields: Fields) -> None:
        """Hand over a word about a call that nobody waits for. If the line is lost, the server knows by that."""
        if not self.lost.done():
            self._put(next(self._ids), b"".join(self._encoding.write_request(fields, None)))

    def _put(self, number: int, data: bytes) -> None:
        """Write a frame, or leave it to the sender.

        If each call wrote its own, all who wait for room would wait for one future of aiohttp, and the first that is
        cancelled would cancel it for all.
        """
        if self._sender is not None:
            self._outgoing[number] = data
            return
        try:
            begun = begin(self._socket.send_frame(data, self._kind))
        except (aiohttp.ClientError, OSError) as error:
            self._lose(reason_of(error))
        else:
            if begun is not None:
                self._sender = asyncio.create_task(self._write(begun))

    async def _write(self, begun: Waiting[None]) -> None:
        reason = "the sender was stopped"
        try:
            await begun
            while self._outgoing and not self.lost.done():
                await self._socket.send_frame(self._outgoing.pop(next(iter(self._outgoing))), self._kind)
            self._sender = None
            return
        except (aiohttp.ClientError, OSError) as error:
            reason = reason_of(error)
        finally:
            if self._sender is not None:
                self._lose(reason)

    # What arrives.

    async def _read(self) -> None:
        reason = "the reader was stopped"
        try:
            reason = await self._take_all()
        except RemoteProtocolError as error:
            reason = f"what it sent is not of our protocol: {error}"
        finally:
            self._lose(reason)

    async def _take_all(self) -> str:
        """Take every frame until there are no more; the reason why."""
        while True:
            frame = await self._socket.receive()
            if frame.type is aiohttp.WSMsgType.BINARY:
                self._take(frame.data, MESSAGE_PACK)
            elif frame.type is aiohttp.WSMsgType.TEXT:
                self._take(frame.data.encode(), JSON)
            elif frame.type is aiohttp.WSMsgType.ERROR:
                return reason_of(frame.data)
            elif frame.type is aiohttp.WSMsgType.CLOSE:
                return f"the server closed it, {_meaning(frame.data, frame.extra)}"
            else:
                return "it ended without a word"

    def _take(self, data: bytes, encoding: Encoding) -> None:
        """Give a frame to whoever waits for it. What comes late, for a call that was withdrawn, is nobody's."""
        replies = encoding.read_replies(data)
        found = replies if isinstance(replies, list) else [replies]
        answers = [Answer(reply, encoding, len(data) // len(found)) for reply in found]
        id = self._whose(replies, _id_of(answers[0]) if answers else None)
        self._unanswered.discard(id)
        if id in self._streams:
            self._streams[id].put(answers[0])
        elif id in self._waiting and not self._waiting[id].done():
            self._waiting[id].set_result(answers)

    def _whose(self, replies: Reply | list[Reply], id: int | None) -> int:
        """The call that a frame is for. Raises `RemoteProtocolError` if it could be for several, or for none."""
        if id is not None:
            return id
        if isinstance(replies, list):
            raise RemoteProtocolError(f"it answers to no call: {replies[0].error if replies else 'an empty list'}")
        if replies.error is None or not _is_nameless(replies) or len(self._unanswered) != 1:
            raise RemoteProtocolError(f"it answers to no call: {replies.error}")
        (only,) = self._unanswered  # it could not read which call this was, and there is only one
        return only

    def _lose(self, reason: str) -> None:
        """Tell all who wait that nothing more will come."""
        if self.lost.done():
            return
        self.lost.set_result(f"the connection to {self._address.base} broke: {reason}")
        for answered in self._waiting.values():
            if not answered.done():
                answered.set_result(None)
        for id, arriving in self._streams.items():
            arriving.fail(self._loss(id))

    def _loss(self, id: int) -> BackendError:
        """What the loss of the line means for this call: it may have begun, unless its frame still waits for room."""
        if id in self._outgoing:
            return BackendUnavailable(self.lost.result(), backend=self._name)
        return ConnectionLost(self.lost.result(), backend=self._name, started=True)


class _Arriving:
    """The answers to one call that streams, in the order in which they came."""

    def __init__(self, grant: Callable[[int], None]) -> None:
        self.ended = False
        self._grant = grant
        self._ready: deque[Answer] = deque()
        self._room = CREDIT
        self._taken = 0
        self._something = asyncio.Event()
        self._failure: HybridComputeError | None = None

    def put(self, answer: Answer) -> None:
        """In the reader, which must not wait."""
        if answer.reply.chunk is not UNSET:
            self._room -= 1
            if self._room < 0:
                self.fail(RemoteProtocolError("the server sends more of a stream than it was granted"))
                return
        elif answer.reply.progress is UNSET:
            self.ended = True
        self._ready.append(answer)
        self._something.set()

    def fail(self, failure: HybridComputeError) -> None:
        """Nothing more will come, for this reason."""
        self._failure = failure
        self._something.set()

    def __aiter__(self) -> _Arriving:
        return self

    async def __anext__(self) -> Answer:
        while not self._ready:
            if self._failure is not None:
                raise self._failure
            self._something.clear()
            await self._something.wait()
        answer = self._ready.popleft()
        if answer.reply.chunk is not UNSET:
            self._count()
        return answer

    def _count(self) -> None:
        """An item was taken: when half of them were, the server may send as many more."""
        self._taken += 1
        if self._taken == CREDIT // 2 and not self.ended:
            self._room += self._taken
            self._grant(self._taken)
            self._taken = 0


def _id_of(answer: Answer) -> int | None:
    raw = answer.reply.id
    if isinstance(raw, UnsetType):
        return None
    decode = msgspec.msgpack.decode if answer.encoding is MESSAGE_PACK else msgspec.json.decode
    found = decode(raw)
    return found if type(found) is int else None


def _is_nameless(reply: Reply) -> bool:
    """Whether it has no id, or one that is null: so a server answers a frame that it could not read."""
    return isinstance(reply.id, UnsetType) or bytes(reply.id) in (JSON.null, MESSAGE_PACK.null)


def _meaning(code: int | None, words: str | None) -> str:
    """What the end of a WebSocket says, in words where there are any."""
    return words or _CODES.get(code or 0, f"with code {code}")


_CODES = {
    1000: "as it meant to",
    1001: "because it goes away",
    1009: "because a message was too large for it",
    1011: "because of an error of its own",
    1012: "because it starts anew",
    1013: "because it has too much to do",
}
