"""`POST /compute` for a task that only echoes: our server beside the same echo by hand, all on the same uvicorn."""

from __future__ import annotations

from functools import partial

from benchmarks.harness import Group
from benchmarks.load import connect, look, look_at_cpu, requests
from benchmarks.loops import run_on
from benchmarks.measure import Effort, Figures
from benchmarks.serving import Server, serving

group = Group("http", "POST /compute of a trivial task, one server process")

ONE, ONE_RATE = "1 in flight, time of a call", "1 in flight"
MANY, MANY_RATE = "64 in flight, time of a call", "64 in flight"
CPU = "64 in flight, server CPU per call"
MEASURES = (ONE, ONE_RATE, MANY, MANY_RATE, CPU)

AT_ONCE = 64
BURST = 64  # requests between two looks at the clock, of one connection
BURST_OF_MANY = 2048
LONG_BURST = 8192


def post(name: str, effort: Effort) -> Figures:
    async def measure(server: Server) -> Figures:
        connections = await connect(server.port, AT_ONCE)
        figures: Figures = {}
        figures[ONE], figures[ONE_RATE] = await look(requests(connections[:1]), BURST, effort)
        figures[MANY], figures[MANY_RATE] = await look(requests(connections), BURST_OF_MANY, effort)
        figures[CPU] = await look_at_cpu(requests(connections), LONG_BURST, server.pid)
        for connection in connections:
            connection.close()
        return figures

    with serving(name) as server:
        return run_on("uvloop", measure(server))


group.limit("raw ASGI, msgspec", *MEASURES)(partial(post, "bare"))
group.ours("create_app", *MEASURES)(partial(post, "ours"))
group.ours("create_app, in a worker", *MEASURES)(partial(post, "workers"))
group.peer("Starlette, msgspec", *MEASURES)(partial(post, "starlette"))
group.peer("FastAPI, pydantic", *MEASURES)(partial(post, "fastapi"))
