"""Zones: what lies where, what a lock keeps, and that a refusal changes nothing."""

import json
from collections import Counter
from copy import deepcopy
from math import inf, nan
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hybrid_compute.tabletop.space import ACTIONS
from hybrid_compute.tabletop.table import Table
from tests.tabletop.replay import VECTORS, Player, cases, every_token, replay

ANSWERS = {
    "opts null is not defaulted": None,
    "clearing an unknown zone creates it": None,
    'no name: a zone called "undefined"': "name required",
    "creates the empty zones map": None,
    "only the boolean true locks": "locked must be true or false",
    "the lock flag stays": None,
    "hidden from the zone list; overwritten by lockZone": "zone must not be",
}


@pytest.fixture
def play() -> Player:
    return Player(ACTIONS, Table())


def put(play: Player, *names: str, zone: str = "z") -> list[str]:
    """Place tokens into a zone; the ids of the placements."""
    return [play("space:place", {"zone": zone, "card": {"id": name}}).result["id"] for name in names]


def lying(play: Player, zone: str = "z") -> list[str]:
    return [placement["tokenId"] for placement in play.table.document["zones"][zone]]


@pytest.mark.skipif(not VECTORS.is_dir(), reason="there are no recorded vectors here")
@pytest.mark.parametrize("case", cases("space"), ids=lambda case: case["name"])
def test_a_recorded_case_gives_the_same(case: dict[str, Any]) -> None:
    replay(case, ANSWERS)


@pytest.mark.skipif(not VECTORS.is_dir(), reason="there are no recorded vectors here")
def test_only_quirks_are_answered_differently() -> None:
    assert set(ANSWERS) <= {step.get("quirk") for case in cases("space") for step in case["steps"]}


def test_there_are_fourteen() -> None:
    assert len(ACTIONS) == 14


# What is refused.


@pytest.mark.parametrize(
    ("action", "payload", "error"),
    [
        ("space:place", {}, "zone required"),
        ("space:place", {"zone": "z"}, "card required"),
        ("space:place", {"zone": "z", "card": None}, "card required"),
        ("space:place", {"zone": "z", "card": {}}, "Cannot place invalid token (missing id)"),
        ("space:place", {"zone": "z", "card": 5}, "Cannot place invalid token (missing id)"),
        ("space:place", {"zone": 5, "card": {"id": "a"}}, "zone must be a string, not 5"),
        ("space:place", {"zone": "z", "card": {"id": "a"}, "opts": 3}, "opts must be an object, not 3"),
        ("space:place", {"zone": "z", "card": {"id": "a"}, "opts": {"x": "1"}}, "x must be a number"),
        ("space:place", {"zone": "z", "card": {"id": "a"}, "opts": {"y": nan}}, "y must be a number"),
        ("space:place", {"zone": "z", "card": {"id": "a"}, "opts": {"y": True}}, "y must be a number"),
        ("space:place", {"zone": "z", "card": {"id": "a"}, "opts": {"faceUp": 1}}, "faceUp must be true or false"),
        ("space:place", {"zone": "z", "card": {"id": "a"}, "opts": {"label": 1}}, "label must be a string, not 1"),
        ("space:flip", {"zone": "z", "placementId": "P", "faceUp": 0}, "faceUp must be true or false, not 0"),
        ("space:move", {"fromZone": "z", "placementId": "P"}, "toZone required"),
        ("space:move", {"fromZone": "z", "toZone": "y", "placementId": "P", "x": inf}, "x must be a number"),
        ("space:move", {"fromZone": "z", "toZone": "y", "placementId": "P", "y": []}, "y must be a number"),
        ("space:createZone", {}, "name required"),
        ("space:createZone", {"name": "n", "x": "left"}, "x must be a number"),
        ("space:deleteZone", {}, "name required"),
        ("space:clearZone", {}, "zone required"),
        ("space:lockZone", {}, "zone required"),
        ("space:lockZone", {"zone": "z", "locked": "yes"}, "locked must be true or false, not yes"),
        ("space:shuffleZone", {}, "zone required"),
        ("space:shuffleZone", {"zone": "z", "seed": "abc"}, "Invalid seed: abc. Must be a finite number."),
        ("space:fanZone", {}, "zone required"),
        ("space:fanZone", {"zone": "z", "radius": "wide"}, "radius must be a number"),
        ("space:spreadZone", {"zone": "z", "angleStep": 1e200}, "angleStep must be a number from -1e+100 to 1e+100"),
        ("space:stackZone", {}, "zone required"),
        ("space:transferZone", {}, "fromZone required"),
        ("space:transferZone", {"fromZone": "z"}, "toZone required"),
    ],
)
def test_what_does_not_fit_is_refused_and_changes_nothing(
    play: Player, action: str, payload: dict[str, Any], error: str
) -> None:
    [placement] = put(play, "a")
    if payload.get("placementId") == "P":
        payload = {**payload, "placementId": placement}
    assert play.refused(action, payload).startswith(error)


@pytest.mark.parametrize("action", ACTIONS)
def test_without_a_space_nothing_is_done(action: str) -> None:
    play = Player(ACTIONS, Table(space=False))
    assert play.refused(action) == "No space attached to engine"


@pytest.mark.parametrize(
    ("action", "field"),
    [
        ("space:createZone", "name"),
        ("space:deleteZone", "name"),
        ("space:clearZone", "zone"),
        ("space:lockZone", "zone"),
        ("space:shuffleZone", "zone"),
        ("space:stackZone", "zone"),
        ("space:transferZone", "fromZone"),
    ],
)
def test_the_names_of_locks_are_no_zones(play: Player, action: str, field: str) -> None:
    play("space:lockZone", {"zone": "z"})
    assert "names with" in play.refused(action, {field: "_lock:z"})


@pytest.mark.parametrize("zone", [None, 5, ["z"], "_lock:z", "other"])
def test_a_placement_that_is_not_there_is_told(play: Player, zone: Any) -> None:
    """It is no error, whatever the payload says: not even for the name of a lock."""
    play("space:lockZone", {"zone": "z", "locked": False})
    for action in ("space:remove", "space:flip"):
        outcome = play(action, {"zone": zone, "placementId": "p"})
        assert outcome.error is None
        assert [told.type for told in outcome.told] == ["space:notFound"]
    assert [told.type for told in play("space:move", {"fromZone": zone, "placementId": "p"}).told] == ["space:notFound"]


# What is done differently from the original.


def test_null_in_opts_is_as_if_it_were_not_there(play: Player) -> None:
    opts = {"x": None, "y": None, "faceUp": None, "label": None}
    result = play("space:place", {"zone": "z", "card": {"id": "a"}, "opts": opts}).result
    assert (result["x"], result["y"], result["faceUp"], result["label"]) == (0, 0, True, None)


def test_clearing_an_unknown_zone_makes_none(play: Player) -> None:
    put(play, "a")
    play("space:clearZone", {"zone": "unknown"})
    assert set(play.table.document["zones"]) == {"z"}


def test_shuffling_before_the_first_zone_makes_none(play: Player) -> None:
    play("space:shuffleZone", {"zone": "z", "seed": 1})
    assert play.table.document == {}


def test_a_locked_zone_is_not_deleted(play: Player) -> None:
    put(play, "a")
    play("space:lockZone", {"zone": "z"})
    outcome = play("space:deleteZone", {"name": "z"})
    assert [(told.type, told.payload) for told in outcome.told] == [
        ("space:locked", {"operation": "deleteZone", "zoneName": "z"})
    ]
    assert lying(play) == ["a"]


def test_the_lock_goes_with_the_zone(play: Player) -> None:
    put(play, "a")
    play("space:lockZone", {"zone": "z"})
    play("space:lockZone", {"zone": "z", "locked": False})
    play("space:deleteZone", {"name": "z"})
    assert play.table.document["zones"] == {}


# What stays as it was.


def test_what_was_handed_out_does_not_change_later(play: Player) -> None:
    """A placement is replaced, never changed where it lies."""
    placed = play("space:place", {"zone": "z", "card": {"id": "a"}}).result
    play("space:flip", {"zone": "z", "placementId": placed["id"]})
    play("space:fanZone", {"zone": "z"})
    play("space:stackZone", {"zone": "z"})
    play("space:move", {"fromZone": "z", "toZone": "y", "placementId": placed["id"], "x": 5})
    play.check_what_passed()


def test_one_of_many_is_found_by_its_id(play: Player) -> None:
    ids = put(play, *(f"t{index}" for index in range(1000)))
    play("space:remove", {"zone": "z", "placementId": ids[500]})
    play("space:flip", {"zone": "z", "placementId": ids[501]})
    zone = play.table.document["zones"]["z"]
    assert len(zone) == 999
    assert [placement["id"] for placement in zone if not placement["faceUp"]] == [ids[501]]


ZONES = st.sampled_from(["a", "b", "c", "_lock:a", "", None])
NUMBERS = st.none() | st.integers(-9, 9) | st.floats() | st.just("1")
STEPS = st.one_of(
    st.tuples(st.just("space:place"), st.fixed_dictionaries({"zone": ZONES, "card": st.just({"id": "t"})})),
    st.tuples(
        st.sampled_from(["space:remove", "space:flip"]),
        st.fixed_dictionaries({"zone": ZONES, "placementId": st.integers(0, 9)}),
    ),
    st.tuples(
        st.just("space:move"),
        st.fixed_dictionaries(
            {"fromZone": ZONES, "toZone": ZONES, "placementId": st.integers(0, 9), "x": NUMBERS, "y": NUMBERS}
        ),
    ),
    st.tuples(st.just("space:transferZone"), st.fixed_dictionaries({"fromZone": ZONES, "toZone": ZONES})),
    st.tuples(
        st.sampled_from(["space:fanZone", "space:spreadZone", "space:stackZone", "space:shuffleZone"]),
        st.fixed_dictionaries({"zone": ZONES, "radius": NUMBERS, "angleStep": NUMBERS}),
    ),
    st.tuples(st.just("space:lockZone"), st.fixed_dictionaries({"zone": ZONES, "locked": st.booleans()})),
    st.tuples(st.sampled_from(["space:createZone", "space:deleteZone"]), st.fixed_dictionaries({"name": ZONES})),
    st.tuples(st.sampled_from(["space:clearZone", "space:clear"]), st.fixed_dictionaries({"zone": ZONES})),
)
GONE = {"space:remove", "space:deleteZone", "space:clearZone", "space:clear"}


@given(st.lists(STEPS, max_size=30))
def test_tokens_are_neither_lost_nor_made(steps: list[tuple[str, dict[str, Any]]]) -> None:
    """Only what places adds, and only what removes takes; after an error nothing is different."""
    play = Player(ACTIONS, Table())
    placed: list[str] = []
    for action, template in steps:
        at = template.get("placementId", len(placed))
        payload = {**template, "placementId": placed[at]} if at < len(placed) else template
        before, count = deepcopy(play.table.document), len(list(every_token(play.table)))
        outcome = play(action, payload)
        after = len(list(every_token(play.table)))
        if outcome.error is not None:
            assert play.table.document == before
        elif action == "space:place":
            assert after == count + (outcome.result is not None)
            placed += [outcome.result["id"]] if outcome.result else []
        elif action in GONE:
            assert after <= count
        else:
            assert after == count
        json.dumps(play.table.document, allow_nan=False)
    play.check_what_passed()
    zones = [zone for zone in play.table.document.get("zones", {}).values() if isinstance(zone, list)]
    ids = Counter(placement["id"] for zone in zones for placement in zone)
    assert not ids or max(ids.values()) == 1
