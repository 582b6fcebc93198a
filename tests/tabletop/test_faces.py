"""The verbs of a table: each is one of the actions, and says nothing that its action does not read."""

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from hybrid_compute.engine.actions import Ask
from hybrid_compute.engine.turn import Turn, turn
from hybrid_compute.tabletop.actions import ACTIONS
from hybrid_compute.tabletop.faces import AgentFace, Faces, Now, StackFace
from hybrid_compute.tabletop.plan import Setup, laid
from hybrid_compute.tabletop.table import Stack, Table
from tests.tabletop.replay import tokens


class Echo(Faces[Now]):
    """Gives what was asked."""

    def _do(self, ask: Ask[Any], /) -> Any:
        return ask


class Read(dict[str, Any]):
    """A payload that knows what was read of it."""

    def __init__(self, fields: dict[str, Any]) -> None:
        super().__init__(fields)
        self.read = set[str]()

    def get(self, key: str, default: Any = None) -> Any:
        self.read.add(key)
        return super().get(key, default)

    def __getitem__(self, key: str) -> Any:
        self.read.add(key)
        return super().__getitem__(key)

    def __contains__(self, key: object) -> bool:
        self.read.add(str(key))
        return super().__contains__(key)


def table() -> Table:
    """Two agents with a token and some gold each, and a zone with one placement."""
    pile = Stack(tokens("x", "y"))
    made = laid(Setup(Stack(tokens("a", "b", "c")), {"s": pile}, ["s"]))
    for name, token in (("A", "t"), ("B", "u")):
        inventory = [{"id": token}]
        agent = {"id": name, "name": name, "meta": {}, "active": True, "resources": {"gold": 5}}
        made.document.setdefault("agents", {})[name] = {**agent, "inventory": inventory}
    lying = {"id": "p", "tokenId": "v", "tokenSnapshot": {"id": "v"}, "x": 0, "y": 0, "faceUp": True}
    made.document["zones"] = {"z": [lying]}
    return made


def every_verb() -> Iterator[Ask[Any]]:
    """All that can be asked, with all that can be said."""
    on, (card, other) = Echo(), tokens("k", "l")
    a = on.agents["A"]
    yield from (on.stack.draw(2), on.stack.peek(2), on.stack.shuffle(3), on.stack.burn(2), on.stack.reset())
    yield from (on.stack.cut(1), on.stack.insert_at(card, 1), on.stack.remove_at(1), on.stack.swap(0, 1))
    yield from (on.stack.reverse(), on.stack.discard(card))
    yield from (on.space.place("z", card, x=1, y=2, face_up=False, label="l"), on.space.remove("z", "p"))
    yield from (on.space.move("z", "q", "p", x=1, y=2), on.space.flip("z", "p", False), on.space.delete_zone("z"))
    yield from (
        on.space.create_zone("q", label="Q", x=1, y=2),
        on.space.clear_zone("z"),
        on.space.lock_zone("z", False),
    )
    yield from (on.space.shuffle_zone("z", 3), on.space.fan_zone("z", "arc", angle_step=1, radius=2))
    yield from (on.space.spread_zone("z", "arc", angle_step=1, radius=2), on.space.stack_zone("z"))
    yield from (on.space.transfer_zone("z", "q"), on.space.clear())
    yield from (on.source.draw(), on.source.draw_many(1), on.source.shuffle(3), on.source.burn(1), on.source.reset())
    yield from (on.source.add_stack([card]), on.source.remove_stack(tokens("x", "y")), on.source.inspect())
    yield from (on.agents.create("C", id="c", meta={"team": "red"}), on.agents.get_all(), a.remove(), a.get())
    yield from (a.set_active(False), a.set_meta("k", None), a.give("gold", 2), a.take("gold", 2))
    yield from (a.transfer("B", "gold", 2), a.steal("B", "gold", 2), a.add_token(card), a.remove_token("t"))
    yield from (a.transfer_token("B", "t"), a.steal_token("B", "u"), a.draw(2), a.discard(["t"]))
    yield a.trade("B", {"resource": "gold", "amount": 2}, {"token": {"id": "u"}})
    yield from (on.game.start(), on.game.end("A", "all"), on.game.pause(), on.game.resume(), on.game.next_phase(None))
    yield from (on.game.get_state(), on.game.set_property("k", None), on.game.merge_state({"k": 1}))
    yield from (on.game.set_state("k", None, replace=True), on.game.patch_state("k", [{"path": ["a"], "value": 1}]))
    yield from (on.loop.init(3), on.loop.start(), on.loop.stop(None), on.loop.next_turn(2), on.loop.set_phase(None))
    yield from (on.loop.set_max_turns(3), on.loop.set_active_agent(1), on.rules.init(), on.rules.mark_fired("r", 5))
    yield from (on.token.transform(card, {"k": 1}), on.token.attach(card, other, "on"), on.token.detach(card, "l"))
    yield from (on.token.merge([card, other], {"k": 1}, keep_originals=True), on.token.split(card, 2, [{"k": 1}]))
    yield from (on.tokens.shuffle([[card]], "s"), on.tokens.draw([[card]], [1]), on.tokens.filter([card], "normal"))
    yield from (on.tokens.find([card], "kind:k"), on.tokens.count([card], "group:g"), on.tokens.map([card], "merge"))
    yield from (on.tokens.for_each([card], "flip"), on.tokens.collect(["z"]), on.debug.log({"k": 1}))


@pytest.mark.parametrize("asked", list(every_verb()), ids=lambda asked: f"{asked.type}({', '.join(asked.payload)})")
def test_all_that_a_verb_says_is_read_by_its_action(asked: Ask[Any]) -> None:
    payload = Read(asked.payload)
    started = table()
    started.document.update(gameLoop={"turn": 0, "running": False, "activeAgentIndex": -1, "phase": "", "maxTurns": 9})
    started.document.update(rules={"fired": {}})
    token = turn.set(Turn(7, 1, 1_700_000_000_000))
    try:
        ACTIONS[asked.type].handler(started, payload)
    finally:
        turn.reset(token)
    assert asked.type == "debug:log" or payload.read >= set(payload)


def test_there_is_a_verb_for_each_action() -> None:
    assert {asked.type for asked in every_verb()} == set(ACTIONS)


def test_what_is_not_said_is_not_sent() -> None:
    """So that an action's own defaults hold; a null that says something is sent."""
    on = Echo()
    assert on.stack.shuffle() == ("stack:shuffle", {})
    assert on.space.flip("z", "p") == ("space:flip", {"zone": "z", "placementId": "p"})
    assert on.agents["A"].set_meta("k", None) == ("agent:setMeta", {"name": "A", "key": "k", "value": None})
    assert on.game.next_phase(None) == ("game:nextPhase", {"phase": None})


def test_who_acts_comes_first() -> None:
    """Also where the payload of the action names the other one first."""
    on = Echo()
    stolen = {"from": "Bob", "to": "Alice", "resource": "gold", "amount": 2}
    assert on.agents["Alice"].steal("Bob", "gold", 2) == ("agent:stealResource", stolen)
    given = {"from": "Alice", "to": "Bob", "resource": "gold", "amount": 2}
    assert on.agents["Alice"].transfer("Bob", "gold", 2) == ("agent:transferResource", given)


def test_a_verb_is_documented_where_it_is_looked_up() -> None:
    assert "the topmost" in str(StackFace.draw.__doc__)
    assert "from nowhere" in str(AgentFace.give.__doc__)


def test_the_page_on_the_table_lists_every_action_with_its_verbs() -> None:
    page = (Path(__file__).parents[2] / "docs" / "topics" / "tabletop.md").read_text()
    listed = re.findall(r"(?m)^\| `(\w+:\w+)` \| `(\w+)(\[name\])?\.(\w+)\(.*?\)` \|", page)
    assert {action for action, *_ in listed} == set(ACTIONS)
    for action, group, of_one, verb in listed:
        face = getattr(Echo(), group)
        assert callable(getattr(face["A"] if of_one else face, verb)), action
    assert len(listed) == len(list(every_verb()))
