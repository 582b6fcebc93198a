"""The recorded cases of stack, source, token and tokens, step by step."""

from __future__ import annotations

import json
from collections.abc import Mapping
from copy import deepcopy
from typing import Any

from hybrid_compute.engine.actions import ActionRegistry
from hybrid_compute.tabletop import piles, source, space, tokens
from hybrid_compute.tabletop.table import Stack, Table
from tests.tabletop.replay import LOOP, VECTORS, Ids, Player, written_out

ACTIONS = ActionRegistry(piles.ACTIONS, source.ACTIONS, tokens.ACTIONS, space.ACTIONS)


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


def replay(case: dict[str, Any], answers: Mapping[str, str | None]) -> None:
    """Compare each step. `answers` has our own error for a quirk that we answer otherwise, None for no error."""
    stacks = {name: Stack(_deck(deck)) for name, deck in case["setup"].get("stacks", {}).items()}
    table = _table(case["setup"], stacks)
    player, ids, expected = Player(ACTIONS, table), Ids(), deepcopy(table.document)
    if "initial" in case:
        ids.check(written_out(case["initial"]), table.document, "setup")
    for step in case["steps"]:
        payload, place = _payload(step.get("payload"), stacks), f"{step['action']} {step.get('payload')}"
        before = deepcopy(table.document)
        outcome = player(step["action"], payload)
        if (quirk := step.get("quirk", case.get("quirk"))) in answers:
            assert (outcome.error or "").startswith(answers[quirk] or ""), place
            assert answers[quirk] or not outcome.error, place
            assert not outcome.error or table.document == before, place
            if table.document != before or "state" in step:
                return
            continue
        assert (outcome.error is None) == step["ok"], f"{place}: {outcome.error}"
        if step["ok"]:
            ids.check(written_out(step.get("result")), outcome.result, place)
            told = [[one.source, one.type, *([] if one.payload is None else [one.payload])] for one in outcome.told]
            ids.check(written_out(step.get("events", [])), told, place)
        elif not step["error"].get("foreign"):
            assert outcome.error == step["error"]["message"], place
        expected |= written_out(step.get("state", {}))
        ids.check(expected, table.document, place)


def _table(setup: dict[str, Any], stacks: dict[str, Stack]) -> Table:
    table = Table({"gameLoop": dict(LOOP)})
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
