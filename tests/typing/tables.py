"""Engines: actions by name, methods of a class, and the verbs of a table."""

from typing import Any, assert_type

from hybrid_compute.engine.engine import Engine
from hybrid_compute.tabletop.asks import agents, source, space, stack
from hybrid_compute.tabletop.asks.agents import Offer
from hybrid_compute.tabletop.engine import TableEngine
from hybrid_compute.tabletop.table import Placement, Token


class Deck:
    def draw(self, count: int = 1) -> list[str]:
        return [""] * count


async def a_class(engine: Engine[Deck]) -> None:
    assert_type(engine.dispatch(Deck.draw, count=2), list[str])
    assert_type(await engine.dispatch_async(Deck.draw), list[str])
    assert_type(engine.dispatch("draw"), Any)
    engine.dispatch(Deck.draw, count="2")  # E: a text is no count
    engine.dispatch(TableEngine.tell, [])  # E: no method of a deck


async def what_is_asked(engine: Engine[Any]) -> None:
    assert_type(engine.dispatch(stack.draw(5)), list[Token])
    assert_type(await engine.dispatch_async(stack.remove_at(0)), Token)
    assert_type(await engine.dispatch_async(agents.create("Alice"), reversible=False), dict[str, Any])
    engine.dispatch(stack.draw("5"))  # E: a text is no count
    engine.dispatch(space.place("hand"))  # E: which card
    engine.dispatch(source.draw(2))  # E: that is draw_many
    await engine.dispatch_many([stack.shuffle(), space.clear()], atomic=True)


def verbs(engine: TableEngine, card: Token) -> None:
    assert_type(engine.stack.draw(), list[Token])
    assert_type(engine.stack.draw(count=5), list[Token])
    assert_type(engine.source.draw(), Token)
    assert_type(engine.source.draw_many(2), list[Token])
    assert_type(engine.space.place("hand", card, x=1, face_up=False), Placement | None)
    assert_type(engine.space.transfer_zone("hand", "pile"), int)
    assert_type(engine.agents["Alice"].draw(2), list[Token])
    engine.agents["Alice"].trade("Bob", Offer(resource="gold", amount=3), {"token": card})
    engine.stack.draw("5")  # E: a text is no count
    engine.stack.drow()  # E: a slip
    engine.stack.draw(cuont=5)  # E: another
    engine.agents["Alice"].give("Bob", "gold", 3)  # E: from whom stands before
    engine.agents[5].get()  # E: a name is a text


async def awaited(engine: TableEngine) -> None:
    assert_type(await engine.aio.stack.draw(5), list[Token])
    assert_type(await engine.aio.agents["Alice"].get(), dict[str, Any])
    len(engine.aio.stack.draw(5))  # E: it is to be awaited
    await engine.stack.draw(5)  # E: it is there already
