"""The source: the tokens of several stacks in one pile. What is drawn from it is kept nowhere."""

from __future__ import annotations

from copy import copy
from itertools import count as counting
from typing import Any

from hybrid_compute.engine.actions import ActionRegistry
from hybrid_compute.engine.turn import emit
from hybrid_compute.errors import ActionFailed
from hybrid_compute.tabletop.dice import shuffled
from hybrid_compute.tabletop.numbers import positive
from hybrid_compute.tabletop.table import Payload, Stack, Table, Token

ACTIONS = ActionRegistry(careful=True)


@ACTIONS.add("source:draw")
def draw(table: Table, payload: Payload) -> Token | list[Token]:
    """Take `count` tokens (1) from the top: a single one as it is, several as a list that begins with the topmost.

    With `asList` a single one comes as a list as well. If so few are left that its policy says so, the source is
    shuffled again, by the seed that it has.
    """
    source = _source(table)
    count = _as_many_as_there_are(source, "draw", payload)
    tokens: list[Token] = source["tokens"]
    drawn = tokens[: -count - 1 : -1]
    if _runs_low(source["reshufflePolicy"], len(tokens) - count):
        source["tokens"] = shuffled(tokens[:-count], source["seed"])
        emit("source:reshuffled", {"payload": {"reason": "threshold"}}, "source")
    else:
        del tokens[-count:]
    emit("source:draw", {"payload": {"count": count}}, "source")
    return drawn if count > 1 or payload.get("asList") else drawn[0]


@ACTIONS.add("source:shuffle")
def shuffle_source(table: Table, payload: Payload) -> None:
    """Put the source in another order, by `seed` or else by the one that it has from the last time."""
    source = _source(table)
    seed = source["seed"] if payload.get("seed") is None else payload["seed"]
    source["tokens"] = shuffled(source["tokens"], seed)
    source["seed"] = seed
    emit("shuffle", {"seed": seed}, "source")


@ACTIONS.add("source:burn")
def burn(table: Table, payload: Payload) -> list[Token]:
    """Lay `count` tokens (1) from the top aside. The list has them as they lay: the topmost is the last."""
    source = _source(table)
    count = _as_many_as_there_are(source, "burn", payload)
    burned: list[Token] = source["tokens"][-count:]
    del source["tokens"][-count:]
    source["burned"].extend(burned)
    emit("source:burn", {"payload": {"count": count}}, "source")
    return burned


@ACTIONS.add("source:addStack")
def add_stack(table: Table, payload: Payload) -> None:
    """Put the tokens of `stack`, a `Stack` or a list of tokens, on top. Its id is one that no other here has."""
    source = _source(table)
    stack = _stack(payload)
    stack_id = _free_id(source["stackIds"])
    table.stacks.append(stack)
    source["stackIds"].append(stack_id)
    source["tokens"].extend(stack.tokens)
    emit("source:addStack", {"payload": {"stackId": stack_id}}, "source")


@ACTIONS.add("source:removeStack")
def remove_stack(table: Table, payload: Payload) -> None:
    """Take `stack` out: the first here that is made of the same tokens, and as many of these as are left to draw."""
    source = _source(table)
    stack = _stack(payload)
    place = next((place for place, one in enumerate(table.stacks) if one.tokens == stack.tokens), None)
    if place is None:
        raise ActionFailed("Stack not found in Source")
    kept = _without(source["tokens"], stack.tokens)
    del table.stacks[place]
    stack_id = source["stackIds"].pop(place)
    source["tokens"] = kept
    emit("source:removeStack", {"payload": {"stackId": stack_id}}, "source")


@ACTIONS.add("source:reset")
def reset(table: Table, payload: Payload) -> None:
    """Lay the source as its stacks were made, with nothing burned. The seed stays."""
    source = _source(table)
    source["tokens"] = [token for stack in table.stacks for token in stack.tokens]
    source["burned"] = []
    emit("source:reset", {"payload": {"size": len(source["tokens"])}}, "source")


@ACTIONS.add("source:inspect", reads=True)
def inspect(table: Table, payload: Payload) -> dict[str, Any]:
    """All of the source, and under `stacks` how many it is made of."""
    source = _source(table)
    return {**{name: copy(value) for name, value in source.items()}, "stacks": len(table.stacks)}


def _source(table: Table) -> dict[str, Any]:
    source: dict[str, Any] | None = table.document.get("source")
    if source is None:
        raise ActionFailed("No source attached to engine")
    return source


def _as_many_as_there_are(source: dict[str, Any], operation: str, payload: Payload) -> int:
    count, there = positive(operation, payload.get("count", 1)), len(source["tokens"])
    if count > there:
        raise ActionFailed(f"Invalid operation: Cannot {operation} {count} from source of {there}")
    return count


def _runs_low(policy: dict[str, Any], left: int) -> bool:
    threshold: float | None = policy["threshold"]
    return threshold is not None and left <= threshold and policy["mode"] == "auto"


def _stack(payload: Payload) -> Stack:
    match payload.get("stack"):
        case Stack() as stack:
            return stack
        case list() as tokens if all(isinstance(token, dict) for token in tokens):
            return Stack(tokens)
        case None:
            raise ActionFailed("stack required")
        case _:
            raise ActionFailed("stack must be a Stack or a list of tokens")


def _free_id(taken: list[str]) -> str:
    return next(name for number in counting(len(taken)) if (name := f"stack-{number}") not in taken)


def _without(tokens: list[Token], gone: list[Token]) -> list[Token]:
    """`tokens` less one for each in `gone`, in their order. Those of one id are compared as a whole."""
    waiting: dict[str, list[Token]] = {}
    for token in gone:
        waiting.setdefault(repr(token.get("id")), []).append(token)
    kept: list[Token] = []
    for token in tokens:
        alike = waiting.get(repr(token.get("id")), [])
        if token in alike:
            alike.remove(token)
        else:
            kept.append(token)
    return kept
