"""A web handler that stays responsive under load, and the same handler without workers for contrast.

A handler that computes in the event loop keeps every other client waiting. Here the same requests are answered twice,
once from worker processes and once in the loop itself; meanwhile a coroutine measures how late the loop wakes it.
"""

import asyncio
from collections.abc import Awaitable, Callable
from functools import partial
from statistics import quantiles

from hybrid_compute import Runtime, WorkerBackend, task

CLIENTS, REQUESTS, LIMIT = 4, 8, 8_000

Compute = Callable[[int], Awaitable[int]]


@task(pure=True)
def count_primes(limit: int) -> int:
    """How many primes there are below `limit`: some 20 ms of pure Python for 8,000."""
    return sum(all(number % divisor for divisor in range(2, int(number**0.5) + 1)) for number in range(2, limit))


async def answer(compute: Compute, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Answer `GET /primes/8000`."""
    request_line, *_ = (await reader.readuntil(b"\r\n\r\n")).decode().split("\r\n")
    limit = int(request_line.split()[1].rpartition("/")[2])
    body = f"{await compute(limit)}\n"
    writer.write(f"HTTP/1.1 200 OK\r\nContent-Length: {len(body)}\r\nConnection: close\r\n\r\n{body}".encode())
    await writer.drain()
    writer.close()


async def ask(port: int) -> None:
    """One client: a few requests, one after the other."""
    for _ in range(REQUESTS):
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(f"GET /primes/{LIMIT} HTTP/1.1\r\nHost: localhost\r\n\r\n".encode())
        reply = (await reader.read()).decode()
        assert reply.endswith("\r\n\r\n1007\n"), reply
        writer.close()


async def measure_lag(lags: list[float]) -> None:
    """Ask to be woken every 2 ms, and note how late that happens."""
    loop = asyncio.get_running_loop()
    while True:
        due = loop.time() + 0.002
        await asyncio.sleep(0.002)
        lags.append(max(0.0, loop.time() - due))


async def lag_under_load(compute: Compute | None) -> tuple[float, float]:
    """Median and 99th percentile of the loop's lag, in milliseconds, while clients are served. None: no clients."""
    lags: list[float] = []
    meter = asyncio.create_task(measure_lag(lags))
    if compute is None:
        await asyncio.sleep(0.3)
    else:
        async with await asyncio.start_server(partial(answer, compute), "127.0.0.1", 0) as server:
            port = server.sockets[0].getsockname()[1]
            await asyncio.gather(*(ask(port) for _ in range(CLIENTS)))
    meter.cancel()
    percentiles = quantiles(lags, n=100)
    return percentiles[49] * 1000, percentiles[98] * 1000


async def main() -> None:
    async def in_the_loop(limit: int) -> int:
        return count_primes(limit)  # a task is still a function: this runs here and now

    workers = WorkerBackend()
    async with Runtime([workers]) as rt:
        await workers.warm_up()  # or the first requests wait while the workers start
        idle = await lag_under_load(None)
        outside = await lag_under_load(partial(rt.run, count_primes))
        inside = await lag_under_load(in_the_loop)
    print("lag of the event loop      p50          p99")
    for name, (p50, p99) in {"idle": idle, "load, in workers": outside, "load, in the loop": inside}.items():
        print(f"  {name:18} {p50:7.2f} ms   {p99:7.2f} ms")
    assert outside[0] < inside[0]


if __name__ == "__main__":
    asyncio.run(main())
