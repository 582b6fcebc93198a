"""The game loop: whose turn it is, what is told of it, and the memory of the rules."""

from math import inf, nan
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hybrid_compute.engine.turn import Told
from hybrid_compute.tabletop.loop import ACTIONS, loop_events
from hybrid_compute.tabletop.table import Table
from tests.tabletop.replay import LOOP, PLAYED_AT, Outcome, Player

RUNNING = {**LOOP, "running": True, "phase": "play", "activeAgentIndex": 0}


def an_agent(name: str) -> dict[str, Any]:
    return {"id": name, "name": name, "meta": {}, "active": True, "resources": {}, "inventory": []}


def of(*agents: str) -> Player:
    """A table with these agents, and a loop."""
    return Player(ACTIONS, Table({"gameLoop": LOOP, "agents": {name: an_agent(name) for name in agents}}))


def heard(outcome: Outcome) -> list[tuple[str, Any]]:
    assert {told.source for told in outcome.told} <= {"loop"}
    return [(told.type, told.payload["payload"]) for told in outcome.told]


def test_there_are_seven_and_two() -> None:
    names = [name.partition(":")[0] for name in ACTIONS]
    assert (names.count("game"), names.count("rule")) == (7, 2)


@pytest.mark.parametrize(
    ("action", "payload", "error"),
    [
        ("game:setPhase", {}, "phase required"),
        ("game:setMaxTurns", {}, "maxTurns required"),
        ("game:setActiveAgent", {}, "index required"),
        ("game:setActiveAgent", {"index": "1"}, "index must be an integer, not 1"),
        ("game:setActiveAgent", {"index": None}, "index must be an integer, not null"),
        ("game:setActiveAgent", {"index": 0.5}, "index must be an integer, not 0.5"),
        ("game:nextTurn", {"agentCount": "2"}, "agentCount must be an integer, not 2"),
        ("game:nextTurn", {"agentCount": 1.5}, "agentCount must be an integer, not 1.5"),
        ("game:nextTurn", {"agentCount": True}, "agentCount must be an integer, not true"),
        ("game:nextTurn", {"agentCount": nan}, "agentCount must be an integer, not NaN"),
        ("rule:markFired", {}, "name required"),
        ("rule:markFired", {"name": ""}, "name required"),
        ("rule:markFired", {"name": 5}, "name must be a string, not 5"),
    ],
)
def test_what_is_missing_or_wrong_is_refused(action: str, payload: dict[str, Any], error: str) -> None:
    play = of("Ann")
    play("rule:initRules")
    assert play.refused(action, payload) == error


# What is told.


def test_a_start_is_told_before_the_turn() -> None:
    told = heard(of("Ann", "Ben")("game:loopStart"))
    assert told == [("loop:start", {"turn": 0}), ("turn:changed", {"turn": 0, "agent": "Ann"})]


def test_a_stop_is_told_once() -> None:
    play = of()
    play("game:loopStart")
    stopped = {"reason": "state_change", "phase": "stopped", "turn": 0}
    assert heard(play("game:loopStop")) == [("loop:stop", stopped)]
    assert heard(play("game:loopStop")) == []


def test_a_loop_made_anew_stops_the_one_that_ran() -> None:
    play = of("Ann")
    play("game:loopStart")
    assert [type for type, _ in heard(play("game:loopInit"))] == ["loop:stop", "turn:changed"]


@pytest.mark.parametrize("index", [-5, 1, 99])
def test_an_index_of_nobody_is_unknown(index: int) -> None:
    told = heard(of("Ann")("game:setActiveAgent", {"index": index}))
    assert told == [("turn:changed", {"turn": 0, "agent": "unknown"})]


def test_nothing_is_told_of_a_loop_that_is_as_before() -> None:
    assert list(loop_events(RUNNING, dict(RUNNING), ["Ann"])) == []


def test_all_that_can_change_is_told_in_order() -> None:
    other = {**RUNNING, "running": False, "turn": 3, "activeAgentIndex": 1}
    assert list(loop_events(RUNNING, other, iter(["Ann", "Ben"]))) == [
        Told("loop:stop", {"payload": {"reason": "state_change", "phase": "play", "turn": 3}}, "loop"),
        Told("turn:changed", {"payload": {"turn": 3, "agent": "Ben"}}, "loop"),
    ]


# Turns.


@given(st.integers(1, 5), st.integers(0, 20))
def test_everybody_has_a_turn_in_order(agents: int, turns: int) -> None:
    names = [f"agent {number}" for number in range(agents)]
    play = of(*names)
    play("game:loopStart")
    for turn in range(1, turns + 1):
        told = heard(play("game:nextTurn", {"agentCount": float(agents)}))
        assert told == [("turn:changed", {"turn": turn, "agent": names[turn % agents]})]


@pytest.mark.parametrize("count", [0, -1, None])
def test_where_nobody_is_counted_it_is_the_turn_of_the_first(count: int | None) -> None:
    play = of("Ann", "Ben")
    play("game:setActiveAgent", {"index": 1})
    play("game:nextTurn", {"agentCount": count})
    assert play.table.document["gameLoop"]["activeAgentIndex"] == 0


@pytest.mark.parametrize(
    ("given", "kept"), [(7, 7), (-1, -1), (2.5, 2.5), (inf, 100), (nan, 100), ("9", 100), (True, 100)]
)
def test_a_limit_that_is_no_finite_number_is_100(given: Any, kept: float) -> None:
    play = of()
    play("game:loopInit", {"maxTurns": given})
    assert play.table.document["gameLoop"] == {**LOOP, "maxTurns": kept}


@pytest.mark.parametrize("action", ["game:loopStart", "game:loopStop", "game:nextTurn"])
def test_without_a_loop_nothing_happens(action: str) -> None:
    play = Player(ACTIONS, Table())
    assert play(action) == Outcome(None, None, [])
    assert play.table.document == {}


def test_what_was_handed_out_stays_as_it_was() -> None:
    play = of("Ann")
    loop = play.table.document["gameLoop"]
    for action in ("game:loopStart", "game:nextTurn", "game:loopStop"):
        play(action)
    assert loop == LOOP == {"turn": 0, "running": False, "activeAgentIndex": -1, "phase": "setup", "maxTurns": 100}


def test_an_index_may_be_beyond_any_list() -> None:
    told = heard(of("Ann")("game:setActiveAgent", {"index": 10**30}))
    assert told == [("turn:changed", {"turn": 0, "agent": "unknown"})]


# Rules.


def test_a_rule_that_fired_is_remembered_with_its_time() -> None:
    play = of()
    play("rule:initRules")
    play("rule:markFired", {"name": "early", "timestamp": 0})
    play("rule:markFired", {"name": "late"})
    play("rule:markFired", {"name": "later", "timestamp": None})
    assert play.table.document["rules"] == {"fired": {"early": 0, "late": PLAYED_AT, "later": PLAYED_AT}}
    play("rule:initRules")
    assert play.table.document["rules"] == {"fired": {}}


def test_nothing_is_noted_where_no_rules_were_initialized() -> None:
    play = of()
    assert play("rule:markFired", {"name": "early"}).error is None
    assert "rules" not in play.table.document
