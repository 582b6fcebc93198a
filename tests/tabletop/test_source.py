"""The source: several stacks as one pile, and how stacks come and go."""

from collections import Counter
from math import inf
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hybrid_compute.tabletop.source import ACTIONS
from hybrid_compute.tabletop.table import Stack, Table
from tests.tabletop.replay import VECTORS, Player, a_source, cases, replay, tokens

ANSWERS = {
    "the new id is made from the count: it can repeat one in use": None,
    "removal is by position, so after a shuffle or a draw other tokens go": None,
}
recorded = pytest.mark.skipif(not VECTORS.is_dir(), reason="there are no recorded vectors here")


def of(*stacks: str, threshold: float | None = None, mode: str = "auto") -> Player:
    """A table with a source of these stacks, a letter for a token."""
    made = [Stack(tokens(*stack)) for stack in stacks]
    source = a_source(*made) | {"reshufflePolicy": {"threshold": threshold, "mode": mode}}
    return Player(ACTIONS, Table({"source": source}, stacks=made))


def lying(play: Player, pile: str = "tokens") -> str:
    return "".join(token["id"] for token in play.table.document["source"][pile])


@recorded
@pytest.mark.parametrize("case", cases("source"), ids=lambda case: case["name"])
def test_a_recorded_case_gives_the_same(case: dict[str, Any]) -> None:
    replay(case, ANSWERS)


@recorded
def test_only_quirks_are_answered_differently() -> None:
    quirks = {one.get("quirk") for case in cases("source") for one in [case, *case["steps"]]}
    assert set(ANSWERS) <= quirks


def test_there_are_seven() -> None:
    assert len(ACTIONS) == 7


# What is refused.


@pytest.mark.parametrize("action", list(ACTIONS))
def test_without_a_source_there_is_nothing_to_do(action: str) -> None:
    assert Player(ACTIONS, Table()).refused(action) == "No source attached to engine"


@pytest.mark.parametrize("operation", ["draw", "burn"])
def test_more_than_there_are_is_refused(operation: str) -> None:
    refused = of("abc").refused(f"source:{operation}", {"count": 4})
    assert refused == f"Invalid operation: Cannot {operation} 4 from source of 3"


@pytest.mark.parametrize("operation", ["draw", "burn"])
@pytest.mark.parametrize(
    ("count", "name"), [(0, "0"), (-1, "-1"), (0.5, "0.5"), (inf, "Infinity"), (None, "null"), (True, "true")]
)
def test_a_count_is_a_positive_integer(operation: str, count: Any, name: str) -> None:
    refused = of("abc").refused(f"source:{operation}", {"count": count})
    assert refused == f"Invalid {operation} count: {name}. Must be a positive integer."


@pytest.mark.parametrize(
    ("action", "payload", "error"),
    [
        ("source:shuffle", {"seed": "abc"}, "Invalid seed: abc. Must be a finite number."),
        ("source:addStack", {}, "stack required"),
        ("source:addStack", {"stack": None}, "stack required"),
        ("source:addStack", {"stack": "s1"}, "stack must be a Stack or a list of tokens"),
        ("source:addStack", {"stack": ["a"]}, "stack must be a Stack or a list of tokens"),
        ("source:removeStack", {}, "stack required"),
        ("source:removeStack", {"stack": tokens("c", "b", "a")}, "Stack not found in Source"),
    ],
)
def test_what_does_not_fit_is_refused(action: str, payload: dict[str, Any], error: str) -> None:
    assert of("abc").refused(action, payload) == error


# The policy.


@pytest.mark.parametrize(("threshold", "told"), [(2, True), (1, False), (3.5, True), (None, False)])
def test_few_left_are_shuffled_before_the_draw_is_told(threshold: float | None, told: bool) -> None:
    play = of("abcde", threshold=threshold)
    play("source:shuffle", {"seed": 3})
    before = lying(play)
    outcome = play("source:draw", {"count": 3})
    assert "".join(token["id"] for token in outcome.result) == before[:1:-1]
    assert Counter(lying(play)) == Counter(before[:2])
    first = {"payload": {"reason": "threshold"}}
    expected = [("source", "source:reshuffled", first)] if told else []
    expected.append(("source", "source:draw", {"payload": {"count": 3}}))
    assert [(one.source, one.type, one.payload) for one in outcome.told] == expected


def test_the_rest_is_shuffled_by_the_seed_of_the_source() -> None:
    play = of("abcdef", threshold=5)
    play.table.document["source"]["seed"] = 7
    play("source:draw")
    assert lying(play) == "dbcea"


def test_a_manual_policy_shuffles_nothing() -> None:
    play = of("abcdef", threshold=5, mode="manual")
    assert [one.type for one in play("source:draw").told] == ["source:draw"]
    assert lying(play) == "abcde"


def test_burning_is_not_drawing() -> None:
    play = of("abcdef", threshold=5)
    play("source:burn")
    assert lying(play) == "abcde"


# Stacks.


def test_a_list_of_tokens_is_a_stack() -> None:
    play = of("ab")
    assert play("source:addStack", {"stack": tokens("c")}).told[0].payload == {"payload": {"stackId": "stack-1"}}
    assert lying(play) == "abc"
    assert play("source:removeStack", {"stack": tokens("a", "b")}).told[0].payload == {
        "payload": {"stackId": "stack-0"}
    }
    assert lying(play) == "c"


def test_the_id_of_a_new_stack_is_free() -> None:
    play = of("a", "b")
    play("source:removeStack", {"stack": tokens("a")})
    play("source:addStack", {"stack": tokens("c")})
    assert play("source:inspect").result["stackIds"] == ["stack-1", "stack-2"]


def test_a_stack_goes_with_its_own_tokens_wherever_they_lie() -> None:
    play = of("abc", "xyz")
    play("source:shuffle", {"seed": 2})
    play("source:draw")
    play("source:burn")
    rest, burned = lying(play), lying(play, "burned")
    play("source:removeStack", {"stack": tokens("a", "b", "c")})
    assert lying(play) == "".join(token for token in rest if token in "xyz")
    assert lying(play, "burned") == burned


def test_of_two_equal_decks_one_goes() -> None:
    play = of("aab", "aab")
    play("source:draw")
    play("source:removeStack", {"stack": tokens("a", "a", "b")})
    assert lying(play) == "aa"
    assert play("source:inspect").result["stacks"] == 1


def test_tokens_of_one_id_are_told_apart_by_the_rest() -> None:
    red, blue = {"id": "gem", "color": "red"}, {"id": "gem", "color": "blue"}
    stacks = [Stack([red]), Stack([blue])]
    play = Player(ACTIONS, Table({"source": a_source(*stacks)}, stacks=stacks))
    play("source:removeStack", {"stack": [blue]})
    assert play("source:inspect").result["tokens"] == [red]


def test_reset_lays_out_the_stacks_that_are_there() -> None:
    play = of("ab", "cd")
    play("source:addStack", {"stack": Stack(tokens("e"))})
    play("source:removeStack", {"stack": tokens("a", "b")})
    play("source:burn", {"count": 2})
    assert play("source:reset").told[0].payload == {"payload": {"size": 3}}
    assert (lying(play), lying(play, "burned")) == ("cde", "")
    play("source:draw", {"count": 3})
    play("source:reset")
    assert lying(play) == "cde"


def test_what_was_inspected_stays_as_it_was() -> None:
    play = of("abc")
    seen = play("source:inspect").result
    play("source:burn")
    assert [token["id"] for token in seen["tokens"]] == ["a", "b", "c"]
    assert seen["burned"] == []


# What holds for any course of a game.

numbers = st.one_of(st.integers(-1, 4), st.sampled_from([None, "1", 1.0, 1.5]))
moves = st.one_of(
    st.tuples(st.sampled_from(["source:draw", "source:burn"]), st.fixed_dictionaries({"count": numbers})),
    st.tuples(st.just("source:shuffle"), st.fixed_dictionaries({"seed": numbers})),
    st.tuples(
        st.sampled_from(["source:addStack", "source:removeStack"]),
        st.fixed_dictionaries({"stack": st.sampled_from(["abc", "abc", "xy", "z"]).map(lambda ids: tokens(*ids))}),
    ),
)


@given(st.lists(moves, max_size=15), st.one_of(st.none(), st.integers(0, 4)))
def test_no_token_comes_from_nowhere(course: list[tuple[str, dict[str, Any]]], threshold: int | None) -> None:
    """And a refusal changes nothing, and ids are never shared."""
    play = of("abc", "xy", threshold=threshold)
    drawn: Counter[str] = Counter()
    added = Counter("abcxy")
    for action, payload in course:
        before = repr(play.table)
        outcome = play(action, payload)
        if outcome.error is not None:
            assert repr(play.table) == before
        elif action == "source:draw":
            result = outcome.result
            drawn.update(token["id"] for token in (result if isinstance(result, list) else [result]))
        elif action == "source:addStack":
            added.update(token["id"] for token in payload["stack"])
        state = play("source:inspect").result
        assert Counter(lying(play)) + Counter(lying(play, "burned")) + drawn <= added
        assert len(set(state["stackIds"])) == len(state["stackIds"]) == state["stacks"]
