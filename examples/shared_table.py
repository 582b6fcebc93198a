"""One table, and several players who come in through a server. The program is the server, and its own clients.

The table lives in a worker of the server. Each task dispatches to it, so what players do at once is done one after the
other: every card goes to somebody, and none to two. A spectator follows it as a stream.
"""

import asyncio
from collections.abc import AsyncIterator

from hybrid_compute import LocalBackend, RemoteBackend, Runtime, TaskRegistry, task
from hybrid_compute.errors import TaskFailed
from hybrid_compute.server import Limits, create_app
from hybrid_compute.server.serving import Address, listen, make_server, url_of
from hybrid_compute.tabletop.engine import TableEngine

DECK = [{"id": f"{rank}{suit}"} for suit in "♣♦♥♠" for rank in ("A", *range(2, 11), "J", "Q", "K")]
PLAYERS = ("Ann", "Bob", "Cem", "Dia")

table = TableEngine(DECK, seed=7, use_worker=True)


@task
async def sit_down(name: str) -> None:
    """Take a seat; each name has one."""
    await table.aio.agents.create(name)


@task
async def draw(name: str, count: int) -> list[str]:
    """Take cards into one's hand, as many as there are."""
    return [card["id"] for card in await table.aio.agents[name].draw(count)]


@task
async def give(name: str, card: str, to: str) -> None:
    """Hand a card to somebody else."""
    await table.aio.agents[name].transfer_token(to, card)


@task
async def look_on() -> AsyncIterator[int]:
    """How many cards are drawn, each time, until there are none."""
    left = len(DECK)
    with table.events("draw") as events:
        yield left
        async for event in events:
            left -= len(event.payload)
            yield left
            if not left:
                return


async def player(url: str, name: str) -> list[str]:
    """A client of its own: it draws until the stack is empty, and shows what it has."""
    async with Runtime([RemoteBackend(url)]) as rt:
        await rt.run(sit_down, name)
        hand: list[str] = []
        while cards := await rt.run(draw, name, 3):
            hand += cards
        return hand


async def spectator(url: str, seated: asyncio.Event) -> list[int]:
    async with Runtime([RemoteBackend(url)]) as rt, rt.stream(look_on) as items:
        seen = []
        async for left in items:
            seated.set()
            seen.append(left)
        return seen


async def play(url: str) -> None:
    seated = asyncio.Event()
    watching = asyncio.create_task(spectator(url, seated))
    await seated.wait()
    hands = dict(zip(PLAYERS, await asyncio.gather(*(player(url, name) for name in PLAYERS)), strict=True))
    seen = await watching
    print(f"{len(hands)} players hold {sum(map(len, hands.values()))} cards")
    print(f"the spectator saw {seen[0]} cards go in {len(seen) - 1} draws")
    assert sorted(card for hand in hands.values() for card in hand) == sorted(card["id"] for card in DECK)

    async with Runtime([RemoteBackend(url)]) as rt:
        giver, taker = sorted(PLAYERS, key=lambda name: -len(hands[name]))[:2]
        await rt.run(give, giver, hands[giver][0], taker)
        try:
            await rt.run(give, giver, hands[giver][0], taker)
        except TaskFailed as refusal:
            print(f"twice is once too often: {str(refusal).partition('not found')[1]}")


async def main() -> None:
    address = Address(port=0)  # any that is free
    listening = listen(address)
    async with table, Runtime([LocalBackend()], tasks=TaskRegistry([sit_down, draw, give, look_on])) as rt:
        server = make_server(create_app(rt), address, Limits(), log_level="warning")
        serving = asyncio.create_task(server.serve(listening))
        await play(url_of(address, listening[0]))
        server.should_exit = True  # as a signal does
        await serving


if __name__ == "__main__":
    asyncio.run(main())
