"""Agents: what they own passes between them whole, and a refusal changes nothing."""

import json
from collections import Counter
from copy import deepcopy
from math import inf, nan
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hybrid_compute.tabletop.agents import ACTIONS
from hybrid_compute.tabletop.table import Stack, Table
from tests.tabletop.replay import VECTORS, Player, cases, every_token, replay, tokens

AMOUNT = "amount must be a number from 0 to 1e+100"
ANSWERS = {
    "names that look like array indices come first": None,
    "looked up on a plain object: seems taken": None,
    "finds a function": 'Agent "toString" not found',
    "any value is stored": "must be",
    "a negative amount takes, below zero too": AMOUNT,
    'no resource name: a key called "undefined"': "resource required",
    "string amounts concatenate": AMOUNT,
    "a negative amount gives": AMOUNT,
    "no token: the document library refuses": "token required",
    "a negative amount pulls from the other side, below zero too": AMOUNT,
    "a negative amount gives away the thief's": AMOUNT,
    "a missing offer: the log entry holds an undefined, which is refused; nothing changes": None,
    "mints: 5 becomes 9": 'Agent "Alice" cannot trade with itself',
    "no sign check": AMOUNT,
    "both copies leave the hand, one reaches the discards: a token is lost": None,
    "no value: refused by the document library": "value required",
}


@pytest.fixture
def play() -> Player:
    """Alice has 5 gold and the tokens a, b; Bob has 2 wood and c. On the stack lie d, e, f: f is the top."""
    pile = tokens("d", "e", "f")
    document = {"stack": {"stack": list(pile), "drawn": [], "discards": []}}
    play = Player(ACTIONS, Table(document, stack=Stack(pile)))
    for name, resource, amount, held in (("Alice", "gold", 5, "ab"), ("Bob", "wood", 2, "c")):
        play("agent:create", {"name": name})
        play("agent:giveResource", {"name": name, "resource": resource, "amount": amount})
        for token in tokens(*held):
            play("agent:addToken", {"name": name, "token": token})
    return play


def hand(play: Player, name: str) -> str:
    return "".join(token["id"] for token in play.table.document["agents"][name]["inventory"])


def resources(play: Player, name: str) -> dict[str, float]:
    return play("agent:get", {"name": name}).result["resources"]


@pytest.mark.skipif(not VECTORS.is_dir(), reason="there are no recorded vectors here")
@pytest.mark.parametrize("case", cases("agent"), ids=lambda case: case["name"])
def test_a_recorded_case_gives_the_same(case: dict[str, Any]) -> None:
    replay(case, ANSWERS)


@pytest.mark.skipif(not VECTORS.is_dir(), reason="there are no recorded vectors here")
def test_only_quirks_are_answered_differently() -> None:
    assert set(ANSWERS) <= {step.get("quirk") for case in cases("agent") for step in case["steps"]}


def test_there_are_seventeen() -> None:
    assert len(ACTIONS) == 17


# What is refused.

BOTH = {"from": "Alice", "to": "Bob"}
GOLD = {"resource": "gold"}
SIDES = {"agent1": "Alice", "agent2": "Bob"}
NOT_THERE = 'Agent "X" not found'


@pytest.mark.parametrize(
    ("action", "payload", "error"),
    [
        ("create", {}, "name required"),
        ("create", {"name": 5}, "name must be a string, not 5"),
        ("create", {"name": "Alice"}, 'Agent "Alice" already exists'),
        ("create", {"name": "Eve", "meta": 3}, "meta must be an object, not 3"),
        ("remove", {}, "name required"),
        ("remove", {"name": "X"}, NOT_THERE),
        ("get", {"name": "X"}, NOT_THERE),
        ("setActive", {"name": "X"}, NOT_THERE),
        ("setActive", {"name": "Bob", "active": 0}, "active must be true or false, not 0"),
        ("setMeta", {"name": "X", "value": 1}, "key required"),
        ("setMeta", {"name": "X", "key": "k", "value": 1}, NOT_THERE),
        ("setMeta", {"name": "Bob", "key": "k"}, "value required"),
        ("giveResource", {"name": "X"}, NOT_THERE),
        ("giveResource", {"name": "Bob"}, "resource required"),
        ("giveResource", {"name": "Bob", "resource": ["gold"]}, "resource must be a string, not a list"),
        ("giveResource", {"name": "Bob", **GOLD, "amount": -1}, f"{AMOUNT}, not -1"),
        ("giveResource", {"name": "Bob", **GOLD, "amount": nan}, f"{AMOUNT}, not NaN"),
        ("giveResource", {"name": "Bob", **GOLD, "amount": inf}, f"{AMOUNT}, not Infinity"),
        ("giveResource", {"name": "Bob", **GOLD, "amount": True}, f"{AMOUNT}, not true"),
        ("giveResource", {"name": "Bob", **GOLD, "amount": None}, f"{AMOUNT}, not null"),
        ("giveResource", {"name": "Bob", **GOLD, "amount": 10**400}, AMOUNT),
        ("takeResource", {"name": "X", **GOLD}, NOT_THERE),
        ("takeResource", {"name": "Alice", **GOLD, "amount": "3"}, AMOUNT),
        ("transferResource", {"from": "X", "to": "Y"}, NOT_THERE),
        ("transferResource", {"from": "Alice"}, "to required"),
        ("transferResource", {**BOTH, **GOLD, "amount": 6.0}, "Agent 'Alice' has 5 gold but 6 requested"),
        ("transferResource", {**BOTH, **GOLD, "amount": -1}, AMOUNT),
        ("stealResource", {"from": "Alice", "to": "X", **GOLD}, NOT_THERE),
        ("stealResource", {**BOTH, **GOLD, "amount": -1}, AMOUNT),
        ("addToken", {"name": "X", "token": {"id": "z"}}, NOT_THERE),
        ("addToken", {"name": "Bob"}, "token required"),
        ("addToken", {"name": "Bob", "token": 5}, "token must be an object, not 5"),
        ("removeToken", {"name": "Bob"}, "tokenId required"),
        ("removeToken", {"name": "Bob", "tokenId": "a"}, 'Token "a" not found in agent "Bob"'),
        ("transferToken", {**BOTH, "tokenId": "c"}, 'Token "c" not found in agent "Alice"'),
        ("stealToken", {"from": "Alice", "to": "X", "tokenId": "a"}, NOT_THERE),
        ("trade", {"agent1": "Alice", "agent2": "X"}, NOT_THERE),
        ("trade", {"agent1": "Alice", "agent2": "Alice"}, 'Agent "Alice" cannot trade with itself'),
        ("trade", {**SIDES, "offer1": "all"}, "offer1 must be an object, not all"),
        ("trade", {**SIDES, "offer1": {"token": "a"}}, "an offered token must be an object with an id"),
        ("trade", {**SIDES, "offer1": {"token": {"id": "c"}}}, 'Token "c" not in Alice\'s inventory'),
        ("trade", {**SIDES, "offer1": {"token": {"id": "a"}, **GOLD, "amount": 9}}, 'Agent "Alice" has 5 gold but 9'),
        ("trade", {**SIDES, "offer1": {**GOLD, "amount": 2}, "offer2": {"amount": 2}}, "resource required"),
        ("trade", {**SIDES, "offer2": {"resource": "wood", "amount": -2}}, AMOUNT),
        ("drawCards", {"name": "X"}, NOT_THERE),
        ("drawCards", {"name": "Bob", "count": 0}, "Invalid draw count: 0. Must be a positive integer."),
        ("discardCards", {"name": "X", "tokenIds": []}, NOT_THERE),
        ("discardCards", {"name": "Bob", "tokenIds": "c"}, "tokenIds must be a list of ids, not c"),
        ("discardCards", {"name": "Bob", "tokenIds": [["c"]]}, "tokenIds must be a list of ids, not a list"),
    ],
)
def test_what_does_not_fit_is_refused_and_changes_nothing(
    play: Player, action: str, payload: dict[str, Any], error: str
) -> None:
    assert play.refused(f"agent:{action}", payload).startswith(error)


@pytest.mark.parametrize("action", ["agent:drawCards", "agent:discardCards"])
def test_without_a_stack_that_is_the_error(action: str) -> None:
    """Whatever else is wrong."""
    assert Player(ACTIONS, Table()).refused(action, {"name": "X"}) == "No stack attached to engine"


# What is done differently from the original.


@pytest.mark.parametrize("name", ["constructor", "toString", "__proto__", "7"])
def test_a_name_is_nothing_but_a_name(play: Player, name: str) -> None:
    assert play("agent:create", {"name": name}).error is None
    assert [agent["name"] for agent in play("agent:getAll").result] == ["Alice", "Bob", name]


def test_a_missing_offer_is_an_empty_one(play: Player) -> None:
    assert play("agent:trade", {**SIDES, "offer1": {**GOLD, "amount": 2}}).error is None
    assert resources(play, "Bob") == {"wood": 2, "gold": 2}
    assert play.table.document["transactions"][-1]["offer2"] == {}


def test_all_tokens_of_one_id_reach_the_discards(play: Player) -> None:
    play("agent:addToken", {"name": "Alice", "token": {"id": "a", "copy": True}})
    discarded = play("agent:discardCards", {"name": "Alice", "tokenIds": ["b", "a", "b", "?"]}).result
    assert [token["id"] for token in discarded] == ["b", "a", "a"]
    assert play.table.document["stack"]["discards"] == discarded
    assert hand(play, "Alice") == ""


# What stays as it was.


def test_an_agent_that_was_handed_out_does_not_change_later(play: Player) -> None:
    play("agent:create", {"name": "Eve", "meta": {"team": "red"}})
    play("agent:get", {"name": "Alice"})
    play("agent:getAll")
    play("agent:setMeta", {"name": "Eve", "key": "team", "value": "blue"})
    play("agent:transferResource", {"from": "Alice", "to": "Eve", "resource": "gold"})
    play("agent:transferToken", {"from": "Alice", "to": "Eve", "tokenId": "a"})
    play("agent:setActive", {"name": "Alice", "active": False})
    play.check_what_passed()


def test_a_trade_gives_each_what_the_other_had(play: Player) -> None:
    """Also where both give a token of the same id: neither gets its own back."""
    play("agent:addToken", {"name": "Bob", "token": {"id": "a", "whose": "Bob"}})
    play("agent:trade", {**SIDES, "offer1": {"token": {"id": "a"}}, "offer2": {"token": {"id": "a"}}})
    assert play.table.document["agents"]["Alice"]["inventory"][-1] == {"id": "a", "whose": "Bob"}
    assert "whose" not in play.table.document["agents"]["Bob"]["inventory"][-1]


NAMES = st.sampled_from(["Alice", "Bob", "Eve", "X", ""])
IDS = st.sampled_from(list("abcdef?"))
AMOUNTS = st.integers(-2, 9) | st.sampled_from([2.0, nan, inf, "3", None, True])
KINDS = st.sampled_from(["gold", "wood", "", None])
OFFERS = st.none() | st.fixed_dictionaries(
    {}, optional={"token": st.fixed_dictionaries({"id": IDS}), "resource": KINDS, "amount": AMOUNTS}
)
TOUCHES_RESOURCES = {"agent:giveResource", "agent:takeResource", "agent:remove"}
TOUCHES_TOKENS = {"agent:addToken", "agent:removeToken", "agent:remove"}
STEPS = st.tuples(
    st.sampled_from(list(ACTIONS)).map(str),
    st.fixed_dictionaries(
        {
            "name": NAMES,
            "from": NAMES,
            "to": NAMES,
            "agent1": NAMES,
            "agent2": NAMES,
            "token": st.fixed_dictionaries({"id": IDS}),
            "tokenId": IDS,
            "tokenIds": st.lists(IDS, max_size=3),
            "resource": KINDS,
            "offer1": OFFERS,
            "offer2": OFFERS,
        },
        optional={"amount": AMOUNTS, "count": st.integers(-1, 3), "key": st.just("k"), "value": st.integers()},
    ),
)


def wealth(table: Table) -> Counter[str]:
    total: Counter[str] = Counter()
    for agent in table.document["agents"].values():
        total.update(agent["resources"])
    return total


@given(st.lists(STEPS, max_size=30))
def test_nothing_is_lost_or_made_on_the_way(steps: list[tuple[str, dict[str, Any]]]) -> None:
    """Only what gives and takes changes the sums, nobody owes, and after an error nothing is different."""
    pile = tokens("d", "e", "f")
    play = Player(ACTIONS, Table({"stack": {"stack": list(pile), "drawn": [], "discards": []}}, stack=Stack(pile)))
    for name in ("Alice", "Bob", "Eve"):
        play("agent:create", {"name": name})
        play("agent:giveResource", {"name": name, "resource": "gold", "amount": 5})
        play("agent:addToken", {"name": name, "token": {"id": name[0].lower()}})
    for action, payload in steps:
        before, sums, there = deepcopy(play.table), wealth(play.table), Counter(every_token(play.table))
        outcome = play(action, payload)
        if outcome.error is not None:
            assert play.table == before
            assert not outcome.told
        if action not in TOUCHES_RESOURCES:
            assert wealth(play.table) == sums
        if action not in TOUCHES_TOKENS:
            assert Counter(every_token(play.table)) == there
        assert all(
            amount >= 0 for agent in play.table.document["agents"].values() for amount in agent["resources"].values()
        )
        json.dumps(play.table.document, allow_nan=False)
    play.check_what_passed()
