"""Clients that say exactly what a test wants said, byte by byte if need be; and what they hear."""

from __future__ import annotations

import base64
import json
import os
import socket
import struct
from collections.abc import Mapping
from dataclasses import dataclass
from http.client import HTTPConnection, HTTPResponse
from typing import Any, Self

import msgspec

from tests.faults.watching import wait_until as wait_until

PATIENCE = 20.0
"""Seconds after which nothing more is expected: far more than anything here takes."""


@dataclass(frozen=True, slots=True)
class Answer:
    """What a server said to one request."""

    status: int
    headers: Mapping[str, str]
    body: bytes

    @property
    def value(self) -> Any:
        """The body, read as it says it is written."""
        if "msgpack" in self.headers["content-type"]:
            return msgspec.msgpack.decode(self.body)
        assert self.headers["content-type"] == "application/json", self.headers
        return json.loads(self.body)

    @property
    def lines(self) -> list[Any]:
        """The messages of a stream, one in each line that is not blank."""
        return [json.loads(line) for line in self.body.splitlines() if line]

    def failure(self) -> tuple[int, str]:
        """Its status and code, if it says what went wrong as it should."""
        assert isinstance(self.value["error"], str)
        assert self.value["error"]
        return self.status, self.value["code"]


def ask(
    port: int, method: str, path: str, body: bytes | None = None, headers: Mapping[str, str] | None = None
) -> Answer:
    """The answer to one request, on a connection of its own."""
    connection = HTTPConnection("127.0.0.1", port, timeout=PATIENCE)
    try:
        connection.request(method, path, body, dict(headers or {}))
        return _read(connection.getresponse())
    finally:
        connection.close()


def post(port: int, call: Any, **headers: str) -> Answer:
    """The answer to a call, or to a list of them, in JSON. Headers are given with `_` for `-`."""
    named = {"Content-Type": "application/json"} | {name.replace("_", "-"): each for name, each in headers.items()}
    return ask(port, "POST", "/compute", json.dumps(call).encode(), named)


def result(port: int, task: str, input: Any = None, **headers: str) -> Any:
    """The result of a call that must go well."""
    answer = post(port, {"task": task, "input": input}, **headers)
    assert answer.status == 200, answer
    return answer.value["result"]


def insist_it_serves(port: int, **headers: str) -> None:
    """A server that has been ill-treated must still answer, at once."""
    assert result(port, "add", {"a": 1, "b": 2}, **headers) == 3


def head(method: str, path: str, **headers: object) -> bytes:
    """The head of a request as bytes; for those that no client would send."""
    lines = [f"{method} {path} HTTP/1.1", "Host: localhost"]
    lines += [f"{name.replace('_', '-')}: {each}" for name, each in headers.items()]
    return "\r\n".join([*lines, "", ""]).encode()


class Line:
    """A TCP connection, to say what no client library would."""

    def __init__(self, port: int, *, room: int | None = None) -> None:
        self.socket = socket.socket()
        if room is not None:
            self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, room)
        self.socket.settimeout(PATIENCE)
        try:
            self.socket.connect(("127.0.0.1", port))
        except OSError:
            self.socket.close()
            raise

    def send(self, data: bytes) -> None:
        self.socket.sendall(data)

    def answer(self) -> Answer:
        """The next answer."""
        return _read(HTTPResponse(self.socket))

    def is_closed(self) -> bool:
        """Whether the other end hangs up, after which nothing can come; waits for it."""
        try:
            while self.socket.recv(1 << 16):
                pass
        except ConnectionError:
            pass
        return True

    def close(self) -> None:
        self.socket.close()

    def reset(self) -> None:
        """Hang up as a machine does that lost its power."""
        self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.socket.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


TEXT, BINARY, CLOSE, PING, PONG = 1, 2, 8, 9, 10


class Frames(Line):
    """A WebSocket, to say what no client library would."""

    def __init__(self, port: int, path: str = "/compute", *, room: int | None = None, **headers: object) -> None:
        super().__init__(port, room=room)
        key = base64.b64encode(os.urandom(16)).decode()
        self.send(
            head(
                "GET",
                path,
                Upgrade="websocket",
                Connection="Upgrade",
                Sec_WebSocket_Key=key,
                Sec_WebSocket_Version=13,
                **headers,
            )
        )
        self.file = self.socket.makefile("rb")
        self.welcome = self._welcome()

    def say(self, message: Any) -> None:
        """A text frame, as JSON unless it is text already."""
        self.frame(TEXT, (message if isinstance(message, str) else json.dumps(message)).encode())

    def frame(self, opcode: int, payload: bytes, *, last: bool = True, masked: bool = True) -> None:
        self.send(as_frame(opcode, payload, last=last, masked=masked))

    def hear(self) -> Any:
        """The next message; `(CLOSE, code)` if there is none."""
        while True:
            opcode, payload = self._read_frame()
            if opcode == TEXT:
                return json.loads(payload)
            if opcode == BINARY:
                return msgspec.msgpack.decode(payload)
            if opcode == CLOSE:
                return CLOSE, int.from_bytes(payload[:2], "big")

    def ask(self, message: Any) -> Any:
        self.say(message)
        return self.hear()

    def close(self) -> None:
        self.file.close()
        super().close()

    def reset(self) -> None:
        self.file.close()
        super().reset()

    def _welcome(self) -> tuple[int, dict[str, str], bytes]:
        status = int(self.file.readline().split()[1])
        headers: dict[str, str] = {}
        while line := self.file.readline().strip():
            name, _, value = line.decode().partition(": ")
            headers[name.lower()] = value
        body = b"" if status == 101 else self.file.read(int(headers.get("content-length", 0)))
        return status, headers, body

    def _read_frame(self) -> tuple[int, bytes]:
        start = self.file.read(2)
        if len(start) < 2:
            return CLOSE, b"\0\0"
        size = start[1] & 127
        if size > 125:
            size = int.from_bytes(self.file.read(2 if size == 126 else 8), "big")
        return start[0] & 15, self.file.read(size)


def as_frame(opcode: int, payload: bytes, *, last: bool = True, masked: bool = True) -> bytes:
    """One frame as a client sends it. The mask is zero, which leaves the payload as it is."""
    size = len(payload)
    if size < 126:
        length = bytes([size | masked << 7])
    elif size < 1 << 16:
        length = bytes([126 | masked << 7]) + struct.pack(">H", size)
    else:
        length = bytes([127 | masked << 7]) + struct.pack(">Q", size)
    return bytes([opcode | last << 7]) + length + (bytes(4) if masked else b"") + payload


def _read(response: HTTPResponse) -> Answer:
    if response.headers is None:
        response.begin()
    body = response.read()
    return Answer(response.status, {name.lower(): each for name, each in response.headers.items()}, body)
