"""The stack: what goes where and in which order, and that a refusal changes nothing."""

from collections import Counter
from math import inf, nan
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hybrid_compute.tabletop.piles import ACTIONS
from hybrid_compute.tabletop.table import Stack, Table
from tests.tabletop.replay import VECTORS, Player, a_stack, cases, replay, tokens

ANSWERS = {
    "a non-number seed goes through ToUint32": "Invalid seed: ",
    "null is not a number: one bare token, not a list": "Invalid draw count: null.",
    "a string count draws one bare token": "Invalid draw count: 2.",
    "undefined result": "Invalid draw count: null.",
    "slice(-0): the whole stack": "Invalid peek count: 0.",
    "slice(2)": "Invalid peek count: -2.",
    "truncates": "Invalid peek count: 1.9.",
    "any truthy card: a string is spread into its characters": "card must be an object, not text",
    "both missing: no error, event sent, nothing moves": "Invalid swap indices: i=null, j=null.",
    "one missing: the document library refuses the undefined": "Invalid swap indices: i=1, j=null.",
    "no integer check": "Invalid swap indices: i=0.5, j=1.",
    "the package's own pages name the fields position1/position2; the code reads i/j": "Invalid swap indices: ",
    "empty: an error": None,
    "a null payload is not defaulted": None,
}
recorded = pytest.mark.skipif(not VECTORS.is_dir(), reason="there are no recorded vectors here")


def of(*ids: str, seed: float | None = None) -> Player:
    """A table with a stack of these tokens, the last on top."""
    stack = Stack(tokens(*ids), seed)
    return Player(ACTIONS, Table({"stack": a_stack(stack)}, stack))


def lying(play: Player, pile: str = "stack") -> str:
    return "".join(token["id"] for token in play.table.document["stack"][pile])


@recorded
@pytest.mark.parametrize("case", cases("stack"), ids=lambda case: case["name"])
def test_a_recorded_case_gives_the_same(case: dict[str, Any]) -> None:
    replay(case, ANSWERS)


@recorded
def test_only_quirks_are_answered_differently() -> None:
    assert set(ANSWERS) <= {step.get("quirk") for case in cases("stack") for step in case["steps"]}


def test_there_are_eleven() -> None:
    assert len(ACTIONS) == 11


# What is refused.


@pytest.mark.parametrize("action", list(ACTIONS))
def test_without_a_stack_there_is_nothing_to_do(action: str) -> None:
    assert Player(ACTIONS, Table()).refused(action) == "No stack attached to engine"


@pytest.mark.parametrize("operation", ["draw", "peek", "burn"])
@pytest.mark.parametrize(
    ("count", "name"),
    [(0, "0"), (-1, "-1"), (1.5, "1.5"), (nan, "NaN"), (inf, "Infinity"), (None, "null"), ("2", "2"), (True, "true")],
)
def test_a_count_is_a_positive_integer(operation: str, count: Any, name: str) -> None:
    refused = of("a", "b", "c").refused(f"stack:{operation}", {"count": count})
    assert refused == f"Invalid {operation} count: {name}. Must be a positive integer."


@pytest.mark.parametrize(
    ("action", "payload", "error"),
    [
        ("stack:shuffle", {"seed": "abc"}, "Invalid seed: abc. Must be a finite number."),
        ("stack:shuffle", {"seed": False}, "Invalid seed: false. Must be a finite number."),
        ("stack:shuffle", {"seed": nan}, "Invalid seed: NaN. Must be a finite number."),
        ("stack:cut", {"position": 4}, "Index out of bounds: 4"),
        ("stack:cut", {"position": -1}, "Index out of bounds: -1"),
        ("stack:cut", {"position": None}, "Index out of bounds: null"),
        ("stack:insertAt", {}, "card required"),
        ("stack:insertAt", {"card": ""}, "card required"),
        ("stack:insertAt", {"card": "x"}, "card must be an object, not x"),
        ("stack:insertAt", {"card": {"id": "x"}, "position": 4}, "Index out of bounds: 4"),
        ("stack:removeAt", {"position": 3}, "Index out of bounds: 3"),
        ("stack:removeAt", {"position": 0.5}, "Index out of bounds: 0.5"),
        ("stack:swap", {"i": 0, "j": 3}, "Invalid swap indices: i=0, j=3. Valid range: 0 to 2."),
        ("stack:swap", {"i": 0}, "Invalid swap indices: i=0, j=null. Valid range: 0 to 2."),
        ("stack:swap", {"i": True, "j": 0}, "Invalid swap indices: i=true, j=0. Valid range: 0 to 2."),
        ("stack:discard", {"card": None}, "card required"),
        ("stack:discard", {"card": [1]}, "card must be an object, not a list"),
    ],
)
def test_what_does_not_fit_is_refused(action: str, payload: dict[str, Any], error: str) -> None:
    assert of("a", "b", "c").refused(action, payload) == error


def test_a_refused_seed_is_not_the_last_one() -> None:
    play = of("a", "b", "c", seed=5)
    play.refused("stack:shuffle", {"seed": "x"})
    assert play("stack:shuffle").told[0].payload == {"seed": 5}


# What it remembers and tells.


def test_the_last_seed_is_used_again_also_after_a_reset() -> None:
    play = of("a", "b", "c", "d", "e")
    play("stack:shuffle", {"seed": 7})
    first = lying(play)
    play("stack:reset")
    assert play("stack:shuffle").told[0].payload == {"seed": 7}
    assert lying(play) == first == "dbcea"


def test_the_stack_that_the_table_was_given_stays_as_it_was() -> None:
    play = of("a", "b", "c")
    given = play.table.stack
    play("stack:shuffle", {"seed": 7})
    assert given == Stack(tokens("a", "b", "c"))


@pytest.mark.parametrize(
    ("count", "told"), [(2, ["draw"]), (3, ["draw"]), (4, ["draw", "stack:insufficient"])], ids=["few", "all", "more"]
)
def test_it_is_told_when_fewer_come_than_asked(count: int, told: list[str]) -> None:
    play = of("a", "b", "c")
    assert [one.type for one in play("stack:draw", {"count": count}).told] == told


def test_of_an_empty_stack_there_is_nothing_to_draw() -> None:
    outcome = of()("stack:draw", {"count": 3})
    assert outcome.result == []
    assert [(one.type, one.payload) for one in outcome.told] == [("stack:empty", {"operation": "draw", "requested": 3})]


# Our own answers.


def test_an_empty_stack_is_reversed_without_a_word() -> None:
    outcome = of()("stack:reverse")
    assert (outcome.error, outcome.told) == (None, [])


def test_a_count_of_two_point_zero_is_two() -> None:
    play = of("a", "b", "c")
    assert [token["id"] for token in play("stack:draw", {"count": 2.0}).result] == ["c", "b"]
    assert play("stack:cut", {"position": 1.0}).told[0].payload == {"payload": {"n": 1, "topToBottom": True}}


def test_without_any_seed_the_order_is_the_engines_chance() -> None:
    ids = [chr(letter) for letter in range(ord("a"), ord("z") + 1)]
    play = of(*ids)
    told = play("stack:shuffle").told
    first = lying(play)
    play("stack:shuffle")
    assert len({"".join(ids), first, lying(play)}) == 3
    assert told[0].payload == {"seed": None}


def test_reset_gives_what_was_built_and_not_what_became_of_it() -> None:
    play = of("a", "b")
    play("stack:insertAt", {"card": {"id": "c"}})
    play("stack:reset")
    play("stack:draw", {"count": 2})
    play("stack:reset")
    assert (lying(play), lying(play, "drawn"), lying(play, "discards")) == ("ab", "", "")


def test_the_stack_as_built_is_not_the_pile() -> None:
    play = of("a", "b", "c")
    for action in ("stack:draw", "stack:burn", "stack:reverse", "stack:removeAt"):
        play(action)
    assert play.table.stack is not None
    assert [token["id"] for token in play.table.stack.tokens] == ["a", "b", "c"]


# What holds for any course of a game.

numbers = st.one_of(st.integers(-2, 8), st.sampled_from([None, "1", 1.0, 1.5, True]))
moves = st.one_of(
    st.tuples(st.sampled_from(["stack:draw", "stack:burn", "stack:peek"]), st.fixed_dictionaries({"count": numbers})),
    st.tuples(st.just("stack:shuffle"), st.fixed_dictionaries({"seed": numbers})),
    st.tuples(st.just("stack:cut"), st.fixed_dictionaries({"position": numbers})),
    st.tuples(st.just("stack:swap"), st.fixed_dictionaries({"i": numbers, "j": numbers})),
    st.tuples(st.just("stack:reverse"), st.just({})),
)


@given(st.lists(moves, max_size=12))
def test_tokens_only_move_and_a_refusal_changes_nothing(course: list[tuple[str, dict[str, Any]]]) -> None:
    play = of("a", "b", "c", "d", "e", seed=1)
    for action, payload in course:
        before = repr(play.table)
        if play(action, payload).error is not None or action == "stack:peek":
            assert repr(play.table) == before
        assert Counter("".join(lying(play, pile) for pile in ("stack", "drawn", "discards"))) == Counter("abcde")


@given(st.integers(1, 60), st.integers(0, 52))
def test_what_is_peeked_at_is_drawn(count: int, size: int) -> None:
    play = of(*(str(number) for number in range(size)))
    seen = play("stack:peek", {"count": count}).result
    assert seen == play("stack:draw", {"count": count}).result
    assert len(seen) == min(count, size)
