"""Calls over HTTP: one request for each, on connections that are kept open.

What aiohttp raises is translated here and in `socket.py`, and nowhere else.
"""

from __future__ import annotations

import asyncio
import os
import socket
import ssl as tls
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Mapping, Sequence
from contextlib import aclosing, asynccontextmanager
from typing import Any

import aiohttp
from aiohttp.abc import AbstractStreamWriter
from aiohttp.payload import Payload

from hybrid_compute.backends.remote.address import Address
from hybrid_compute.backends.remote.cutting import Cutter, Lines, Measured
from hybrid_compute.backends.remote.line import ENCODINGS, Answer, Message, fitting
from hybrid_compute.backends.remote.listing import Listing, read_listing
from hybrid_compute.backends.remote.upkeep import Upkeep
from hybrid_compute.errors import BackendError, BackendUnavailable, ConnectionLost, RemoteProtocolError
from hybrid_compute.links.joining import Joining
from hybrid_compute.links.wire import JSON, MESSAGE_PACK, Encoding, Pieces, Reply, size_of

_KEPT = 4.0
"""Seconds that an idle connection is kept: less than the five after which usual servers close it under a request."""

_AT_ONCE = 1 << 18
"""Bytes of a large message that are written before the event loop gets its turn."""


def open_session(
    address: Address, token: str | None, ssl: tls.SSLContext | None, upkeep: Upkeep
) -> aiohttp.ClientSession:
    """Connections to one server. Cookies, and proxies of the environment, play no part."""
    headers = {"User-Agent": "hybrid-compute", "Accept-Encoding": "identity"}
    if token is not None:
        headers["Authorization"] = f"Bearer {token}"

    def make_socket(found: tuple[Any, ...]) -> socket.socket:
        family, kind, protocol, *_ = found
        return watched(socket.socket(family, kind, protocol), upkeep.heartbeat)

    return aiohttp.ClientSession(
        connector=aiohttp.TCPConnector(
            limit=upkeep.connections,
            keepalive_timeout=_KEPT,
            ssl=ssl if ssl is not None else True,
            socket_factory=make_socket,
        ),
        headers=headers,
        timeout=aiohttp.ClientTimeout(total=None, sock_connect=upkeep.connect),
        cookie_jar=aiohttp.DummyCookieJar(),
        read_bufsize=_AT_ONCE,
        middlewares=(_stay,) if address.by_socket else (),
        ws_response_class=_Joined,
    )


class _Joined(aiohttp.ClientWebSocketResponse):
    """A WebSocket whose frames go out together if they are written in one turn of the event loop."""

    def __init__(self, reader: Any, writer: Any, *args: Any, **kwargs: Any) -> None:
        writer.transport = Joining(writer.transport, asyncio.get_running_loop())
        super().__init__(reader, writer, *args, **kwargs)


async def _stay(request: aiohttp.ClientRequest, ask: aiohttp.ClientHandlerType) -> aiohttp.ClientResponse:
    """Let no WebSocket be opened elsewhere: for other requests there is an option that says so."""
    response = await ask(request)
    if 300 <= response.status < 400:
        response.close()
        raise aiohttp.ClientError(f"it sends callers on to {response.headers.get('Location', 'elsewhere')}")
    return response


def watched(made: socket.socket, seconds: float) -> socket.socket:
    """The socket, where the system itself finds out that the other end is gone, some `seconds` after it went silent."""
    made.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    for option, value in (("TCP_KEEPIDLE", seconds), ("TCP_KEEPINTVL", seconds / 6), ("TCP_KEEPCNT", 3)):
        if hasattr(socket, option):
            made.setsockopt(socket.IPPROTO_TCP, getattr(socket, option), max(1, round(value)))
    return made


async def fetch_listing(session: aiohttp.ClientSession, address: Address, name: str, upkeep: Upkeep) -> Listing | None:
    """The tasks of a server; None if it is there and lists none. Raises `BackendUnavailable`."""
    try:
        async with asyncio.timeout(upkeep.connect), session.get(address.tasks, allow_redirects=False) as response:
            data = await _whole(response, min(_LISTING, upkeep.largest), name)
        if response.status in (404, 405):
            return None
        if response.status != 200:  # nothing was asked for that could have begun
            raise BackendUnavailable(str(refusal(response, data, address, name)), backend=name)
        return read_listing(data)
    except (aiohttp.ClientError, OSError, TimeoutError) as error:
        raise BackendUnavailable(f"{address.base} cannot be reached: {reason_of(error)}", backend=name) from error
    except RemoteProtocolError as error:
        raise BackendUnavailable(f"{address.tasks} is no such server: {error}", backend=name) from error


class HttpLine:
    """A line that is a new request each time."""

    def __init__(
        self,
        session: aiohttp.ClientSession,
        address: Address,
        encoding: Encoding,
        name: str,
        upkeep: Upkeep,
        most: Callable[[], int | None] = lambda: None,
    ) -> None:
        self.lost: asyncio.Future[str] = asyncio.get_running_loop().create_future()
        self._session = session
        self._address = address
        self._encoding = encoding
        self._name = name
        self._upkeep = upkeep
        self._most = most

    async def ask(self, message: Message, /) -> Answer:
        (answer,) = await self._post(self._encoding.write_request(*message), 1)
        return answer

    async def ask_many(self, messages: Sequence[Message], /) -> list[Answer]:
        written = self._encoding.write_batch([self._encoding.write_request(*message) for message in messages])
        return await self._post(written, len(messages))

    @asynccontextmanager
    async def stream(self, message: Message, /) -> AsyncGenerator[AsyncIterator[Answer]]:
        message.fields["stream"] = True
        accept = "application/x-ndjson" if self._encoding is JSON else "application/x-msgpack-stream"
        try:
            response = await self._request(self._encoding.write_request(*message), {"Accept": accept})
        except (aiohttp.ClientError, OSError) as error:
            raise self._failure(error) from error
        try:
            async with aclosing(self._arriving(response)) as answers:
                yield answers
        finally:
            response.close()  # not released: so the server learns at once that nobody listens any more

    async def aclose(self) -> None:
        """Nothing: connections belong to the session."""

    def _request(self, written: Pieces, headers: dict[str, str]) -> Any:
        """A request that is not sent yet. Raises `LimitExceeded`."""
        headers["Content-Type"] = self._encoding.content_type
        body = _body(fitting(written, self._most(), self._name))
        return self._session.post(self._address.calls, data=body, headers=headers, allow_redirects=False)

    async def _post(self, written: Pieces, count: int) -> list[Answer]:
        try:
            async with self._request(written, {}) as response:
                data = await _whole(response, self._upkeep.largest, self._name)
        except (aiohttp.ClientError, OSError) as error:
            raise self._failure(error) from error
        return self._read(response, data, count)

    def _read(self, response: aiohttp.ClientResponse, data: bytes, count: int = 1) -> list[Answer]:
        """What a whole body says. One answer to many calls is that of each: none of them was looked at."""
        encoding = ENCODINGS.get(response.content_type)
        if encoding is None:
            raise refusal(response, data, self._address, self._name)
        replies = encoding.read_replies(data)
        found = replies if isinstance(replies, list) else [replies] * count
        if len(found) != count:
            raise RemoteProtocolError(f"{self._name} gave {len(found)} answers to {count} calls")
        return [Answer(reply, encoding, len(data) // count) for reply in found]

    async def _arriving(self, response: aiohttp.ClientResponse) -> AsyncGenerator[Answer]:
        """The messages of a stream as they come."""
        try:
            if response.status != 200 or response.content_type not in _CUTTERS:
                yield self._read(response, await _whole(response, self._upkeep.largest, self._name))[0]
                return
            make, encoding = _CUTTERS[response.content_type]
            cutter = make(self._upkeep.largest)
            async for data in response.content.iter_any():
                for message in cutter.feed(data):
                    reply = encoding.read_replies(message)
                    if isinstance(reply, list):
                        raise RemoteProtocolError(f"{self._name} sent a list where one item of a stream was due")
                    yield Answer(reply, encoding, len(message))
        except (aiohttp.ClientError, OSError) as error:
            raise self._failure(error) from error

    def _failure(self, error: Exception) -> BackendError:
        """What a failed request means for its call."""
        if not isinstance(error, _NEVER_CONNECTED):
            text = f"the connection to {self._address.base} broke: {reason_of(error)}"
            return ConnectionLost(text, backend=self._name, started=True)
        text = f"{self._address.base} cannot be reached: {reason_of(error)}"
        if not self.lost.done():
            self.lost.set_result(text)
        return BackendUnavailable(text, backend=self._name)


async def _whole(response: aiohttp.ClientResponse, most: int, name: str) -> bytes:
    """The whole body, if it is not too long, whatever it says of its length."""
    parts: list[bytes] = []
    left = most if (response.content_length or 0) <= most else -1
    while left >= 0 and (part := await response.content.readany()):
        parts.append(part)
        left -= len(part)
    if left < 0:
        response.close()
        raise RemoteProtocolError(f"{name} answers with more than {most:,} bytes")
    return b"".join(parts)


_LISTING = 64 << 20
"""Bytes that the list of a server's tasks may have."""

_NEVER_CONNECTED = (aiohttp.ClientConnectorError, aiohttp.ConnectionTimeoutError)
"""What aiohttp raises before a byte of the request was written."""

_CUTTERS: Mapping[str, tuple[Callable[[int], Cutter], Encoding]] = {
    "application/x-ndjson": (Lines, JSON),
    "application/x-msgpack-stream": (Measured, MESSAGE_PACK),
}


def refusal(response: aiohttp.ClientResponse, data: bytes, address: Address, name: str) -> BackendError:
    """What to make of an answer that is none of a server of ours, or of one that says no to everything.

    Whoever gives it may stand before a server at which the call has begun, unless its status says that it has not.
    """
    said = _said(response, data)
    if response.status in (502, 504):  # of a gateway, behind which the call may have begun
        return ConnectionLost(f"behind {address.base} somebody is missing: {said}", backend=name, started=True)
    if 300 <= response.status < 400:
        where = response.headers.get("Location", "elsewhere")
        return BackendUnavailable(f"{address.base} sends callers on to {where}: give that address", backend=name)
    started = response.status not in _NOT_BEGUN
    return BackendUnavailable(f"{address.base} refuses: {said}", backend=name, started=started)


_NOT_BEGUN = frozenset({400, 401, 403, 404, 405, 411, 413, 414, 415, 421, 426, 429, 431})
"""Statuses that are given before anything is done."""


def _said(response: aiohttp.ClientResponse, data: bytes) -> str:
    """The words of a refusal, short enough for one line."""
    try:
        reply = JSON.read_replies(data)
    except RemoteProtocolError:
        reply = None
    if isinstance(reply, Reply) and reply.error:
        return reply.error
    return f"{response.status} {response.reason or ''}".rstrip() + f", as {response.content_type}"


def reason_of(error: BaseException) -> str:
    """Why a connection failed, in words."""
    if isinstance(error, TimeoutError):
        return "it does not answer"
    if isinstance(error, aiohttp.ClientConnectorCertificateError):
        error = error.certificate_error
    elif isinstance(error, aiohttp.ClientConnectorError):
        error = error.os_error
    if isinstance(error, tls.SSLCertVerificationError):
        return f"certificate verify failed: {error.verify_message}"
    if isinstance(error, OSError) and not isinstance(error, tls.SSLError) and error.errno and error.strerror:
        # What asyncio has to say repeats the address. Below zero it is of a name that cannot be resolved.
        return os.strerror(error.errno) if error.errno > 0 else error.strerror
    return " ".join(str(error).split()) or type(error).__name__


class _Body(Payload):
    """A large message, sent from where it lies."""

    def __init__(self, pieces: Pieces) -> None:
        super().__init__(pieces)
        self._size = size_of(pieces)

    def decode(self, encoding: str = "utf-8", errors: str = "strict") -> str:
        raise TypeError("a message is bytes")

    async def write(self, writer: AbstractStreamWriter) -> None:
        for piece in self._value:
            for start in range(0, len(piece), _AT_ONCE):
                await writer.write(piece[start : start + _AT_ONCE])


def _body(pieces: Pieces) -> Any:
    return b"".join(pieces) if size_of(pieces) <= _AT_ONCE else _Body(pieces)
