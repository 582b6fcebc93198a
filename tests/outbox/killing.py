"""Programs that a test starts and kills: `python -m tests.outbox.killing NAME FOLDER PORT`.

They share a folder. `ran` has a line for each time that a call ran; a call runs only while there are fewer lines in it
than `allowed` says, so the test decides when calls are under way. `accepted` has a line for each call whose `put` has
returned, `ended` one for each outcome that was fetched.
"""

from __future__ import annotations

import asyncio
import json
import socket
import sys
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any

from hybrid_compute import Backend, Outbox, task
from hybrid_compute.calls import Call
from hybrid_compute.errors import BackendUnavailable, ConnectionLost, HybridComputeError, OutcomeUnknown
from hybrid_compute.outbox.deciding import Backoff
from hybrid_compute.tasks import AnyTask
from tests.outbox.plainly import append, lines, run_once

CALLS = 1000
AT_ONCE = 8


@task
def note(folder: str, number: int) -> int:
    """Not pure: who runs it twice leaves two lines."""
    return run_once(Path(folder), number)


# The client.


async def send(folder: Path, to: Backend) -> None:
    """Put all calls that were not accepted yet, a few at a time, and fetch what becomes of each."""
    room = asyncio.Semaphore(4 * AT_ONCE)
    accepted, ended = set(lines(folder / "accepted")), {line.split()[0] for line in lines(folder / "ended")}
    quick = Backoff(first=0.01, most=0.05)

    async def one(outbox: Outbox, key: str) -> None:
        async with room:
            if key in accepted:
                ticket = await outbox.ticket(key)
            else:
                ticket = await outbox.options(key=key, tries=1000).put(note, str(folder), int(key))
                append(folder / "accepted", key)
            try:
                outcome = str(await ticket.result())
            except OutcomeUnknown:
                outcome = "unknown"
            except HybridComputeError as error:
                outcome = f"{error!r}"
            append(folder / "ended", f"{key} {outcome}")

    async with Outbox(folder / "calls.db", to=to, tasks=[note], limit=AT_ONCE, backoff=quick) as outbox:
        async with asyncio.TaskGroup() as group:
            for number in range(CALLS):
                if str(number) not in ended:
                    group.create_task(one(outbox, str(number)))


class Plain(Backend):
    """The server in `plainly.py`: a line of JSON there, and one back, on a connection for each call."""

    name = "plain"
    on_this_machine = False
    remembers_keys = True

    def __init__(self, port: int) -> None:
        self._port = port

    def can_run(self, task: AnyTask, /) -> bool:
        return True

    async def run_task(self, task: AnyTask, /, *args: Any, **kwargs: Any) -> Any:
        raise AssertionError("a call comes with its key")

    async def run_call(self, call: Call, /) -> Any:
        try:
            reader, writer = await asyncio.open_connection("127.0.0.1", self._port)
        except OSError as error:
            raise BackendUnavailable(f"nobody listens: {error}", backend=self.name) from error
        try:
            writer.write(json.dumps({"key": call.key, "number": call.args[1]}).encode() + b"\n")
            await writer.drain()
            answer = await reader.readline()
        except OSError as error:
            raise ConnectionLost(f"lost: {error}", backend=self.name, started=True) from error
        finally:
            writer.close()
        if not answer.endswith(b"\n"):
            raise ConnectionLost("lost before the answer", backend=self.name, started=True)
        return json.loads(answer)


# The server of this library.


async def serve_really(folder: Path, port: int) -> None:
    from hybrid_compute import LocalBackend, Runtime
    from hybrid_compute.server import Limits, create_app
    from hybrid_compute.server.serving import Address, make_server

    async with Runtime([LocalBackend(threads=AT_ONCE)], tasks=[note]) as rt:
        app = create_app(rt, remember=folder / "keys.db")
        server = make_server(app, Address(port=port), Limits(), log_level="error")
        await server.serve(sockets=[socket.create_server(("127.0.0.1", port))])


async def send_really(folder: Path, port: int) -> None:
    from hybrid_compute.backends.remote.backend import RemoteBackend
    from hybrid_compute.backends.remote.upkeep import Upkeep

    upkeep = Upkeep(first_pause=0.01, longest_pause=0.05)
    await send(folder, RemoteBackend(f"http://127.0.0.1:{port}", upkeep=upkeep))


PROGRAMS: dict[str, Callable[[Path, int], Coroutine[Any, Any, None]]] = {
    "plain client": lambda folder, port: send(folder, Plain(port)),
    "real server": serve_really,
    "real client": send_really,
}

if __name__ == "__main__":
    asyncio.run(PROGRAMS[sys.argv[1]](Path(sys.argv[2]), int(sys.argv[3])))
