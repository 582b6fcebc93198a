"""A server on a free port of this machine, and a call over HTTP: the program is its own client, and ends by itself.

What a client sends is checked against the type hints of the task; what goes wrong is told with a code and a text.
From a shell the same server is `hybrid-compute serve serve.py`.
"""

import asyncio
import json
from collections.abc import Iterator
from typing import Any
from urllib.error import HTTPError
from urllib.request import Request, urlopen

from hybrid_compute import task
from hybrid_compute.server import Limits, create_app
from hybrid_compute.server.serving import Address, listen, make_server, url_of


@task(pure=True)
def count_primes(limit: int) -> int:
    """How many primes there are below `limit`."""
    return sum(all(number % divisor for divisor in range(2, int(number**0.5) + 1)) for number in range(2, limit))


@task
def countdown(start: int) -> Iterator[int]:
    """The numbers from `start` down to 0."""
    yield from range(start, -1, -1)


def post(url: str, value: Any, accept: str = "application/json") -> str:
    """What a client anywhere would do: send JSON, read JSON."""
    headers = {"Content-Type": "application/json", "Accept": accept}
    try:
        with urlopen(Request(url, json.dumps(value).encode(), headers)) as answer:
            return str(answer.read().decode())
    except HTTPError as refusal:
        with refusal:
            return f"{refusal.code} {refusal.read().decode()}"


def ask(url: str) -> None:
    print("a call:  ", post(f"{url}/tasks/count_primes", 10_000))
    print("a list:  ", post(f"{url}/compute", [{"task": "count_primes", "input": 10 * n} for n in (1, 10)]))
    print("a stream:", post(f"{url}/tasks/countdown", 2, accept="application/x-ndjson").split())
    print("an error:", post(f"{url}/tasks/count_primes", "ten"))


async def main() -> None:
    address = Address(port=0)  # any that is free
    listening = listen(address)
    server = make_server(create_app([count_primes, countdown], workers=2), address, Limits(), log_level="warning")
    serving = asyncio.create_task(server.serve(listening))
    await asyncio.to_thread(ask, url_of(address, listening[0]))
    server.should_exit = True  # as a signal does: it finishes the calls it has taken
    await serving


if __name__ == "__main__":
    asyncio.run(main())
