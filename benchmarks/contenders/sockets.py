"""The same calls as frames of one WebSocket."""

from __future__ import annotations

from functools import partial

from benchmarks.contenders.requests import (
    AT_ONCE,
    BURST,
    BURST_OF_MANY,
    CPU,
    LONG_BURST,
    MANY,
    MANY_RATE,
    MEASURES,
    ONE,
    ONE_RATE,
)
from benchmarks.harness import Group
from benchmarks.load import Frames, look, look_at_cpu, open_socket
from benchmarks.loops import run_on
from benchmarks.measure import Effort, Figures
from benchmarks.serving import Server, serving

group = Group("websocket", "A trivial task on one WebSocket, one server process")


def converse(name: str, effort: Effort) -> Figures:
    async def measure(server: Server) -> Figures:
        socket = await open_socket(server.port)
        figures: Figures = {}
        figures[ONE], figures[ONE_RATE] = await look(Frames(socket, 1).burst, BURST, effort)
        frames = Frames(socket, AT_ONCE)
        figures[MANY], figures[MANY_RATE] = await look(frames.burst, BURST_OF_MANY, effort)
        figures[CPU] = await look_at_cpu(frames.burst, LONG_BURST, server.pid)
        socket.close()
        return figures

    with serving(name) as server:
        return run_on("uvloop", measure(server))


group.limit("raw ASGI, msgspec", *MEASURES)(partial(converse, "bare"))
group.ours("create_app", *MEASURES)(partial(converse, "ours"))
group.ours("create_app, in a worker", *MEASURES)(partial(converse, "workers"))
group.peer("Starlette, msgspec", *MEASURES)(partial(converse, "starlette"))
