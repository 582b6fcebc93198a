"""Programs that a test starts and kills: `python -m tests.outbox.killing NAME FOLDER PORT`.

They share a folder. `ran` has a line for each time that a call ran; a call runs only while there are fewer lines in it
than `allowed` says, so the test decides when calls are under way. `accepted` has a line for each call whose `put` has
returned, `ended` one for each outcome that was fetched.
"""

from __future__ import annotations

import asyncio
import json
import os
import socket
import sys
import time
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any

from hybrid_compute import Backend, Outbox, task
from hybrid_compute.calls import Call
from hybrid_compute.errors import BackendUnavailable, ConnectionLost, HybridComputeError, OutcomeUnknown
from hybrid_compute.outbox.deciding import Backoff
from hybrid_compute.tasks import AnyTask

CALLS = 1000
AT_ONCE = 8


@task
def note(folder: str, number: int) -> int:
    """Run once: a line in `ran`, when there is leave for it. Not pure."""
    await_leave(Path(folder))
    append(Path(folder) / "ran", str(number))
    return 2 * number


def await_leave(folder: Path) -> None:
    end = time.monotonic() + 50
    while len(lines(folder / "ran")) >= int((folder / "allowed").read_text()):
        assert time.monotonic() < end, "nobody has given leave"
        time.sleep(0.001)


def append(path: Path, line: str) -> None:
    """A whole line, or none: the system writes so little at once."""
    file = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
    os.write(file, f"{line}\n".encode())
    os.close(file)


def lines(path: Path) -> list[str]:
    return path.read_text().splitlines() if path.exists() else []


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


# The least that a server can be: what runs, and what is remembered, is one line in one file.


class Plain(Backend):
    """A line of JSON there, and one back, on a connection for each call."""

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


async def serve_plainly(folder: Path, port: int) -> None:
    running: dict[str, asyncio.Task[None]] = {}

    async def once(key: str, number: int) -> None:
        if str(number) not in lines(folder / "ran"):
            await asyncio.to_thread(note.fn, str(folder), number)

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        asked = json.loads(await reader.readline())
        key, number = asked["key"], asked["number"]
        if key not in running:
            running[key] = asyncio.create_task(once(key, number))
        await asyncio.shield(running[key])
        writer.write(f"{2 * number}\n".encode())
        writer.close()

    server = await asyncio.start_server(answer, "127.0.0.1", port)
    async with server:
        await server.serve_forever()


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
    "plain server": serve_plainly,
    "plain client": lambda folder, port: send(folder, Plain(port)),
    "real server": serve_really,
    "real client": send_really,
}

if __name__ == "__main__":
    asyncio.run(PROGRAMS[sys.argv[1]](Path(sys.argv[2]), int(sys.argv[3])))
