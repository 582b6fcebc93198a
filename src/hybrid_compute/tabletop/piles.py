"""The stack: a pile to draw from, and beside it what was drawn and what was discarded. The last token is the top."""

from __future__ import annotations

from hybrid_compute.engine.actions import ActionRegistry
from hybrid_compute.engine.turn import emit
from hybrid_compute.errors import ActionFailed
from hybrid_compute.tabletop.dice import shuffled
from hybrid_compute.tabletop.numbers import positive, shown, whole
from hybrid_compute.tabletop.table import Payload, Stack, Table, Token

ACTIONS = ActionRegistry(careful=True)


@ACTIONS.add("stack:draw")
def draw(table: Table, payload: Payload) -> list[Token]:
    """Take `count` tokens (1) from the top; the list begins with the topmost."""
    return take(table, payload.get("count", 1))


@ACTIONS.add("stack:peek", reads=True)
def peek(table: Table, payload: Payload) -> list[Token]:
    """Look at `count` tokens (1) from the top down, and leave them."""
    stack = piles(table)["stack"]
    count = positive("peek", payload.get("count", 1))
    return stack[-count:][::-1]


@ACTIONS.add("stack:shuffle")
def shuffle_stack(table: Table, payload: Payload) -> None:
    """Put the stack in another order, by `seed` or else by the last one that there was."""
    stack, there = made(table), piles(table)
    seed = stack.seed if payload.get("seed") is None else payload["seed"]
    there["stack"] = shuffled(there["stack"], seed)
    table.stack = Stack(stack.tokens, seed)
    emit("shuffle", {"seed": seed}, "stack")


@ACTIONS.add("stack:burn")
def burn(table: Table, payload: Payload) -> list[Token]:
    """Discard `count` tokens (1) from the top. The list has them as they lay: the topmost is the last."""
    there = piles(table)
    count = positive("burn", payload.get("count", 1))
    burned = there["stack"][-count:]
    del there["stack"][-count:]
    there["discards"].extend(burned)
    if burned:
        emit("burn", burned, "stack")
    return burned


@ACTIONS.add("stack:reset")
def reset(table: Table, payload: Payload) -> None:
    """Lay the stack as it was made; nothing is drawn or discarded then. Agents and zones keep what they have."""
    there = piles(table)
    there.update(stack=list(made(table).tokens), drawn=[], discards=[])
    emit("reset", source="stack")


@ACTIONS.add("stack:cut")
def cut(table: Table, payload: Payload) -> None:
    """Put the lowest `position` tokens (0) on top."""
    pile = piles(table)["stack"]
    position = _index(payload.get("position", 0), len(pile))
    pile[:] = pile[position:] + pile[:position]
    emit("stack:cut", {"payload": {"n": position, "topToBottom": True}}, "stack")


@ACTIONS.add("stack:insertAt")
def insert_at(table: Table, payload: Payload) -> None:
    """Put `card` at `position`: 0 (the default) is the bottom, the size of the stack is the top."""
    pile = piles(table)["stack"]
    card = _card(payload)
    position = _index(payload.get("position", 0), len(pile))
    pile.insert(position, card)
    emit("stack:insert", {"payload": {"card": card, "index": position}}, "stack")


@ACTIONS.add("stack:removeAt")
def remove_at(table: Table, payload: Payload) -> Token:
    """Take the token at `position` out: 0 (the default) is the bottom."""
    pile = piles(table)["stack"]
    position = _index(payload.get("position", 0), len(pile) - 1)
    card = pile.pop(position)
    emit("stack:remove", {"payload": {"card": card, "index": position}}, "stack")
    return card


@ACTIONS.add("stack:swap")
def swap(table: Table, payload: Payload) -> None:
    """Let the tokens at `i` and at `j` change places."""
    pile = piles(table)["stack"]
    i, j = whole(payload.get("i")), whole(payload.get("j"))
    if i is None or j is None or not (0 <= i < len(pile) and 0 <= j < len(pile)):
        asked = f"i={shown(payload.get('i'))}, j={shown(payload.get('j'))}"
        raise ActionFailed(f"Invalid swap indices: {asked}. Valid range: 0 to {len(pile) - 1}.")
    pile[i], pile[j] = pile[j], pile[i]
    emit("stack:swap", {"payload": {"i": i, "j": j}}, "stack")


@ACTIONS.add("stack:reverse")
def reverse(table: Table, payload: Payload) -> None:
    """Turn the order of the stack around. With one token or none there is nothing to do, and nothing is told."""
    pile = piles(table)["stack"]
    if len(pile) < 2:
        return
    pile.reverse()
    emit("stack:reverseRange", {"payload": {"i": 0, "j": len(pile) - 1}}, "stack")


@ACTIONS.add("stack:discard")
def discard(table: Table, payload: Payload) -> Token:
    """Lay `card` on the discards. It is taken from nowhere: who has it loses it by another action."""
    there = piles(table)
    card = _card(payload)
    there["discards"].append(card)
    emit("discard", card, "stack")
    return card


def take(table: Table, count: object) -> list[Token]:
    """Draw from the top, as many as there are; the list begins with the topmost. Raises `ActionFailed`."""
    there = piles(table)
    wanted = positive("draw", count)
    taken = there["stack"][-wanted:]
    if not taken:
        emit("stack:empty", {"operation": "draw", "requested": wanted}, "stack")
        return taken
    del there["stack"][-wanted:]
    there["drawn"].extend(taken)
    drawn = taken[::-1]
    emit("draw", drawn, "stack")
    if len(drawn) < wanted:
        emit("stack:insufficient", {"requested": wanted, "drawn": len(drawn)}, "stack")
    return drawn


def made(table: Table) -> Stack:
    """The stack as it was made. Raises `ActionFailed` if the table has none."""
    if table.stack is None:
        raise ActionFailed("No stack attached to engine")
    return table.stack


def piles(table: Table) -> dict[str, list[Token]]:
    """The `stack`, the `drawn` and the `discards` of the document. Raises `ActionFailed` if the table has no stack."""
    if table.stack is None:
        raise ActionFailed("No stack attached to engine")
    there: dict[str, list[Token]] = table.document["stack"]
    return there


def _card(payload: Payload) -> Token:
    card = payload.get("card")
    if isinstance(card, dict):
        return card
    raise ActionFailed(f"card must be an object, not {shown(card)}" if card else "card required")


def _index(value: object, last: int) -> int:
    index = whole(value)
    if index is None or not 0 <= index <= last:
        raise ActionFailed(f"Index out of bounds: {shown(value)}")
    return index
