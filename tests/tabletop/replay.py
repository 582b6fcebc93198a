"""Actions without an engine: one at a time on a table, and recorded cases step by step."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Mapping
from copy import deepcopy
from math import isclose
from pathlib import Path
from typing import Any, NamedTuple

from hybrid_compute.engine.actions import ActionRegistry
from hybrid_compute.engine.turn import Told, Turn, turn
from hybrid_compute.errors import ActionFailed
from hybrid_compute.tabletop.actions import ACTIONS
from hybrid_compute.tabletop.table import Stack, Table

VECTORS = Path(os.environ.get("HYPERTOKEN_VECTORS", Path(__file__).parent / "vectors"))
LOOP = {"turn": 0, "running": False, "activeAgentIndex": -1, "phase": "setup", "maxTurns": 100}
PLAYED_AT = 1_700_000_000_000


class Outcome(NamedTuple):
    result: Any
    error: str | None
    told: list[Told]


class Player:
    """Plays actions on a table, as an engine would."""

    def __init__(self, actions: ActionRegistry, table: Table) -> None:
        self.actions = actions
        self.table = table
        self._serial = 0
        self._passed: list[tuple[Any, Any]] = []

    def __call__(self, action: str, payload: Mapping[str, Any] | None = None) -> Outcome:
        self._serial += 1
        now = Turn(7, self._serial, PLAYED_AT)
        before = turn.set(now)
        given = deepcopy(dict(payload or {}))
        self._keep(given)
        try:
            result = self.actions[action].handler(self.table, given)
        except ActionFailed as error:
            return Outcome(None, str(error), now.told)
        finally:
            turn.reset(before)
        self._keep(result, now.told)
        return Outcome(result, None, now.told)

    def _keep(self, *values: Any) -> None:
        self._passed += [(value, deepcopy(value)) for value in values]

    def check_what_passed(self) -> None:
        """No action has changed an earlier payload, a result, or what was told."""
        for value, then in self._passed:
            assert value == then

    def refused(self, action: str, payload: Mapping[str, Any] | None = None) -> str:
        """The error of an action, which has changed and told nothing."""
        before = deepcopy(self.table)
        outcome = self(action, payload)
        assert outcome.error is not None, f"{action} was done: {outcome.result!r}"
        assert self.table == before
        assert not outcome.told
        return outcome.error


def cases(group: str) -> list[dict[str, Any]]:
    """The recorded cases of a group; none where there is no record."""
    path = VECTORS / f"{group}.json"
    return json.loads(path.read_text())["cases"] if path.exists() else []


def replay(case: dict[str, Any], answers: Mapping[str, str | None]) -> None:
    """Compare each step. `answers` has our own error for a quirk that we answer otherwise, None for none."""
    stacks = {name: Stack(_deck(deck)) for name, deck in case["setup"].get("stacks", {}).items()}
    table = _table(case["setup"], stacks)
    player, ids, expected = Player(ACTIONS, table), Ids(), deepcopy(table.document)
    if "initial" in case:
        ids.check(written_out(case["initial"]), table.document, "setup")
    for step in case["steps"]:
        payload, place = _payload(ids.sent(step.get("payload")), stacks), f"{step['action']} {step.get('payload')}"
        before = deepcopy(table.document)
        outcome = player(step["action"], payload)
        assert outcome.error is None or (table.document == before and not outcome.told), place
        if (quirk := step.get("quirk", case.get("quirk"))) in answers:
            assert (answers[quirk] or "") in (outcome.error or ""), place
            assert answers[quirk] or not outcome.error, place
            if table.document != before or "state" in step:
                return  # the steps that follow build on another state
            continue
        assert (outcome.error is None) == step["ok"], f"{place}: {outcome.error}"
        if step["ok"]:
            ids.check(written_out(step.get("result")), outcome.result, place)
            ids.check(written_out(step.get("events", [])), [as_recorded(told) for told in outcome.told], place)
        elif not step["error"].get("foreign"):
            assert outcome.error == step["error"]["message"], place
        expected |= written_out(step.get("state", {}))
        ids.check(expected, table.document, place)


def _table(setup: dict[str, Any], stacks: dict[str, Stack]) -> Table:
    table = Table({"gameLoop": dict(LOOP)}, space=setup.get("space", True) is True)
    if "stack" in setup:
        table.stack = Stack(_deck(setup["stack"]), setup.get("stackSeed"))
        table.document["stack"] = a_stack(table.stack)
    if "source" in setup:
        table.stacks = [stacks[name] for name in setup["source"]]
        table.document["source"] = a_source(*table.stacks)
    return table


def _deck(deck: Any) -> list[Any]:
    if isinstance(deck, dict):
        return json.loads((VECTORS / "decks.json").read_text())[deck["deck"]]
    return written_out(deck)


def _payload(value: Any, stacks: dict[str, Stack]) -> Any:
    """What is sent: with the tokens, the stacks and the odd numbers that placeholders stand for."""
    match value:
        case {"$num": str(number)}:
            return float(number)
        case {"$stack": str(name)}:
            return stacks[name]
        case {"$t": _}:
            return written_out(value)
        case dict():
            return {key: _payload(item, stacks) for key, item in value.items()}
        case list():
            return [_payload(item, stacks) for item in value]
        case _:
            return value


def a_source(*stacks: Stack) -> dict[str, Any]:
    """The document's part for a source of these stacks."""
    return {
        "stackIds": [f"stack-{place}" for place in range(len(stacks))],
        "tokens": [token for stack in stacks for token in stack.tokens],
        "burned": [],
        "seed": None,
        "reshufflePolicy": {"threshold": None, "mode": "auto"},
    }


def a_stack(stack: Stack) -> dict[str, Any]:
    return {"stack": list(stack.tokens), "drawn": [], "discards": []}


def as_recorded(told: Told) -> list[Any]:
    event = [told.source, told.type]
    return event if told.payload is None else [*event, told.payload]


class Ids:
    """The random ids of a case: the same name is always the same id."""

    def __init__(self) -> None:
        self.known: dict[str, str] = {}

    def sent(self, value: Any) -> Any:
        match value:
            case dict():
                return {key: self.sent(item) for key, item in value.items()}
            case str() if value.startswith("$id:"):
                return self.known[value]
            case _:
                return value

    def check(self, expected: Any, found: Any, place: str) -> None:
        match expected:
            case "$ts":
                assert found == PLAYED_AT, place
            case str() if expected.startswith("$id:"):
                assert self.known.setdefault(expected, found) == found, place
                assert len(set(self.known.values())) == len(self.known), place
            case dict():
                assert isinstance(found, dict), place
                assert expected.keys() == found.keys(), place
                for key, item in expected.items():
                    self.check(item, found[key], place)
            case list():
                assert isinstance(found, list), place
                assert len(expected) == len(found), place
                for item, other in zip(expected, found, strict=True):
                    self.check(item, other, place)
            case int() | float() if not isinstance(expected, bool):
                assert not isinstance(found, bool), place
                assert isclose(expected, found, abs_tol=1e-9), place
            case _:
                assert type(expected) is type(found), place
                assert expected == found, place


def decks() -> dict[str, Any]:
    if not (VECTORS / "decks.json").exists():
        return {}
    return {token["id"]: token for deck in json.loads((VECTORS / "decks.json").read_text()).values() for token in deck}


DECKS = decks()


def written_out(value: Any) -> Any:
    """With the tokens that a case names by their id."""
    match value:
        case {"$t": str(name)}:
            return deepcopy(DECKS[name])
        case dict():
            return {key: written_out(item) for key, item in value.items()}
        case list():
            return [written_out(item) for item in value]
        case _:
            return value


def tokens(*ids: str) -> list[dict[str, Any]]:
    return [{"id": name, "label": name.upper()} for name in ids]


def every_token(table: Table) -> Iterator[str]:
    """The ids of all tokens on the table, wherever they are; what was drawn is where it was drawn to."""
    document = table.document
    piles = document.get("stack", {"stack": [], "discards": []})
    yield from (token["id"] for token in piles["stack"] + piles["discards"])
    yield from (token["id"] for agent in document.get("agents", {}).values() for token in agent["inventory"])
    zones = (zone for zone in document.get("zones", {}).values() if isinstance(zone, list))
    yield from (placement["tokenSnapshot"]["id"] for zone in zones for placement in zone)
