"""The least that a server can be: what runs, and what is remembered, is one line in one file.

A program of its own, `python -m tests.outbox.plainly FOLDER PORT`, which starts quickly because it imports nothing.
"""

from __future__ import annotations

import asyncio
import json
import os
import sys
import time
from pathlib import Path


def run_once(folder: Path, number: int) -> int:
    """A line in `ran`, as soon as there is leave for it."""
    end = time.monotonic() + 100
    while len(lines(folder / "ran")) >= int((folder / "allowed").read_text()):
        assert time.monotonic() < end, "nobody has given leave"
        time.sleep(0.001)
    append(folder / "ran", str(number))
    return 2 * number


def append(path: Path, line: str) -> None:
    """A whole line, or none: the system writes so little at once."""
    file = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
    os.write(file, f"{line}\n".encode())
    os.close(file)


def lines(path: Path) -> list[str]:
    return path.read_text().splitlines() if path.exists() else []


async def serve(folder: Path, port: int) -> None:
    """Answer calls. One that was seen before, by this process or one before it, is not run again."""
    running: dict[int, asyncio.Task[None]] = {}

    async def once(number: int) -> None:
        if str(number) not in lines(folder / "ran"):
            await asyncio.to_thread(run_once, folder, number)

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if asked := await reader.readline():  # nothing, if the client died meanwhile
            number = json.loads(asked)["number"]
            if number not in running:
                running[number] = asyncio.create_task(once(number))
            await asyncio.shield(running[number])
            writer.write(f"{2 * number}\n".encode())
        writer.close()

    server = await asyncio.start_server(answer, "127.0.0.1", port)
    async with server:
        await server.serve_forever()


if __name__ == "__main__":
    asyncio.run(serve(Path(sys.argv[1]), int(sys.argv[2])))
