"""Tasks as tools for an agent, and the tools of a server as tasks: both ends of MCP in one file.

An agent would start `hybrid-compute mcp examples/agent_tools.py` and talk to it. Here `McpBackend` does so in its
place: it finds the tools, and a runtime runs them by name, in a process that need not know their code.
"""

import asyncio
import sys
from collections.abc import Iterator
from dataclasses import dataclass

from hybrid_compute import McpBackend, Runtime, progress, task
from hybrid_compute.errors import InvalidInput, TaskFailed
from hybrid_compute.reporting import heard_by


@dataclass
class Invoice:
    customer: str
    cents: list[int]


@task(tool=True, pure=True)
def total(invoice: Invoice) -> int:
    """The sum of an invoice, in cents."""
    if not invoice.cents:
        raise ValueError(f"the invoice of {invoice.customer} is empty")
    return sum(invoice.cents)


@task(tool=True)
def reminders(customers: list[str]) -> Iterator[str]:
    """A reminder for each customer."""
    for customer in customers:
        yield f"Dear {customer}, please pay."


@task(tool=True)
def audit(invoices: int) -> str:
    """Look at so many invoices, and say how it goes."""
    for number in range(1, invoices + 1):
        progress(number, invoices, f"invoice {number}")
    return f"{invoices} invoices are in order"


@task
def wipe() -> None:
    """Not marked, hence no tool: an agent cannot so much as see it."""


async def main() -> None:
    server = McpBackend(sys.executable, "-m", "hybrid_compute", "mcp", __file__, name="books")
    async with Runtime([server]) as rt:
        for tool in server.tasks():
            rt.tasks.add(tool)
            print(f"{tool.name}: {tool.__doc__}")
        assert "wipe" not in rt.tasks

        # By name, as JSON; or by a task of ours that has the name and knows the types.
        assert await rt.run("total", invoice={"customer": "Ann", "cents": [1250, 399]}) == 1649
        assert await rt.run("reminders", ["Ann", "Bob"]) == ["Dear Ann, please pay.", "Dear Bob, please pay."]

        last = ""

        def show(done: float, total: float | None, note: str) -> None:
            nonlocal last
            last = f"{done:g} of {total or 0:g}: {note}"

        with heard_by(show):
            print(await rt.run("audit", 3))
        print(f"the last that was heard: {last}")

        # What an agent gets wrong, it is told in words that help it to do better.
        for wrong in ({"customer": "Ann", "cents": ["12.50"]}, {"customer": "Ann", "cents": []}):
            try:
                await rt.run("total", invoice=wrong)
            except (InvalidInput, TaskFailed) as error:
                print(f"{type(error).__name__}: {error}")


if __name__ == "__main__":
    asyncio.run(main())
