"""What actions take: the fields that there are, what may stand in them, and what is said of others."""

import inspect
from collections import defaultdict
from typing import Any

import pytest

from hybrid_compute.engine.actions import Ask
from hybrid_compute.engine.core import Core, Failed, Request
from hybrid_compute.errors import ActionNotFound, InvalidInput
from hybrid_compute.tabletop import schema
from hybrid_compute.tabletop.actions import ACTIONS
from hybrid_compute.tabletop.asks import agents, game, loop, rules, source, space, stack, token, tokens
from hybrid_compute.tabletop.plan import table_plan
from hybrid_compute.tabletop.table import Table

ASKS = (agents, game, loop, rules, source, space, stack, token, tokens)


def asked() -> dict[str, set[str]]:
    """The fields that the typed functions send, by action."""
    fields: defaultdict[str, set[str]] = defaultdict(set)
    for module in ASKS:
        for name, ask in inspect.getmembers(module, inspect.isfunction):
            if ask.__module__ == module.__name__ and not name.startswith("_"):
                type, payload = ask(**{each: ["it"] for each in inspect.signature(ask).parameters})
                fields[type] |= payload.keys()
    return fields


def refusal(action: str, payload: Any) -> str:
    with pytest.raises(InvalidInput) as caught:
        schema.check(action, payload)
    return str(caught.value)


def test_there_is_one_for_each_action() -> None:
    assert all(schema.of(action)["type"] == "object" for action in ACTIONS)
    with pytest.raises(ActionNotFound):
        schema.of("stack:fold")


def test_the_typed_functions_send_the_fields_that_there_are() -> None:
    there = {action: set(schema.of(action).get("properties", ())) for action in ACTIONS}
    assert asked() == {action: fields for action, fields in there.items() if action != "debug:log"}


def test_it_can_be_read_as_json_schema() -> None:
    assert schema.of("agent:drawCards") == {
        "type": "object",
        "properties": {"name": {"type": "string", "minLength": 1}, "count": {"type": "integer", "minimum": 1}},
        "required": ["name"],
        "additionalProperties": False,
    }
    assert schema.of("stack:reset") == {"type": "object"}


@pytest.mark.parametrize(
    ("action", "payload", "text"),
    [
        ("stack:draw", {"cuont": 5}, "stack:draw has no field 'cuont': its fields are count; did you mean 'count'?"),
        ("stack:swap", {"i": 0, "j": 1, "x": 2}, "stack:swap has no field 'x': its fields are i, j"),
        (
            "space:place",
            {"zone": "z", "card": {"id": "x"}, "opts": {"faceup": False}},
            (
                "opts of space:place has no field 'faceup': its fields are faceUp, label, tags, x, y; "
                "did you mean 'faceUp'?"
            ),
        ),
        (
            "agent:trade",
            {"agent1": "A", "agent2": "B", "offer2": {"amuont": 5}},
            (
                "offer2 of agent:trade has no field 'amuont': its fields are amount, resource, token; "
                "did you mean 'amount'?"
            ),
        ),
    ],
)
def test_a_field_that_there_is_not_is_named_with_those_that_there_are(action: str, payload: Any, text: str) -> None:
    assert refusal(action, payload) == text


@pytest.mark.parametrize(
    ("action", "payload", "text"),
    [
        ("agent:create", {"id": 5}, "id of agent:create must be a text or null, not 5"),
        ("rule:markFired", {"timestamp": "y"}, "timestamp of rule:markFired must be a number or null, not y"),
        ("source:draw", {"asList": 1}, "asList of source:draw must be true or false or null, not 1"),
        (
            "agent:stealToken",
            {"tokenId": {}},
            "tokenId of agent:stealToken must be a text, a number or null, not an object",
        ),
        ("space:flip", {"placementId": True}, "placementId of space:flip must be a text or null, not true"),
        ("tokens:find", {"predicate": ["x"]}, "predicate of tokens:find must be a text or null, not a list"),
    ],
)
def test_a_value_that_no_action_would_look_at_is_of_the_right_type(action: str, payload: Any, text: str) -> None:
    assert refusal(action, payload) == text


@pytest.mark.parametrize(
    ("action", "payload"),
    [
        ("stack:draw", {}),
        ("stack:draw", {"count": 0}),  # refused by the action, in its own words
        ("game:loopStart", {"x": 1}),
        ("debug:log", {"anything": "at all"}),
        ("space:place", {"opts": {"tags": ["k"]}}),
        ("space:place", {"opts": 5}),
        ("agent:create", {"name": "A", "id": None}),
        ("agent:discardCards", {"name": "A", "tokenIds": 5}),
        ("an action of somebody else", {"x": 1}),
    ],
)
def test_the_rest_is_let_through(action: str, payload: Any) -> None:
    schema.check(action, payload)


def test_an_engine_refuses_and_nothing_has_changed() -> None:
    core = Core(table_plan(seed=1))
    outcome = core.do(Request("game:nextTurn", {"agents": 3}, 0))
    assert isinstance(outcome, Failed)
    assert isinstance(outcome.error, InvalidInput)
    assert core.state == Table()
    assert not core.history


def test_a_field_is_not_asked_for_by_an_action_that_there_is_not() -> None:
    outcome = Core(table_plan(seed=1)).do(Request("stack:fold", {"x": 3}, 0))
    assert isinstance(outcome, Failed)
    assert isinstance(outcome.error, ActionNotFound)


def test_an_ask_is_what_its_action_takes() -> None:
    given: list[Ask[Any]] = [stack.draw(2), agents.create("A", id="a"), space.place("z", {"id": "x"}, label="L")]
    for type, payload in given:
        schema.check(type, payload)
