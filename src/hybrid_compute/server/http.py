"""Calls over HTTP: a body in, an answer out; or a stream of items.

Plain ASGI, without a framework in between: what a request costs here is what all small calls cost.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping, MutableMapping
from contextlib import asynccontextmanager
from functools import partial
from typing import Any, Final, TypeAlias, TypeVar

from msgspec import Raw

from hybrid_compute.errors import ProtocolError
from hybrid_compute.links.arena import LARGE
from hybrid_compute.links.begun import Waiting, begin
from hybrid_compute.links.wire import JSON, MESSAGE_PACK, Encoding, Outcome, Pieces, Request, size_of
from hybrid_compute.server.answering import Answering
from hybrid_compute.server.desk import Desk
from hybrid_compute.server.guests import Guest
from hybrid_compute.server.patience import Patience
from hybrid_compute.server.refusals import STATUS, Refused, headers_for
from hybrid_compute.server.streams import Format, format_for
from hybrid_compute.server.telling import Telling

Scope: TypeAlias = MutableMapping[str, Any]
Message: TypeAlias = MutableMapping[str, Any]
Receive: TypeAlias = Callable[[], Awaitable[Message]]
Send: TypeAlias = Callable[[Message], Awaitable[None]]
T = TypeVar("T")
Headers: TypeAlias = Mapping[bytes, bytes]

_LOOK_AFTER: Final = 0.02
"""Seconds after which it pays to look whether the client of a call is still there: most calls are over by then."""


class Compute:
    """`POST /compute`, and `POST /tasks/{name}`."""

    def __init__(self, desk: Desk, admit: Callable[[Mapping[str, Any]], Guest], answering: Answering) -> None:
        self._desk = desk
        self._admit = admit
        self._answering = answering
        self._patience = Patience(desk.limits.patience)

    async def __call__(self, scope: Scope, receive: Receive, send: Send, name: str | None = None) -> None:
        """Answer one request; `name` is the task, where the body is its input alone."""
        headers: Headers = dict(scope["headers"])
        answer_in = _answer_in(headers)
        try:
            guest = self._admit(scope)
            if scope["method"] != "POST":
                raise Refused("method_not_allowed", f"a call is sent with POST, not {scope['method']}")
            encoding = _written_in(headers)
            answer_in = answer_in or encoding
            body = await self._body(headers, receive)
        except Gone:
            return  # nobody is left to tell
        except Exception as error:
            return await self._refuse(send, error, answer_in or JSON)
        with self._answering:
            await self._answer(guest, name, body, headers, encoding, answer_in, receive, send)

    async def _answer(
        self,
        guest: Guest,
        name: str | None,
        body: bytes,
        headers: Headers,
        encoding: Encoding,
        answer_in: Encoding,
        receive: Receive,
        send: Send,
    ) -> None:
        try:
            asked = self._desk.read(body, encoding) if name is None else Request(task=name, input=Raw(body))
            if isinstance(asked, list):
                _say_of_all(asked, headers)
                answers = self._desk.answer_all(guest, asked, encoding, answer_in)
                pieces = answer_in.write_batch(await self._while_connected(receive, answers))
                return await _reply(send, 200, answer_in.content_type, pieces)
            _say_in_headers(asked, headers)
            accept = headers.get(b"accept", b"").decode("latin-1")
            how = format_for(accept, encoding, stream=asked.stream)
            if how is not None:
                answer_in = how.encoding
                return await self._stream(guest, asked, encoding, how, receive, send)
            value = self._desk.answer_at_once(guest, asked, encoding, answer_in)
            if value is None:
                value = await self._while_connected(receive, self._desk.answer(guest, asked, encoding, answer_in))
            await _reply(send, 200, answer_in.content_type, answer_in.write_outcome(None, "result", value))
        except Gone:
            return
        except Exception as error:
            await self._refuse(send, error, answer_in)

    async def refuse(self, send: Send, error: Exception) -> None:
        """Answer with an error."""
        await self._refuse(send, error, JSON)

    async def _refuse(self, send: Send, error: Exception, encoding: Encoding) -> None:
        failure = self._desk.report(error)
        pieces = encoding.write_failure(None, failure)
        status = STATUS.get(failure.code, 500)
        await _reply(send, status, encoding.content_type, pieces, headers_for(error, failure))

    async def _body(self, headers: Headers, receive: Receive) -> bytes:
        most = self._desk.limits.body
        length = headers.get(b"content-length", b"0")
        if length.isdigit() and int(length) > most:
            raise Refused("too_large", f"a request of {int(length):,} bytes is too large: {most:,} are the most")
        body = begin(self._all_of(receive))
        if not isinstance(body, Waiting):  # it came with its head, as most do
            return body
        try:
            return await self._patience.wait_for(body)
        except TimeoutError:
            raise Refused("too_slow", f"the body did not arrive within {self._patience.seconds:g} s") from None

    async def _all_of(self, receive: Receive) -> bytes:
        chunks: list[bytes] = []
        size = 0
        while True:
            message = await receive()
            if message["type"] == "http.disconnect":
                raise Gone
            chunk: bytes = message.get("body", b"")
            size += len(chunk)
            self._check_size(size)
            if not message.get("more_body", False):
                return chunk if not chunks else b"".join([*chunks, chunk])
            chunks.append(chunk)

    def _check_size(self, size: int) -> None:
        if size > self._desk.limits.body:
            raise Refused("too_large", f"a request may have {self._desk.limits.body:,} bytes, not more")

    async def _while_connected(self, receive: Receive, answer: Awaitable[T]) -> T:
        """The answer, unless the client goes away meanwhile: then the call is stopped. Raises `Gone`."""
        async with _watching(receive, _LOOK_AFTER):
            return await answer

    async def _stream(
        self, guest: Guest, asked: Request, encoding: Encoding, how: Format, receive: Receive, send: Send
    ) -> None:
        """Items as they come. What goes wrong before the first has a status; later it is the last item."""
        write = how.encoding
        response = _Response(send, how, self._desk.limits.silence)

        async def say(kind: Outcome, value: Pieces) -> None:
            await response.say(write.write_outcome(None, kind, value))

        telling = Telling(write, partial(say, "progress"))
        async with _watching(receive, 0), response.with_signs_of_life():
            try:
                async with self._desk.outcomes(guest, asked, encoding, write, telling.hear) as outcomes:
                    async for kind, value in outcomes:
                        await telling.finish()
                        await say(kind, value)
            except Exception as error:
                if not response.begun:
                    raise
                await response.say(write.write_failure(None, self._desk.report(error)))
            finally:
                await telling.aclose()
            await response.end()


class Gone(Exception):
    """The client has gone away."""


class _Response:
    """A response that is written item by item."""

    def __init__(self, send: Send, how: Format, silence: float) -> None:
        self.begun = False
        self._send = send
        self._how = how
        self._silence = silence
        self._said_something = False
        self._writing = asyncio.Lock()  # the head comes first, whoever has to wait with it

    async def say(self, message: Pieces) -> None:
        """One message; returns when there is room for the next."""
        self._said_something = True
        await self._write(self._how.frame(b"".join(message)))

    async def end(self) -> None:
        await self._send({"type": "http.response.body", "body": b"", "more_body": False})

    @asynccontextmanager
    async def with_signs_of_life(self) -> AsyncGenerator[None]:
        """Within the block, the reader hears something now and then, whatever the task does."""
        pulse = asyncio.create_task(self._pulse())
        try:
            yield
        finally:
            pulse.cancel()
            await asyncio.wait([pulse])
            if not pulse.cancelled():
                pulse.result()

    async def _pulse(self) -> None:
        while True:
            self._said_something = False
            await asyncio.sleep(self._silence)
            if not self._said_something:
                await self._write(self._how.sign_of_life)

    async def _write(self, data: bytes) -> None:
        async with self._writing:
            if not self.begun:
                await self._send({"type": "http.response.start", "status": 200, "headers": self._headers()})
                self.begun = True
            await self._send({"type": "http.response.body", "body": data, "more_body": True})

    def _headers(self) -> list[tuple[bytes, bytes]]:
        return [
            (b"content-type", self._how.content_type.encode()),
            (b"cache-control", b"no-store"),
            (b"x-accel-buffering", b"no"),  # nginx would collect it
        ]


@asynccontextmanager
async def _watching(receive: Receive, after: float) -> AsyncGenerator[None]:
    """Within the block, and `after` so many seconds, a client that goes away cancels it. Raises `Gone`."""
    loop = asyncio.get_running_loop()
    here = asyncio.current_task()
    watcher: asyncio.Task[None] | None = None
    gone = False

    async def watch() -> None:
        nonlocal gone
        while (await receive())["type"] != "http.disconnect":
            pass
        gone = True
        assert here is not None
        here.cancel()

    def begin() -> None:
        nonlocal watcher
        watcher = loop.create_task(watch())

    timer = loop.call_later(after, begin)
    try:
        yield
    except asyncio.CancelledError:
        if not gone:
            raise
        assert here is not None
        here.uncancel()
        raise Gone from None
    finally:
        timer.cancel()
        if watcher is not None and not watcher.done():
            watcher.cancel()
            await asyncio.wait([watcher])


async def _reply(
    send: Send, status: int, content_type: str, pieces: Pieces, more: list[tuple[bytes, bytes]] | None = None
) -> None:
    whole = b"".join(pieces) if size_of(pieces) < LARGE else None
    length = size_of(pieces) if whole is None else len(whole)
    headers = [(b"content-type", content_type.encode()), (b"content-length", b"%d" % length), *(more or ())]
    await send({"type": "http.response.start", "status": status, "headers": headers})
    if whole is not None:
        return await send({"type": "http.response.body", "body": whole})
    for piece in pieces:
        await send({"type": "http.response.body", "body": piece, "more_body": True})
    await send({"type": "http.response.body", "body": b""})


def _written_in(headers: Headers) -> Encoding:
    """How the body is written. Raises `Refused` for what we do not read."""
    if headers.get(b"content-encoding", b"identity") != b"identity":
        raise Refused("unsupported_media_type", "send the body as it is, not compressed")
    kind = headers.get(b"content-type", b"").partition(b";")[0].strip().lower()
    if kind == b"application/json":
        return JSON
    if kind in _MESSAGE_PACK:
        return MESSAGE_PACK
    found = kind.decode("latin-1") or "no content type"
    raise Refused("unsupported_media_type", f"a call is application/json or application/msgpack, not {found}")


_MESSAGE_PACK = (b"application/msgpack", b"application/x-msgpack", b"application/vnd.msgpack")


def _answer_in(headers: Headers) -> Encoding | None:
    """The encoding that the client asks for in particular."""
    accept = headers.get(b"accept")
    if accept is None:
        return None
    if b"msgpack" in accept:
        return MESSAGE_PACK
    return JSON if b"application/json" in accept else None


def _say_of_all(asked: list[Request], headers: Headers) -> None:
    """Enter what the headers say of each call of a batch."""
    if b"idempotency-key" in headers:
        raise ProtocolError("a key stands for one call, not for a batch of them: give each its own `key`")
    if b"request-timeout" in headers or b"traceparent" in headers:
        for each in asked:
            _say_in_headers(each, headers)


def _say_in_headers(asked: Request, headers: Headers) -> None:
    """Enter what a call says in its headers, where its body says nothing else."""
    if asked.timeout is None and (seconds := headers.get(b"request-timeout")) is not None:
        try:
            asked.timeout = float(seconds)
        except ValueError:
            raise ProtocolError(f"Request-Timeout is a number of seconds, not {seconds.decode('latin-1')!r}") from None
    if asked.key is None and (key := headers.get(b"idempotency-key")) is not None:
        asked.key = key.decode("latin-1").strip('"')
    if asked.traceparent is None and (trace := headers.get(b"traceparent")) is not None:
        asked.traceparent = trace.decode("latin-1")
