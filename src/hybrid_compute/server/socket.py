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
from hybrid_compute.server.desk import CANCELLED, Desk
from hybrid_compute.server.door import PROTOCOL
from hybrid_compute.server.guests import Guest
from hybrid_compute.server.http import Receive, Scope, Send
from hybrid_compute.server.memory import WITHDRAWN
from hybrid_compute.server.refusals import STATUS, Refused
from hybrid_compute.server.telling import Telling


class Sockets:
    """The WebSocket at `/compute`."""

    def __init__(self, desk: Desk, admit: Callable[[Mapping[str, Any]], Guest]) -> None:
        self._desk = desk
        self._admit = admit

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        await receive()  # "websocket.connect"
        try:
            guest = self._admit(scope)
        except Refused as error:
            return await _turn_away(scope, send, self._desk.report(error))
        chosen = PROTOCOL if PROTOCOL in scope.get("subprotocols", ()) else None
        await send({"type": "websocket.accept", "subprotocol": chosen})
        await Conversation(self._desk, guest, send).hold(receive)


class Conversation:
    """One connection: the calls that came over it and are not yet answered."""

    def __init__(self, desk: Desk, guest: Guest, send: Send) -> None:
        self._desk = desk
        self._guest = guest
        self._send = send
        self._loop = asyncio.get_running_loop()
        self._by_id: dict[bytes, Running] = {}
        self._running: set[asyncio.Task[None]] = set()

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
            asked = encoding.read_requests(data)
        except (Refused, ProtocolError) as error:
            return encoding.write_failure(encoding.read_id(data) or encoding.null, self._desk.report(error))
        if isinstance(asked, list):
            return self._begin(asked, encoding, partial(self._answer_all, asked, encoding), None)
        if asked.cancel:
            self._withdraw(asked)
            return None
        if asked.credit is not None and not asked.task:
            self._give_credit(asked)
            return None
        id = _id_of(asked)
        if asked.stream:
            running = Running(asked.credit)
            return self._begin([asked], encoding, partial(self._stream, asked, encoding, running), running)
        if id in self._by_id:
            return self._refuse(asked, ProtocolError(_taken(id)), encoding)
        try:
            value = self._desk.answer_at_once(self._guest, asked, encoding, encoding)
        except Exception as error:
            return encoding.write_failure(id, self._desk.report(error))
        if value is not None:
            return encoding.write_outcome(id, "result", value)
        return self._begin([asked], encoding, partial(self._answer, asked, encoding), None)

    def _begin(
        self,
        asked: Sequence[Request],
        encoding: Encoding,
        work: Callable[[], Coroutine[Any, Any, None]],
        running: Running | None,
    ) -> Pieces | None:
        """Start the work on these calls. If there is no room, or their ids are not free: what to say of that."""
        ids = [bytes(each.id) for each in asked if each.id is not UNSET]
        try:
            self._insist_on_room(ids)
        except (Refused, ProtocolError) as error:
            return self._refuse(asked[0] if len(asked) == 1 else None, error, encoding)
        running = running or Running(None)
        running.task = task = self._loop.create_task(work())
        self._running.add(task)
        for id in ids:
            self._by_id[id] = running

        def ended(_: object) -> None:
            self._running.discard(task)
            for id in ids:
                del self._by_id[id]

        task.add_done_callback(ended)
        return None

    def _insist_on_room(self, ids: Sequence[bytes]) -> None:
        if len(self._running) >= self._desk.limits.per_socket:
            raise Refused(
                "limit_exceeded", f"{len(self._running)} calls are under way on this connection: wait for some"
            )
        if len(set(ids)) < len(ids):
            raise ProtocolError("two calls of this batch have the same id")
        if taken := [id for id in ids if id in self._by_id]:
            raise ProtocolError(_taken(taken[0]))

    def _refuse(self, asked: Request | None, error: Exception, encoding: Encoding) -> Pieces:
        """What is said of a call that is not begun: under its id, unless that is another's."""
        id = None if asked is None or isinstance(error, ProtocolError) else _id_of(asked)
        return encoding.write_failure(id or encoding.null, self._desk.report(error))

    # What becomes of a call.

    async def _answer(self, asked: Request, encoding: Encoding) -> None:
        try:
            answer = await self._desk.reply(self._guest, asked, encoding, encoding)
        except asyncio.CancelledError as error:
            if WITHDRAWN not in error.args:
                raise
            answer = encoding.write_failure(_id_of(asked), _WITHDRAWN)
        await self._say(answer, encoding)

    async def _answer_all(self, asked: list[Request], encoding: Encoding) -> None:
        try:
            answers = await self._desk.answer_all(self._guest, asked, encoding, encoding)
        except asyncio.CancelledError as error:
            if WITHDRAWN not in error.args:
                raise
            answers = [encoding.write_failure(_id_of(each), _WITHDRAWN) for each in asked]
        except Refused as error:
            return await self._say(encoding.write_failure(encoding.null, self._desk.report(error)), encoding)
        await self._say(encoding.write_batch(answers), encoding)

    async def _stream(self, asked: Request, encoding: Encoding, running: Running) -> None:
        id = _id_of(asked)

        async def say(kind: Outcome, value: Pieces) -> None:
            await self._say(encoding.write_outcome(id, kind, value), encoding)

        telling = Telling(encoding, partial(say, "progress"))
        try:
            async with self._desk.outcomes(self._guest, asked, encoding, encoding, telling.hear) as outcomes:
                async for kind, value in outcomes:
                    if kind == "chunk":
                        await running.has_credit()
                    await telling.finish()
                    await say(kind, value)
        except asyncio.CancelledError as error:
            if WITHDRAWN not in error.args:
                raise
            await self._say(encoding.write_failure(id, _WITHDRAWN), encoding)
        except Exception as error:
            await self._say(encoding.write_failure(id, self._desk.report(error)), encoding)
        finally:
            await telling.aclose()

    # What a client says about a call.

    def _withdraw(self, asked: Request) -> None:
        running = self._by_id.get(_id_of(asked) or b"")
        if running is not None:  # else it is answered already: the two have crossed
            assert running.task is not None
            running.task.cancel(WITHDRAWN)

    def _give_credit(self, asked: Request) -> None:
        running = self._by_id.get(_id_of(asked) or b"")
        if running is not None and asked.credit is not None:
            running.give(asked.credit)

    # Frames out.

    async def _say(self, message: Pieces, encoding: Encoding) -> None:
        """Send one frame; returns when there is room for the next."""
        data = b"".join(message)
        try:
            if encoding.binary:
                await self._send({"type": "websocket.send", "bytes": data})
            else:
                await self._send({"type": "websocket.send", "text": data.decode()})
        except OSError:
            pass  # the client has gone, as `hold` is about to hear

    async def _stop(self) -> None:
        running = list(self._running)
        for task in running:
            task.cancel()
        await asyncio.gather(*running, return_exceptions=True)


class Running:
    """A call under way, and how many items of it may be sent."""

    __slots__ = ("_credit", "_given", "task")

    def __init__(self, credit: int | None) -> None:
        self.task: asyncio.Task[None] | None = None
        self._credit = credit
        self._given = asyncio.Event() if credit is not None else None

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


_WITHDRAWN = Failure("the call was withdrawn", CANCELLED)


_IN_A_ROW = 32
"""Frames that are heard before everybody else gets a turn."""


def _taken(id: bytes | None) -> str:
    named = (id or b"").decode("utf-8", "replace")
    return f"the id {named} belongs to a call that is still under way: give each its own"


def _id_of(asked: Request) -> bytes | None:
    return None if asked.id is UNSET else bytes(asked.id)


async def _turn_away(scope: Scope, send: Send, failure: Failure) -> None:
    """Answer the handshake with an error, in full where the server can."""
    if "websocket.http.response" not in scope.get("extensions", {}):
        return await send({"type": "websocket.close", "code": 1008, "reason": failure.error[:120]})
    body = b"".join(JSON.write_failure(None, failure))
    headers = [(b"content-type", b"application/json"), (b"content-length", b"%d" % len(body))]
    status = STATUS.get(failure.code, 500)
    await send({"type": "websocket.http.response.start", "status": status, "headers": headers})
    await send({"type": "websocket.http.response.body", "body": body})
