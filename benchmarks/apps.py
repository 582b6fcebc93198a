"""The servers in the comparison: ours, and the same echo of a call written by hand.

    POST /compute        {task, input}      ->  {result}
    WebSocket /compute   {id, task, input}  ->  {id, result}, or with `stream` {id, chunk} ... {id, result}

Ours finds the task, checks the input against its types, runs it, counts it, and sees to limits; the others only echo.
This module is imported where a server runs, and each app where it is made: a process carries its own libraries only.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any, TypeAlias

import msgspec

from benchmarks.tasks import count, count_in_loop, echo
from hybrid_compute.tasks import Cost

Message: TypeAlias = MutableMapping[str, Any]
Receive: TypeAlias = Callable[[], Awaitable[Message]]
Send: TypeAlias = Callable[[Message], Awaitable[None]]

JSON = (b"content-type", b"application/json")


class Asked(msgspec.Struct):
    task: str
    input: Any = None
    id: int = 0
    stream: bool = False


class Result(msgspec.Struct):
    result: Any


class Answer(msgspec.Struct):
    id: int
    result: Any


class Chunk(msgspec.Struct):
    id: int
    chunk: Any


read = msgspec.json.Decoder(Asked).decode
write = msgspec.json.Encoder().encode


# ASGI and nothing else: what no server can beat on this uvicorn.


async def bare(scope: Message, receive: Receive, send: Send) -> None:
    """Echoes calls."""
    if scope["type"] == "websocket":
        return await _converse(receive, send)
    await _reply(send, write(Result(read(await _body(receive)).input)), JSON)


async def whole(scope: Message, receive: Receive, send: Send) -> None:
    """Gives back every body as it came."""
    await _reply(send, await _body(receive), (b"content-type", b"application/octet-stream"))


async def _body(receive: Receive) -> bytes:
    parts: list[bytes] = []
    while True:
        message = await receive()
        parts.append(message["body"])
        if not message.get("more_body", False):
            return parts[0] if len(parts) == 1 else b"".join(parts)


async def _reply(send: Send, body: bytes, content_type: tuple[bytes, bytes]) -> None:
    headers = [content_type, (b"content-length", b"%d" % len(body))]
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    await send({"type": "http.response.body", "body": body})


async def _converse(receive: Receive, send: Send) -> None:
    await receive()  # "websocket.connect"
    await send({"type": "websocket.accept"})
    while (message := await receive())["type"] == "websocket.receive":
        asked = read(message["text"])
        if asked.stream:
            for number in range(asked.input):
                await send({"type": "websocket.send", "text": write(Chunk(asked.id, number)).decode()})
            asked.input = None
        await send({"type": "websocket.send", "text": write(Answer(asked.id, asked.input)).decode()})


# The frameworks, and ours.


def starlette() -> Any:
    from starlette.applications import Starlette
    from starlette.requests import Request
    from starlette.responses import Response
    from starlette.routing import Route, WebSocketRoute
    from starlette.websockets import WebSocket, WebSocketDisconnect

    async def compute(request: Request) -> Response:
        return Response(write(Result(read(await request.body()).input)), media_type="application/json")

    async def converse(socket: WebSocket) -> None:
        await socket.accept()
        try:
            while True:
                asked = read(await socket.receive_text())
                await socket.send_text(write(Answer(asked.id, asked.input)).decode())
        except WebSocketDisconnect:
            pass

    return Starlette(routes=[Route("/compute", compute, methods=["POST"]), WebSocketRoute("/compute", converse)])


def fastapi() -> Any:
    from fastapi import FastAPI
    from pydantic import create_model

    asked: Any = create_model("Asked", task=str, input=Any)
    result: Any = create_model("Result", result=Any)
    app = FastAPI()

    async def compute(call: Any) -> Any:
        return result(result=call.input)

    compute.__annotations__ = {"call": asked, "return": result}  # they are known only here
    app.post("/compute")(compute)
    return app


def ours(cost: Cost = "trivial") -> Any:
    """Our server. Its echo runs where it was read if it promises to be trivial, else in a worker."""
    from hybrid_compute import task
    from hybrid_compute.server import create_app

    there = task(name="echo_there", cost="cpu")(echo)
    counts = task(cost="io")(count_in_loop), task(cost="cpu")(count)
    return create_app([task(name="echo", cost=cost)(echo), there, *counts], workers=2)


APPS: dict[str, Callable[[], Any]] = {
    "bare": lambda: bare,
    "whole": lambda: whole,
    "starlette": starlette,
    "fastapi": fastapi,
    "ours": ours,
    "workers": lambda: ours("cpu"),
}
