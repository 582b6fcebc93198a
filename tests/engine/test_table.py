"""An engine with a table, wherever that is: its verbs, what they take, rules and scripts."""

import asyncio
import math
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack
from typing import Any

import pytest

from hybrid_compute.clock import ManualClock
from hybrid_compute.engine.engine import Engine
from hybrid_compute.engine.listeners import Event
from hybrid_compute.engine.scripts import Script, Step
from hybrid_compute.engine.watchers import Entry, Inside, Policy
from hybrid_compute.errors import ActionFailed, EngineError, InvalidInput, NotTransferable
from hybrid_compute.tabletop.asks import game, space, stack
from hybrid_compute.tabletop.engine import TableEngine
from hybrid_compute.tabletop.plain import DEEPEST
from hybrid_compute.tabletop.rules import Rule, RuleEngine
from tests.engine.counters import actions, counter
from tests.faults.watching import until

CARDS = [{"id": name} for name in "abcde"]
Make = Callable[..., Any]


@pytest.fixture(params=[False, True], ids=["here", "in a worker"])
async def make(request: pytest.FixtureRequest) -> AsyncIterator[Make]:
    """Opens tables that are here, or in a worker each."""
    async with AsyncExitStack() as stack:

        async def make(**options: Any) -> TableEngine:
            return await stack.enter_async_context(TableEngine(CARDS, use_worker=request.param, **options))

        yield make


def nested(levels: int) -> list[Any]:
    value: list[Any] = []
    for _ in range(levels - 1):
        value = [value]
    return value


# The table and its verbs.


async def test_verbs_are_awaited_wherever_the_table_is(make: Make) -> None:
    engine = await make(stacks={"s": [{"id": "x"}, {"id": "y"}, {"id": "z"}]}, source=["s"], seed=1)
    assert await engine.aio.stack.draw(2) == [{"id": "e"}, {"id": "d"}]
    assert await engine.aio.source.draw() == {"id": "z"}
    assert await engine.aio.source.draw_many(1) == [{"id": "y"}]
    await engine.aio.agents.create("Alice")
    await engine.aio.agents["Alice"].give("gold", 3)
    assert (await engine.aio.agents["Alice"].get())["resources"] == {"gold": 3}
    results = await engine.dispatch_many([stack.draw(), space.clear()])
    assert [each.result for each in results] == [[{"id": "c"}], None]
    assert await engine.dispatch_async(stack.peek(), reversible=False) == [{"id": "b"}]
    assert (await engine.history())[-1].reversible is False


@pytest.mark.parametrize("use_worker", [False, True])
def test_ordinary_code_just_calls(use_worker: bool) -> None:
    with TableEngine(CARDS, stack_seed=7, use_worker=use_worker) as engine:
        engine.stack.shuffle()
        engine.stack.reset()
        engine.stack.shuffle(7)
        again = engine.stack.peek(5)
        engine.stack.reset()
        engine.stack.shuffle()
        assert engine.stack.peek(5) == again
        assert engine.game.start()["started"] is True
        engine.loop.start()
        engine.loop.next_turn(2)
        with pytest.raises(ActionFailed, match='Agent "Bob" not found'):
            engine.agents["Bob"].give("gold")


def test_an_engine_without_more_is_a_table_without_cards() -> None:
    engine = Engine[Any]()
    assert engine.dispatch(game.get_state()) == {}
    with pytest.raises(ActionFailed, match="No stack attached"):
        engine.dispatch(stack.draw())


def test_what_stands_on_the_table_is_checked() -> None:
    with pytest.raises(InvalidInput, match="the source is made of a stack 'lost'"):
        TableEngine(source=["lost"])
    with pytest.raises(InvalidInput, match=r"stack\[0\]\['id'\] is of type object"):
        TableEngine([{"id": object()}])


# What a payload may be.

ODD: dict[str, tuple[Any, str]] = {
    "NaN": ({"a": math.nan}, r"payload\['a'\] is nan, and no JSON number"),
    "infinity": ({"a": [0, -math.inf]}, r"payload\['a'\]\[1\] is -inf, and no JSON number"),
    "a set": ({"a": {1}}, r"payload\['a'\] is of type set, and no JSON"),
    "a tuple": ({"a": (1,)}, r"payload\['a'\] is of type tuple, and no JSON"),
    "bytes": ({"a": b"x"}, r"payload\['a'\] is of type bytes, and no JSON"),
    "an object": ({"a": asyncio.Event}, r"payload\['a'\] is of type type, and no JSON"),
    "a key that is no text": ({"a": {1: 2}}, r"payload\['a'\] has the key 1, and JSON has only texts as keys"),
    "no object": ([1], r"the payload of a token action is an object, not \[1\]"),
    "too deep": ({"a": nested(DEEPEST)}, f"nested deeper than {DEEPEST} levels"),
}


@pytest.mark.parametrize(("payload", "message"), ODD.values(), ids=ODD)
async def test_what_is_no_json_is_refused_and_changes_nothing(make: Make, payload: Any, message: str) -> None:
    engine = await make(seed=1)
    told: list[Event] = []
    engine.on("engine:error", told.append)
    before = await engine.state()
    with pytest.raises(InvalidInput, match=message) as refused:
        await engine.dispatch_async("debug:log", payload)
    assert len(str(refused.value)) < 400
    assert (await engine.state(), len(await engine.history())) == (before, 1)
    assert [event.payload["action"] for event in told] == ["debug:log"]


async def test_json_is_taken_as_it_is(make: Make) -> None:
    engine = await make()
    payload = {"a": [1, -2.5, True, None, "x", {"b": {}}], "deep": nested(DEEPEST - 1)}
    assert await engine.dispatch_async("debug:log", payload) == payload


async def test_a_table_as_deep_as_can_be_is_copied_and_kept(make: Make) -> None:
    """No payload that is taken makes a state that cannot be undone, saved or looked at."""
    engine = await make()
    await engine.aio.agents.create("A")
    await engine.dispatch_async("agent:setMeta", {"name": "A", "key": "k", "value": nested(DEEPEST - 1)})
    before = await engine.state()
    await engine.restore(await engine.snapshot())
    await engine.aio.stack.draw()
    await engine.undo(1)
    assert await engine.state() == before


@pytest.mark.parametrize("use_worker", [False, True])
async def test_what_cannot_be_copied_is_refused_by_any_engine(use_worker: bool) -> None:
    """And the state is as before, with nothing in the log."""
    async with Engine(counter, actions, use_worker=use_worker) as engine:
        with pytest.raises(NotTransferable):
            await engine.dispatch_async("keep", nested(100_000))
        with pytest.raises(NotTransferable):
            await engine.dispatch_async("keep", (each for each in "abc"))
        assert await engine.dispatch_async("add") == 1
        assert await engine.state() == {"total": 1, "seen": []}
        assert [entry.type for entry in await engine.history()] == ["add"]


# Rules. They are at the top of a module, as those that go to a worker must be.


def was_drawn(inside: Inside, entry: Entry) -> bool:
    return entry.type == "stack:draw"


def was_counted(inside: Inside, entry: Entry) -> bool:
    return entry.type == "game:setProperty"


def always(inside: Inside, entry: Entry) -> bool:
    return True


def cannot_say(inside: Inside, entry: Entry) -> bool:
    raise LookupError("who knows")


def count(inside: Inside, entry: Entry) -> None:
    counted = inside.state.document.get("gameState", {}).get("counted", 0)
    inside.dispatch(*game.set_property("counted", counted + 1))


def put_off(inside: Inside, entry: Entry) -> None:
    inside.later(count)


HIT = [game.set_property("hit", 1), game.set_property("hit again", 2)]


async def types(engine: Engine[Any], start: int = 1) -> list[str]:
    return [entry.type for entry in await engine.history(start)]


async def test_a_rule_plays_after_the_action_once_or_each_time(make: Make) -> None:
    engine = await make()
    told: list[Event] = []
    engine.on("rule:triggered", told.append)
    await engine.watch(RuleEngine([Rule("each", was_drawn, count), Rule("once", was_drawn, HIT, once=True)]))
    await engine.aio.stack.draw()
    await engine.aio.stack.draw()
    assert await engine.aio.game.get_state() == {"counted": 2, "hit": 1, "hit again": 2}
    assert [event.payload["name"] for event in told] == ["each", "once", "each"]
    assert await types(engine) == [
        *("stack:draw", "rule:initRules", "rule:markFired", "game:setProperty", "game:setProperty", "game:setProperty"),
        *("stack:draw", "game:setProperty", "game:getState"),
    ]


async def test_which_rules_have_fired_is_part_of_the_table(make: Make) -> None:
    """So a rule fires again when it was undone, and not when it was restored."""
    engine = await make()
    await engine.watch(RuleEngine([Rule("once", was_drawn, HIT, once=True)]))
    await engine.aio.stack.draw()
    snapshot = await engine.snapshot()
    await engine.undo(5)
    assert await engine.aio.game.get_state() == {}
    await engine.aio.stack.draw()
    assert await engine.aio.game.get_state() == {"hit": 1, "hit again": 2}
    await engine.restore(snapshot)
    await engine.aio.stack.draw()
    assert (await types(engine)).count("rule:markFired") == 1


async def test_a_greater_priority_comes_first(make: Make) -> None:
    engine = await make()
    told: list[Event] = []
    engine.on("rule:triggered", told.append)
    rules = [Rule(name, was_drawn, [], priority) for name, priority in (("c", -1), ("a", 2), ("b", 0))]
    await engine.watch(RuleEngine(rules))
    await engine.aio.stack.draw()
    assert [event.payload["name"] for event in told] == ["a", "b", "c"]


async def test_a_rule_that_fails_harms_nobody(make: Make) -> None:
    """What it did before stays, and the other rules go on."""
    engine = await make()
    told: list[Event] = []
    engine.on("rule:error", told.append)
    half = [game.set_property("half", 1), stack.draw(-1), game.set_property("whole", 1)]
    rules = [Rule("unsure", cannot_say, []), Rule("half", was_drawn, half), Rule("last", was_drawn, HIT)]
    await engine.watch(RuleEngine(rules))
    assert await engine.aio.stack.draw() == [{"id": "e"}]
    assert await engine.aio.game.get_state() == {"half": 1, "hit": 1, "hit again": 2}
    errors = {(event.payload["name"], event.payload["error"]) for event in told}
    assert errors == {
        ("unsure", "who knows"),
        ("half", "Invalid draw count: -1. Must be a positive integer."),
    }


async def test_rules_that_call_each_other_come_to_an_end(make: Make) -> None:
    engine = await make()
    await engine.watch(RuleEngine([Rule("endless", was_counted, count)]))
    await engine.aio.game.set_property("counted", 0)
    assert await engine.aio.game.get_state() == {"counted": 10}
    await engine.aio.game.set_property("counted", 0)
    assert await engine.aio.game.get_state() == {"counted": 10}


async def test_what_a_policy_puts_off_comes_when_all_have_seen_the_action(make: Make) -> None:
    engine = await make()
    await engine.watch(Policy("later", was_drawn, put_off))
    await engine.watch(Policy("at once", was_drawn, count))
    await engine.aio.stack.draw()
    assert await engine.aio.game.get_state() == {"counted": 2}
    with pytest.raises(ActionFailed):
        await engine.dispatch_many([stack.draw(), stack.draw(-1)], atomic=True)
    assert await engine.aio.game.get_state() == {"counted": 2}
    await engine.unwatch("at once")
    await engine.aio.stack.draw()
    assert await engine.aio.game.get_state() == {"counted": 3}


# Scripts.


async def test_a_script_does_its_steps_with_pauses_between_them(make: Make) -> None:
    clock = ManualClock()
    engine = await make(clock=clock)
    told: list[Any] = []
    for type in ("script:start", "script:complete", "script:stop"):
        engine.on(type, lambda event: told.append((event.type, event.payload)))
    steps = [Step("stack:shuffle", {"seed": 3}, delay=5), Step("stack:draw", {"count": 2}), Step("game:start")]
    running = asyncio.create_task(Script("deal", steps).run(engine))
    await until(lambda: clock.waiting == 1)
    assert await types(engine) == ["stack:shuffle"]
    clock.advance(4.9)
    assert clock.waiting == 1
    clock.advance(0.1)
    shuffled, drawn, started = await running
    assert (shuffled, len(drawn), started["started"]) == (None, 2, True)
    assert told == [("script:start", {"name": "deal", "steps": 3}), ("script:complete", {"name": "deal"})]


async def test_a_script_stops_when_it_is_cancelled(make: Make) -> None:
    clock = ManualClock()
    engine = await make(clock=clock)
    told: list[Event] = []
    engine.on("script:stop", told.append)
    running = asyncio.create_task(Script("deal", [Step("stack:draw", delay=5), Step("stack:draw")]).run(engine))
    await until(lambda: clock.waiting == 1)
    running.cancel()
    with pytest.raises(asyncio.CancelledError):
        await running
    assert [event.payload for event in told] == [{"name": "deal", "at": 1, "reason": "cancelled"}]
    assert await types(engine) == ["stack:draw"]
    assert clock.waiting == 0


async def test_a_step_that_fails_stops_a_script(make: Make) -> None:
    engine = await make()
    told: list[Event] = []
    engine.on("script:stop", told.append)
    script = Script("deal", [Step("stack:draw"), Step("no such"), Step("stack:draw")])
    with pytest.raises(EngineError, match="Unknown action: no such"):
        await script.run(engine)
    assert [event.payload for event in told] == [{"name": "deal", "at": 1, "reason": "Unknown action: no such"}]
    assert await types(engine) == ["stack:draw"]


def test_a_pause_has_a_length() -> None:
    for delay in (-1, math.nan):
        with pytest.raises(ValueError, match="script 'deal': the delay after 'stack:draw'"):
            Script("deal", [Step("stack:draw", delay=delay)])


# Listeners.


def test_an_error_of_a_listener_is_told_when_all_have_heard_the_event() -> None:
    engine = TableEngine(CARDS)
    heard: list[str] = []

    def shout(event: Event) -> None:
        raise RuntimeError("boom")

    engine.on("draw", shout)
    engine.on("draw", lambda event: heard.append("draw, next to it"))
    engine.on("*", lambda event: heard.append(event.type))
    engine.stack.draw()
    assert heard == ["state:updated", "draw, next to it", "draw", "error", "engine:action"]
