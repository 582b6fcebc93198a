"""Tokens without a table: copies of copies, and piles looked through."""

import json
from copy import deepcopy
from math import inf, nan
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hybrid_compute.tabletop.dice import shuffled, text_seed
from hybrid_compute.tabletop.table import Stack, Table
from hybrid_compute.tabletop.tokens import ACTIONS
from tests.tabletop.replay import VECTORS, Player, a_source, a_stack, cases, replay, tokens

ANSWERS = {
    "the generated id is overwritten by the last token's id": None,
    "rounds up": "Invalid split count: 1.5.",
    "a negative count: nothing drawn, all remain": "Invalid draw count: -1.",
}
GROUPS = ("token", "tokens", "debug")
recorded = pytest.mark.skipif(not VECTORS.is_dir(), reason="there are no recorded vectors here")


@pytest.fixture
def play() -> Player:
    return Player(ACTIONS, Table())


@recorded
@pytest.mark.parametrize(
    "case",
    [case for group in GROUPS for case in cases(group)],
    ids=lambda case: case["name"] + " " + case["steps"][0]["action"],
)
def test_a_recorded_case_gives_the_same(case: dict[str, Any]) -> None:
    replay(case, ANSWERS)


@recorded
def test_only_quirks_are_answered_differently() -> None:
    quirks = {step.get("quirk") for group in GROUPS for case in cases(group) for step in case["steps"]}
    assert set(ANSWERS) <= quirks


def test_there_are_five_and_eight_and_one() -> None:
    names = [name.partition(":")[0] for name in ACTIONS]
    assert [names.count(group) for group in GROUPS] == [5, 8, 1]


@pytest.mark.parametrize(
    ("action", "payload", "error"),
    [
        ("token:transform", {"token": None}, "token required"),
        ("token:transform", {"token": "x"}, "token must be an object, not x"),
        ("token:transform", {"token": {}, "properties": [1]}, "properties must be an object, not a list"),
        ("token:attach", {"host": {}}, "host and attachment required"),
        ("token:attach", {"attachment": {}}, "host and attachment required"),
        ("token:attach", {"host": {}, "attachment": 5}, "attachment must be an object, not 5"),
        (
            "token:attach",
            {"host": {"_attachments": 5}, "attachment": {}},
            "_attachments of the host must be a list, not 5",
        ),
        ("token:detach", {}, "host required"),
        ("token:merge", {"tokens": {"a": 1}}, "At least 2 tokens required to merge"),
        ("token:merge", {"tokens": [{}, None]}, "each token must be an object, not null"),
        ("token:merge", {"tokens": [{}, {}], "properties": 5}, "properties must be an object, not 5"),
        ("token:split", {}, "token required"),
        ("token:split", {"token": {}, "count": 1.5}, "Invalid split count: 1.5. Must be an integer."),
        ("token:split", {"token": {}, "count": inf}, "Invalid split count: Infinity. Must be an integer."),
        ("token:split", {"token": {}, "count": None}, "Invalid split count: null. Must be an integer."),
        ("token:split", {"token": {}, "count": 10**12}, "Invalid split count: 1000000000000. Must not be above 10000."),
        ("token:split", {"token": {}, "count": 10_001.0}, "Invalid split count: 10001. Must not be above 10000."),
        ("token:split", {"token": {}, "propertiesArray": 5}, "propertiesArray must be a list, not 5"),
        ("token:split", {"token": {}, "propertiesArray": [5]}, "each of propertiesArray must be an object, not 5"),
        ("tokens:shuffle", {"decks": [[1], "ab"]}, "each deck must be a list, not ab"),
        ("tokens:shuffle", {"decks": [], "seed": True}, "Invalid seed: true. Must be a number or a text."),
        ("tokens:shuffle", {"decks": [], "seed": []}, "Invalid seed: a list. Must be a number or a text."),
        ("tokens:draw", {"counts": []}, "decks and counts required"),
        ("tokens:draw", {"decks": []}, "decks and counts required"),
        ("tokens:draw", {"decks": [[1]], "counts": []}, "Deck and count arrays must match"),
        ("tokens:draw", {"decks": [1], "counts": [1]}, "each deck must be a list, not 1"),
        ("tokens:draw", {"decks": [[1]], "counts": [-1]}, "Invalid draw count: -1. Must be an integer, not below 0."),
        ("tokens:draw", {"decks": [[1]], "counts": [nan]}, "Invalid draw count: NaN. Must be an integer, not below 0."),
        ("tokens:filter", {"tokens": "x"}, "tokens required"),
        ("tokens:filter", {"tokens": [], "predicate": "group:x"}, "Unknown predicate: group:x"),
        ("tokens:filter", {"tokens": [], "predicate": ["merged"]}, "Unknown predicate: a list"),
        ("tokens:filter", {"tokens": [], "predicate": None}, "Unknown predicate: null"),
        ("tokens:find", {"tokens": None}, "tokens required"),
        ("tokens:count", {}, "tokens required"),
        ("tokens:map", {"tokens": [], "operation": {}}, "Unknown operation: an object"),
        ("tokens:map", {"tokens": [1]}, "each token must be an object, not 1"),
        ("tokens:forEach", {"tokens": [], "operation": "spin"}, "Unknown operation: spin"),
        ("tokens:collect", {"sources": "stack"}, "sources required"),
    ],
)
def test_what_does_not_fit_is_refused(play: Player, action: str, payload: dict[str, Any], error: str) -> None:
    assert play.refused(action, payload) == error


def test_a_merged_token_has_an_id_of_its_own(play: Player) -> None:
    merged = play("token:merge", {"tokens": tokens("a", "b")}).result["merged"]
    again = play("token:merge", {"tokens": tokens("a", "b")}).result["merged"]
    assert len({"a", "b", merged["id"], again["id"]}) == 4
    assert merged["_mergedFrom"] == ["a", "b"]


def test_nothing_is_made_of_a_negative_count(play: Player) -> None:
    assert play("token:split", {"token": {"id": "a"}, "count": -3, "propertiesArray": [{}] * 5}).result == []


def test_what_has_no_id_comes_from_nowhere(play: Player) -> None:
    assert play("token:transform", {"token": {"v": 1}}).result == {"v": 1}
    assert [set(each) for each in play("token:split", {"token": {"v": 1}}).result] == [{"v", "id"}] * 2


@pytest.mark.parametrize("seed", [42, 42.0, "42"], ids=repr)
def test_each_deck_has_the_seed_of_its_place(play: Player, seed: Any) -> None:
    decks = [list(range(9)), list(range(9))]
    shuffles = play("tokens:shuffle", {"decks": decks, "seed": seed}).result
    assert shuffles == [shuffled(range(9), text_seed("42-0")), shuffled(range(9), text_seed("42-1"))]


def test_without_a_seed_decks_differ(play: Player) -> None:
    decks = [list(range(52))] * 2
    one, other = play("tokens:shuffle", {"decks": decks}).result
    assert one != other
    assert sorted(one) == sorted(other) == decks[0]


@pytest.mark.parametrize(("flag", "set"), [("", False), (0, False), (None, False), ([], True), ({}, True), (1, True)])
def test_a_flag_is_what_javascript_takes_for_true(play: Player, flag: Any, set: bool) -> None:
    assert play("tokens:count", {"tokens": [{"merged": flag}], "predicate": "merged"}).result == set


def test_piles_of_anything_can_be_asked(play: Player) -> None:
    pile = [None, 1, "text", [1], {"kind": "a:b"}]
    assert play("tokens:filter", {"tokens": pile, "predicate": "normal"}).result == pile
    assert play("tokens:find", {"tokens": pile, "predicate": "kind:a:b"}).result == {"kind": "a:b"}
    assert play("tokens:find", {"tokens": pile, "predicate": "rank:1"}).result is None
    assert play("tokens:count", {"tokens": pile, "predicate": 5}).result == 0


def test_collected_is_what_lies_there_and_nothing_for_what_is_not() -> None:
    stack = Stack(tokens("a"))
    zones = {"table": [{"id": "P", "tokenSnapshot": {"id": "z"}}], "_lock:table": True}
    table = Table({"stack": a_stack(stack), "source": a_source(Stack(tokens("s"))), "zones": zones}, stack)
    play = Player(ACTIONS, table)
    found = play("tokens:collect", {"sources": ["source", "table", "_lock:table", "no", 5, None, "stack"]}).result
    assert [token["id"] for token in found] == ["s", "z", "a"]
    assert Player(ACTIONS, Table())("tokens:collect", {"sources": ["stack", "drawn", "source", "table"]}).result == []


json_values: st.SearchStrategy[Any] = st.recursive(
    st.none() | st.booleans() | st.integers(-9, 9) | st.text(max_size=3),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner, max_size=3),
    max_leaves=6,
)
ALONE = ["token", "host", "attachment", "attachmentId", "properties", "count", "keepOriginals", "seed", "predicate"]
LISTS = ["tokens", "propertiesArray", "decks", "counts", "sources"]


@given(
    st.sampled_from(list(ACTIONS)),
    st.dictionaries(
        st.sampled_from([*ALONE, *LISTS]), json_values | st.lists(st.just({"id": "a"}), max_size=3), max_size=4
    ),
)
def test_any_payload_is_answered_or_refused_and_nothing_changes(action: str, payload: dict[str, Any]) -> None:
    """What comes out is JSON, and neither the payload nor the table is another then."""
    table = Table({"stack": a_stack(Stack(tokens("a"))), "zones": {"a": []}}, Stack(tokens("a")))
    before = deepcopy(table)
    outcome = Player(ACTIONS, table)(action, payload)
    assert table == before
    assert not outcome.told
    json.dumps(outcome.result)


@given(st.lists(st.lists(st.integers(), max_size=6), max_size=4), st.data())
def test_drawn_and_left_are_the_deck(decks: list[list[int]], data: st.DataObject) -> None:
    counts = [data.draw(st.integers(0, 8)) for _ in decks]
    result = Player(ACTIONS, Table())("tokens:draw", {"decks": decks, "counts": counts}).result
    for deck, drawn, left, count in zip(decks, result["drawn"], result["decks"], counts, strict=True):
        assert left + drawn[::-1] == deck
        assert len(drawn) == min(count, len(deck))
