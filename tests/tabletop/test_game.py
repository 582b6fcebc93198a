"""Game state: what an action writes, and that a refusal changes nothing."""

import json
from copy import deepcopy
from math import inf, nan
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hybrid_compute.tabletop.game import ACTIONS, OWNED
from hybrid_compute.tabletop.playing import Setup
from hybrid_compute.tabletop.playing import play as begin
from hybrid_compute.tabletop.recorded import Clock
from hybrid_compute.tabletop.table import Table
from tests.tabletop.replay import Player

NAMES = st.text("abc", max_size=2)
VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(max_size=3),
    lambda inside: st.lists(inside, max_size=3) | st.dictionaries(NAMES, inside, max_size=3),
    max_leaves=6,
)
PATHS = st.lists(NAMES | st.sampled_from(["0", "1", "9"]), min_size=1, max_size=4)


@pytest.fixture
def play() -> Player:
    return Player(ACTIONS, Table())


def endless() -> list[Any]:
    """A list that is in itself."""
    items: list[Any] = []
    items.append(items)
    return items


def test_there_are_nine() -> None:
    assert len(ACTIONS) == 9


@pytest.mark.parametrize(
    ("action", "payload", "error"),
    [
        ("game:nextPhase", {}, "phase required"),
        ("game:setProperty", {"value": 1}, "key required"),
        ("game:setProperty", {"key": 5, "value": 1}, "key required"),
        ("game:setProperty", {"key": "k"}, "value required"),
        ("game:mergeState", {}, "state object required"),
        ("game:mergeState", {"state": [9]}, "state object required"),
        ("game:setState", {"value": 1}, "key required"),
        ("game:setState", {"key": "k"}, "value or patches required"),
        ("game:setState", {"key": "k", "value": 1, "patches": []}, "use either value or patches, not both"),
        ("game:setState", {"key": "k", "patches": [], "replace": True}, "replace is only valid with value"),
        ("game:setState", {"key": "k", "patches": []}, "patches must be a non-empty array"),
        ("game:setState", {"key": "k", "patches": [3]}, "each patch needs a non-empty string path"),
        ("game:setState", {"key": "k", "patches": [{"path": ["a", 1]}]}, "each patch needs a non-empty string path"),
        ("game:setState", {"key": "k", "patches": [{"path": ["a"]}]}, "patch value required"),
        ("game:setProperty", {"key": "k", "value": {1, 2}}, "value must be JSON-serializable"),
        ("game:mergeState", {"state": {"k": b""}}, "value must be JSON-serializable"),
        ("game:setState", {"key": "k", "value": {1, 2}}, "value must be JSON-serializable"),
        ("game:setState", {"key": "k", "value": nan}, "value must be JSON-serializable"),
        ("game:setState", {"key": "k", "patches": [{"path": ["a"], "value": inf}]}, "value must be JSON-serializable"),
    ],
)
def test_what_is_missing_or_wrong_is_refused(play: Player, action: str, payload: dict[str, Any], error: str) -> None:
    assert play.refused(action, payload) == error


def test_a_value_without_end_is_refused(play: Player) -> None:
    assert play.refused("game:setState", {"key": "k", "value": endless()}) == "value must be JSON-serializable"


def nested(levels: int) -> Any:
    return {"a": nested(levels - 1)} if levels > 1 else 1


def test_what_grows_too_deep_to_be_copied_is_refused(play: Player) -> None:
    error = "value must not be nested deeper than 100 levels: it would be at 101"
    assert play.refused("game:setState", {"key": "k", "value": nested(101)}) == error
    assert play.refused("game:setProperty", {"key": "k", "value": nested(101)}) == error
    assert play("game:setState", {"key": "k", "value": nested(100)}).error is None
    patch = {"path": ["a"] * 60, "value": nested(41)}
    assert play.refused("game:setState", {"key": "k", "patches": [patch]}) == error
    assert play("game:setState", {"key": "k", "patches": [{**patch, "value": nested(40)}]}).error is None
    assert "deeper" in play.refused("game:setState", {"key": "k", "patches": [{"path": ["a"] * 3000, "value": 1}]})


@pytest.mark.parametrize("key", sorted(OWNED))
def test_what_has_actions_of_its_own_cannot_be_overwritten(play: Player, key: str) -> None:
    error = f"{key!r} has actions of its own: game:setState writes any other key"
    assert play.refused("game:setState", {"key": key, "value": 0, "replace": True}) == error
    assert play.refused("game:setState", {"key": key, "patches": [{"path": ["a"], "value": 0}]}) == error


# A game's life.


def test_pauses_add_up_and_each_counts_once() -> None:
    clock = Clock()
    game = begin(Setup(), clock)

    def after(steps: int, action: str) -> dict[str, Any]:
        for _ in range(steps):
            clock.tick()
        return game.dispatch(action, None).result  # type: ignore[no-any-return]

    after(0, "game:start")
    after(1, "game:pause")
    assert after(3, "game:resume")["totalPauseDuration"] == 30
    assert after(5, "game:resume")["totalPauseDuration"] == 30
    after(1, "game:pause")
    assert after(2, "game:resume")["totalPauseDuration"] == 50


def test_what_a_game_put_in_place_of_a_number_is_not_counted_on(play: Player) -> None:
    play("game:setProperty", {"key": "turn", "value": "five"})
    assert play.refused("game:nextPhase", {"phase": "p"}).startswith("turn of the game state must be a number")
    play("game:pause")
    play("game:setProperty", {"key": "totalPauseDuration", "value": True})
    assert play.refused("game:resume").startswith("totalPauseDuration of the game state must be a number")


@pytest.mark.parametrize(("winner", "kept"), [("A", True), ([], True), ("", False), (0, False), (None, False)])
def test_a_winner_is_kept_if_it_says_anything(play: Player, winner: Any, kept: bool) -> None:
    assert ("winner" in play("game:end", {"winner": winner}).result) is kept


def test_a_game_that_starts_again_keeps_the_rest(play: Player) -> None:
    play("game:end", {"winner": "Bob"})
    play("game:nextPhase", {"phase": "late"})
    state = play("game:start").result
    assert (state["winner"], state["phase"], state["turn"], state["ended"]) == ("Bob", "late", 1, False)


def test_nothing_is_there_before_something_is_written(play: Player) -> None:
    assert play("game:getState").result == {}
    assert play.table.document == {}


@pytest.mark.parametrize("key", ["table", "changes", "self", "key"])
def test_a_property_may_have_any_name(play: Player, key: str) -> None:
    assert play("game:setProperty", {"key": key, "value": 1}).result == {key: 1}
    assert play("game:mergeState", {"state": {key: None}}).result == {key: None}


# Any key of the document.


def put(play: Player, *path: str, value: Any, key: str = "k") -> Any:
    return play("game:setState", {"key": key, "patches": [{"path": list(path), "value": value}]})


@pytest.mark.parametrize("value", [7, "ab", [1], None, True])
def test_only_an_object_is_merged_into_an_object(play: Player, value: Any) -> None:
    play("game:setState", {"key": "k", "value": {"x": 1}})
    assert "pass replace to overwrite it" in play.refused("game:setState", {"key": "k", "value": value})
    assert play("game:setState", {"key": "k", "value": value, "replace": True}).result == value


@pytest.mark.parametrize("old", [7, "", None, [1], True])
def test_what_is_no_object_is_replaced(play: Player, old: Any) -> None:
    play("game:setState", {"key": "k", "value": old})
    assert play("game:setState", {"key": "k", "value": {"x": 1}}).result == {"x": 1}


@pytest.mark.parametrize("nothing", [None, False, 0, ""])
def test_a_path_is_made_where_there_is_nothing(play: Player, nothing: Any) -> None:
    play("game:setState", {"key": "k", "value": {"a": nothing}})
    assert put(play, "a", "b", "c", value=1).result == {"a": {"b": {"c": 1}}}


def test_a_path_leads_into_lists_and_to_their_end(play: Player) -> None:
    play("game:setState", {"key": "k", "value": {"n": [4, {"x": 1}]}})
    assert put(play, "n", "0", value=5).result == {"n": [5, {"x": 1}]}
    assert put(play, "n", "1", "x", value=2).result == {"n": [5, {"x": 2}]}
    assert put(play, "n", "2", value=6).result == {"n": [5, {"x": 2}, 6]}


@pytest.mark.parametrize("index", ["3", "-1", "01", "x", "", "1.0", "²", "9" * 5000])
def test_an_index_that_is_none_is_refused(play: Player, index: str) -> None:
    play("game:setState", {"key": "k", "value": [1, 2]})
    patches = [{"path": ["0"], "value": 9}, {"path": [index], "value": 9}]
    error = play.refused("game:setState", {"key": "k", "patches": patches})
    assert error == f"index {index!r} is out of bounds: the list has 2 items"


def test_a_path_through_a_value_is_refused_and_no_patch_was_made(play: Player) -> None:
    play("game:setState", {"key": "k", "value": {"turn": 1}})
    patches = [{"path": ["turn"], "value": 3}, {"path": ["turn", "x"], "value": 3}]
    error = play.refused("game:setState", {"key": "k", "patches": patches})
    assert error == "a path goes on to 'x' from 3, which is neither an object nor a list"


def test_what_was_handed_out_stays_as_it_was(play: Player) -> None:
    play("game:start")
    play("game:nextPhase", {"phase": "p"})
    play("game:setState", {"key": "k", "value": {"a": {"b": [1]}}})
    put(play, "a", "b", "0", value=2)
    play("game:setState", {"key": "k", "value": {"a": 0}})
    play("game:end", {"winner": "A"})
    play.check_what_passed()


@given(VALUES)
def test_a_value_comes_back_as_it_was_given(value: Any) -> None:
    play = Player(ACTIONS, Table())
    assert play("game:setState", {"key": "k", "value": value}).result == value
    assert json.loads(json.dumps(play.table.document)) == {"k": value}


@given(VALUES, st.lists(st.tuples(PATHS, VALUES), min_size=1, max_size=3))
def test_patches_are_all_made_or_none(old: Any, patches: list[tuple[list[str], Any]]) -> None:
    play = Player(ACTIONS, Table({"k": old}))
    before = deepcopy(play.table.document)
    outcome = play(
        "game:setState", {"key": "k", "patches": [{"path": path, "value": value} for path, value in patches]}
    )
    if outcome.error is not None:
        assert play.table.document == before
        return
    path, value = patches[-1]
    found = play.table.document["k"]
    for step in path:
        found = found[int(step)] if isinstance(found, list) else found[step]
    assert found == value
    play.check_what_passed()
