"""Calls over a WebSocket: frames in, frames out, any number under way, each answered when it is done.

text frames are JSON, binary frames MessagePack, and each is answered in kind
a frame that is not valid is answered, and the connection stays
an id belongs to one call at a time: another one under it is refused, without that id, so that nobody is misled
the end of the connection stops what it asked for, unless a key says that somebody will come back for it
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine, Mapping, Sequence
from functools import partial
from typing import Any

from msgspec import UNSET

from hybrid_compute.errors import ProtocolError
from hybrid_compute.links.wire import JSON, MESSAGE_PACK, Encoding, Failure, Outcome, Pieces, Request
from hybrid_compute.server.desk import Batch, Desk
from hybrid_compute.server.door import PROTOCOL
from hybrid_compute.server.guests import Guest
from hybrid_compute.server.http import Receive, Scope, Send
from hybrid_compute.server.ids import id_in, id_of, usable
from hybrid_compute.server.memory import WITHDRAWN, WITHDRAWN_CALL
from hybrid_compute.server.refusals import STATUS, Refused
from hybrid_compute.server.telling import Telling


class Sockets:
    """The WebSocket at `/compute`."""

    def __init__(self, desk: Desk, admit: Callable[[Mapping[str, Any]], Guest]) -> None:
        self._desk = desk
        self._admit = admit
        self._answering: set[asyncio.Task[None]] = set()

    async def drain(self) -> None:
        """Wait until the calls that were taken are answered: a call is over before its answer is sent."""
        if self._answering:
            await asyncio.wait(set(self._answering))

    async def refuse(self, scope: Scope, receive: Receive, send: Send, error: Exception) -> None:
        """Answer the handshake with an error."""
        await receive()  # "websocket.connect"
        await _turn_away(scope, send, self._desk.report(error))

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        await receive()  # "websocket.connect"
        try:
            guest = self._admit(scope)
        except Refused as error:
            return await _turn_away(scope, send, self._desk.report(error))
        chosen = PROTOCOL if PROTOCOL in scope.get("subprotocols", ()) else None
        await send({"type": "websocket.accept", "subprotocol": chosen})
        await Conversation(self._desk, guest, send, self._answering).hold(receive)


class Conversation:
    """One connection: the calls that came over it and are not yet answered."""

    def __init__(self, desk: Desk, guest: Guest, send: Send, answering: set[asyncio.Task[None]]) -> None:
        self._desk = desk
        self._guest = guest
        self._send = send
        self._answering = answering  # on all connections
        self._loop = asyncio.get_running_loop()
        self._by_id: dict[bytes, Running | Member] = {}
        self._running: set[asyncio.Task[None]] = set()
        self._unsaid = 0  # bytes of answers that wait for their client to read
        self._said = asyncio.Event()

    async def hold(self, receive: Receive) -> None:
        """Answer what comes until the client goes away; then stop what it left behind."""
        in_a_row = 0
        try:
            while (message := await receive())["type"] == "websocket.receive":
                text = message.get("text")
                data, encoding = (message["bytes"], MESSAGE_PACK) if text is None else (text, JSON)
                answer = self._hear(data, encoding)
                if answer is not None:
                    await self._say(answer, encoding)
                while self._unsaid > _UNSAID:  # whoever does not read is not read from
                    self._said.clear()
                    await self._said.wait()
                in_a_row += 1
                if in_a_row == _IN_A_ROW:  # none of the above has to wait, if frames come quickly enough
                    in_a_row = 0
                    await asyncio.sleep(0)
        finally:
            await self._stop()

    def _hear(self, data: Any, encoding: Encoding) -> Pieces | None:
        """Take in one frame. What can be answered at once is; all else is begun."""
        try:
            if len(data) > self._desk.limits.body:
                raise Refused("too_large", f"a frame may have {self._desk.limits.body:,} bytes, not {len(data):,}")
            asked = self._desk.read(data, encoding)
        except Refused as error:
            return self._refuse_unread(data, error, encoding)
        except ProtocolError as error:
            return encoding.write_failure(id_in(data, encoding), self._desk.report(error))
        try:
            if isinstance(asked, list):
                return self._begin_batch(asked, encoding)
            if asked.cancel or (asked.credit is not None and not asked.task):
                self._heed(asked, encoding)
                return None
            return self._begin_call(asked, encoding)
        except ProtocolError as error:  # about the id: under it, the answer would be taken for that of another call
            return encoding.write_failure(encoding.null, self._desk.report(error))

    def _begin_call(self, asked: Request, encoding: Encoding) -> Pieces | None:
        """Answer a call, or begin it. Raises `ProtocolError` if its id cannot be its own."""
        id = id_of(asked, encoding)
        if id in self._by_id:
            raise ProtocolError(_taken(id))
        try:
            _insist_on_credit(asked)
            if not asked.stream:
                value = self._desk.answer_at_once(self._guest, asked, encoding, encoding)
                if value is not None:
                    return encoding.write_outcome(id, "result", value)
            self._insist_on_room()
            running = Running(asked.credit)
            answer = self._stream if asked.stream else self._answer
            work = answer(asked, id, encoding, running)
        except Exception as error:
            return encoding.write_failure(id, self._desk.report(error))
        self._begin(work, {id: running} if id is not None and id != encoding.null else {}, running)
        return None

    def _begin_batch(self, asked: Sequence[Request], encoding: Encoding) -> Pieces | None:
        """Begin the calls of a batch, or refuse them all."""
        batch = Batch()
        try:
            ids = [id_of(each, encoding) for each in asked]
            named: dict[bytes, Running | Member] = {
                id: Member(batch, index) for index, id in enumerate(ids) if id is not None and id != encoding.null
            }
            if len(named) < len(ids) - ids.count(None) - ids.count(encoding.null):
                raise ProtocolError("two calls of this batch have the same id")
            if taken := named.keys() & self._by_id.keys():
                raise ProtocolError(_taken(min(taken)))
        except ProtocolError as error:
            return self._refuse_misnamed(asked, error, encoding)
        try:
            self._insist_on_room()
        except Refused as error:
            return self._refuse_all(ids, error, encoding)
        self._begin(self._answer_all(asked, ids, batch, encoding), named, Running(None))
        return None

    def _refuse_misnamed(self, asked: Sequence[Request], error: ProtocolError, encoding: Encoding) -> Pieces:
        """The answer to a batch whose ids cannot be all its own: under each that is no other call's, and once."""
        ids = usable([bytes(each.id) for each in asked if each.id is not UNSET], encoding)
        free = [id for id in dict.fromkeys(ids) if id not in self._by_id]
        if free:
            return self._refuse_all(free, error, encoding)
        return encoding.write_failure(encoding.null, self._desk.report(error))

    def _refuse_unread(self, data: Any, error: Refused, encoding: Encoding) -> Pieces:
        """The answer to a frame that is too much to be read, under the ids that it has: of a batch, the first ones."""
        ids = [id for id in self._desk.ids_of_batch(data, encoding) if id not in self._by_id]
        if ids:
            return self._refuse_all(ids, error, encoding)
        return encoding.write_failure(id_in(data, encoding), self._desk.report(error))

    def _refuse_all(self, ids: Sequence[bytes | None], error: Exception, encoding: Encoding) -> Pieces:
        """The same answer to each call of a batch, so that whoever waits for one knows."""
        failure = self._desk.report(error)
        return encoding.write_batch([encoding.write_failure(id, failure) for id in ids])

    def _begin(self, work: Coroutine[Any, Any, None], named: dict[bytes, Running | Member], running: Running) -> None:
        """Start the work on calls, which are known by these ids until it is done."""
        running.task = task = self._loop.create_task(work)
        self._running.add(task)
        self._answering.add(task)
        self._by_id.update(named)

        def ended(_: object) -> None:
            self._running.discard(task)
            self._answering.discard(task)
            for id in named:
                del self._by_id[id]

        task.add_done_callback(ended)

    def _insist_on_room(self) -> None:
        if len(self._running) >= self._desk.limits.per_socket:
            raise Refused(
                "limit_exceeded", f"{len(self._running)} calls are under way on this connection: wait for some"
            )

    # What becomes of a call.

    async def _answer(self, asked: Request, id: bytes | None, encoding: Encoding, running: Running) -> None:
        try:
            answer = await self._desk.reply(self._guest, asked, id, encoding, encoding)
        except asyncio.CancelledError as error:
            if WITHDRAWN not in error.args:
                raise
            answer = encoding.write_failure(id, WITHDRAWN_CALL)
        running.settled = True
        await self._say(answer, encoding)

    async def _answer_all(
        self, asked: Sequence[Request], ids: Sequence[bytes | None], batch: Batch, encoding: Encoding
    ) -> None:
        try:
            answers = await self._desk.answer_all(self._guest, asked, encoding, encoding, batch)
        except Refused as error:
            return await self._say(self._refuse_all(ids, error, encoding), encoding)
        await self._say(encoding.write_batch(answers), encoding)

    async def _stream(self, asked: Request, id: bytes | None, encoding: Encoding, running: Running) -> None:
        async def say(kind: Outcome, value: Pieces) -> None:
            await self._say(encoding.write_outcome(id, kind, value), encoding)

        telling = Telling(encoding, partial(say, "progress"))
        try:
            async with self._desk.outcomes(self._guest, asked, encoding, encoding, telling.hear) as outcomes:
                async for kind, value in outcomes:
                    if kind == "chunk":
                        await running.has_credit()
                    await telling.finish()
                    running.settled = kind == "result"
                    await say(kind, value)
        except asyncio.CancelledError as error:
            if WITHDRAWN not in error.args:
                raise
            running.settled = True
            await self._say(encoding.write_failure(id, WITHDRAWN_CALL), encoding)
        except Exception as error:
            running.settled = True
            await self._say(encoding.write_failure(id, self._desk.report(error)), encoding)
        finally:
            await telling.aclose()

    # What a client says about a call.

    def _heed(self, asked: Request, encoding: Encoding) -> None:
        """A word about a call under way. Where there is none it is answered already: the two have crossed."""
        id = id_of(asked, encoding)
        if id is None or id == encoding.null:
            raise ProtocolError("this says nothing of the call that it is about: give its id")
        _insist_on_credit(asked)
        running = self._by_id.get(id)
        if running is None:
            return
        if asked.cancel:
            running.withdraw()
        elif isinstance(running, Running) and asked.credit is not None:
            running.give(asked.credit)

    # Frames out.

    async def _say(self, message: Pieces, encoding: Encoding) -> None:
        """Send one frame; returns when there is room for the next."""
        data = b"".join(message)
        self._unsaid += len(data)
        try:
            if encoding.binary:
                await self._send({"type": "websocket.send", "bytes": data})
            else:
                await self._send({"type": "websocket.send", "text": data.decode()})
        except OSError:
            pass  # the client has gone, as `hold` is about to hear
        finally:
            self._unsaid -= len(data)
            self._said.set()

    async def _stop(self) -> None:
        running = list(self._running)
        for task in running:
            task.cancel()
        await asyncio.gather(*running, return_exceptions=True)


class Running:
    """A call under way, and how many items of it may be sent."""

    __slots__ = ("_credit", "_given", "_withdrawn", "settled", "task")

    def __init__(self, credit: int | None) -> None:
        self.task: asyncio.Task[None] | None = None
        self.settled = False
        """Whether it is known what will be said last."""
        self._withdrawn = False
        self._credit = credit
        self._given = asyncio.Event() if credit is not None else None

    def withdraw(self) -> None:
        """Stop it, unless its outcome is there already."""
        if not self._withdrawn:
            self._withdrawn = True
            # Not at once: a call that came in the same packet has not begun, and would end without a word.
            asyncio.get_running_loop().call_soon(self._stop)

    def _stop(self) -> None:
        if self.task is not None and not self.settled:
            self.task.cancel(WITHDRAWN)

    def give(self, credit: int) -> None:
        if self._credit is not None and self._given is not None:
            self._credit += credit
            self._given.set()

    async def has_credit(self) -> None:
        """Wait until one more item may be sent, and use that up."""
        if self._credit is None or self._given is None:
            return
        while self._credit <= 0:
            self._given.clear()
            await self._given.wait()
        self._credit -= 1


class Member:
    """One call of a batch under way."""

    __slots__ = ("_batch", "_index")

    def __init__(self, batch: Batch, index: int) -> None:
        self._batch = batch
        self._index = index

    def withdraw(self) -> None:
        self._batch.withdraw(self._index)


_UNSAID = 1 << 20
"""Bytes of answers that may wait for their client to read before nothing more is taken from it."""

_IN_A_ROW = 32
"""Frames that are heard before everybody else gets a turn."""


def _insist_on_credit(asked: Request) -> None:
    if asked.credit is not None and asked.credit < 0:
        raise ProtocolError(f"credit is a number of items, not {asked.credit}")


def _taken(id: bytes | None) -> str:
    named = (id or b"").decode("utf-8", "replace")
    return f"the id {named} belongs to a call that is still under way: give each its own"


async def _turn_away(scope: Scope, send: Send, failure: Failure) -> None:
    """Answer the handshake with an error, in full where the server can."""
    if "websocket.http.response" not in scope.get("extensions", {}):
        return await send({"type": "websocket.close", "code": 1008, "reason": failure.error[:120]})
    body = b"".join(JSON.write_failure(None, failure))
    headers = [(b"content-type", b"application/json"), (b"content-length", b"%d" % len(body))]
    status = STATUS.get(failure.code, 500)
    await send({"type": "websocket.http.response.start", "status": status, "headers": headers})
    await send({"type": "websocket.http.response.body", "body": body})
