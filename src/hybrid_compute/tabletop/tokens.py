"""Tokens without a table: made of others one by one (`token:*`), or looked through by the pile (`tokens:*`).

All give copies and change no state. The piles may hold any JSON values; what is given new fields must be an object.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any, Final

from hybrid_compute.engine.actions import ActionRegistry
from hybrid_compute.engine.turn import new_id
from hybrid_compute.errors import ActionFailed
from hybrid_compute.tabletop.dice import shuffled, text_seed
from hybrid_compute.tabletop.numbers import is_number, shown, whole
from hybrid_compute.tabletop.table import Payload, Table, Token

ACTIONS = ActionRegistry(careful=True)

MOST: Final = 10_000
"""Tokens that one can be split into. No other action makes more than it is given, or than there is."""


@ACTIONS.add("token:transform", reads=True)
def transform(table: Table, payload: Payload) -> Token:
    """`token` with the fields of `properties`; `_transformedFrom` is the id that it had."""
    token = _token(payload, "token", "token required")
    return {**token, **_object(payload.get("properties") or {}, "properties"), **_from(token, "_transformedFrom")}


@ACTIONS.add("token:attach", reads=True)
def attach(table: Table, payload: Payload) -> Token:
    """`host` with `attachment` as the last of its `_attachments`."""
    host = _token(payload, "host", "host and attachment required")
    attachment = _token(payload, "attachment", "host and attachment required")
    kind = payload.get("attachmentType", "default")
    return {**host, "_attachments": [*_attachments(host), {**attachment, "_attachmentType": kind}]}


@ACTIONS.add("token:detach", reads=True)
def detach(table: Table, payload: Payload) -> Token:
    """`host` without the attachment that has the id `attachmentId`. It is no error if there is none."""
    host = _token(payload, "host", "host required")
    gone = payload.get("attachmentId")
    return {**host, "_attachments": [one for one in _attachments(host) if _field(one, "id") != gone]}


@ACTIONS.add("token:merge", reads=True)
def merge(table: Table, payload: Payload) -> dict[str, Any]:
    """One token of `tokens`: all fields of all, the later before the earlier, and `properties` before both.

    Its id is a new one, unless `properties` says which. With `keepOriginals` the tokens come back beside it.
    """
    tokens = payload.get("tokens")
    if not isinstance(tokens, list) or len(tokens) < 2:
        raise ActionFailed("At least 2 tokens required to merge")
    merged: Token = {}
    for token in tokens:
        merged |= _object(token, "each token")
    merged["id"] = new_id()
    merged |= _object(payload.get("properties") or {}, "properties")
    merged["_mergedFrom"] = [token.get("id") for token in tokens]
    return {"merged": merged, "originals": tokens} if payload.get("keepOriginals") else {"merged": merged}


@ACTIONS.add("token:split", reads=True)
def split(table: Table, payload: Payload) -> list[Token]:
    """`count` tokens (2) made of `token`, each with a new id and the fields that `propertiesArray` has for it."""
    token = _token(payload, "token", "token required")
    count = whole(payload.get("count", 2))
    if count is None:
        raise ActionFailed(f"Invalid split count: {shown(payload['count'])}. Must be an integer.")
    if count > MOST:
        raise ActionFailed(f"Invalid split count: {shown(count)}. Must not be above {MOST}.")
    extra = payload.get("propertiesArray") or []
    if not isinstance(extra, list):
        raise ActionFailed(f"propertiesArray must be a list, not {shown(extra)}")
    fields = [_object(each or {}, "each of propertiesArray") for each in extra[: max(count, 0)]]
    fields += [{}] * (count - len(fields))
    return [{**token, "id": new_id(), **each, **_from(token, "_splitFrom")} for each in fields]


@ACTIONS.add("tokens:shuffle", reads=True)
def shuffle_decks(table: Table, payload: Payload) -> list[list[Any]]:
    """Copies of `decks`, each in another order: by `seed`, a number or a text, and by its place among the decks."""
    decks, seed = _decks(payload, "decks required"), payload.get("seed")
    if seed is None:
        return [shuffled(deck, None) for deck in decks]
    if not (isinstance(seed, str) or is_number(seed)):
        raise ActionFailed(f"Invalid seed: {shown(seed)}. Must be a number or a text.")
    return [shuffled(deck, text_seed(f"{shown(seed)}-{place}")) for place, deck in enumerate(decks)]


@ACTIONS.add("tokens:draw", reads=True)
def draw(table: Table, payload: Payload) -> dict[str, list[list[Any]]]:
    """Take as many from the top of each of `decks` as `counts` says: `drawn`, topmost first, and the `decks` left."""
    decks, counts = _decks(payload, "decks and counts required"), payload.get("counts")
    if not isinstance(counts, list):
        raise ActionFailed("decks and counts required")
    if len(decks) != len(counts):
        raise ActionFailed("Deck and count arrays must match")
    rest = [max(0, len(deck) - _none_or_more(count)) for deck, count in zip(decks, counts, strict=True)]
    return {
        "drawn": [deck[left:][::-1] for deck, left in zip(decks, rest, strict=True)],
        "decks": [deck[:left] for deck, left in zip(decks, rest, strict=True)],
    }


@ACTIONS.add("tokens:filter", reads=True)
def filter_tokens(table: Table, payload: Payload) -> list[Any]:
    """Those of `tokens` that are "reversed" (the default), "normal", "merged" or "split"."""
    tokens, predicate = _tokens(payload), payload.get("predicate", "reversed")
    if not (isinstance(predicate, str) and predicate in FLAGS):
        raise ActionFailed(f"Unknown predicate: {shown(predicate)}")
    return list(filter(FLAGS[predicate], tokens))


@ACTIONS.add("tokens:find", reads=True)
def find(table: Table, payload: Payload) -> Any:
    """The first of `tokens` that `predicate` says, as in `tokens:filter` or "kind:..." or "group:..."; or None."""
    return next(_matching(_tokens(payload), payload.get("predicate", "reversed")), None)


@ACTIONS.add("tokens:count", reads=True)
def count(table: Table, payload: Payload) -> int:
    """How many of `tokens` are what `predicate` says, as in `tokens:find`."""
    return sum(1 for _ in _matching(_tokens(payload), payload.get("predicate", "reversed")))


@ACTIONS.add("tokens:forEach", reads=True)
@ACTIONS.add("tokens:map", reads=True)
def map_tokens(table: Table, payload: Payload) -> list[Token]:
    """Copies of `tokens`, each changed by `operation`: "flip" (the default), "merge" or "unmerge"."""
    tokens, operation = _tokens(payload), payload.get("operation", "flip")
    change = OPERATIONS.get(operation) if isinstance(operation, str) else None
    if change is None:
        raise ActionFailed(f"Unknown operation: {shown(operation)}")
    return [{**token, **change(token)} for token in [_object(each, "each token") for each in tokens]]


@ACTIONS.add("tokens:collect", reads=True)
def collect(table: Table, payload: Payload) -> list[Token]:
    """All tokens of `sources`: "stack", "drawn", "discards", "source" and names of zones, one after the other."""
    sources = payload.get("sources")
    if not isinstance(sources, list):
        raise ActionFailed("sources required")
    return [token for name in sources if isinstance(name, str) for token in _lying_in(table, name)]


@ACTIONS.add("debug:log", reads=True)
def log(table: Table, payload: Payload) -> Payload:
    """What it was given."""
    return payload


FLAGS: dict[str, Callable[[Any], bool]] = {
    "reversed": lambda token: _set(token, "rev"),
    "normal": lambda token: not _set(token, "rev"),
    "merged": lambda token: _set(token, "merged"),
    "split": lambda token: _set(token, "split"),
}

OPERATIONS: dict[str, Callable[[Token], Token]] = {
    "flip": lambda token: {"rev": not _set(token, "rev")},
    "merge": lambda token: {"merged": True},
    "unmerge": lambda token: {"merged": False},
}


def _matching(tokens: list[Any], predicate: object) -> Iterator[Any]:
    """What has the flag, or the kind or group that is named; nothing for any other predicate."""
    if not isinstance(predicate, str):
        return iter(())
    if predicate in FLAGS:
        return filter(FLAGS[predicate], tokens)
    field, colon, value = predicate.partition(":")
    named = colon and field in ("kind", "group")
    return (token for token in tokens if named and _field(token, field) == value)


def _lying_in(table: Table, name: str) -> list[Token]:
    document = table.document
    if name == "source":
        lying = document.get("source", {}).get("tokens", [])
    elif name in ("stack", "drawn", "discard", "discards"):
        lying = document.get("stack", {}).get("discards" if name == "discard" else name, [])
    else:
        placements = document.get("zones", {}).get(name)
        lying = [placement["tokenSnapshot"] for placement in placements] if isinstance(placements, list) else []
    return list(lying)


def _token(payload: Payload, name: str, missing: str) -> Token:
    token = payload.get(name)
    if isinstance(token, dict):
        return token
    raise ActionFailed(f"{name} must be an object, not {shown(token)}" if token else missing)


def _object(value: Any, what: str) -> dict[str, Any]:
    if isinstance(value, dict):
        return value
    raise ActionFailed(f"{what} must be an object, not {shown(value)}")


def _tokens(payload: Payload) -> list[Any]:
    tokens = payload.get("tokens")
    if not isinstance(tokens, list):
        raise ActionFailed("tokens required")
    return tokens


def _decks(payload: Payload, missing: str) -> list[list[Any]]:
    decks = payload.get("decks")
    if not isinstance(decks, list):
        raise ActionFailed(missing)
    for deck in decks:
        if not isinstance(deck, list):
            raise ActionFailed(f"each deck must be a list, not {shown(deck)}")
    return decks


def _attachments(host: Token) -> list[Any]:
    there = host.get("_attachments") or []
    if not isinstance(there, list):
        raise ActionFailed(f"_attachments of the host must be a list, not {shown(there)}")
    return there


def _none_or_more(value: Any) -> int:
    number = whole(value)
    if number is None or number < 0:
        raise ActionFailed(f"Invalid draw count: {shown(value)}. Must be an integer, not below 0.")
    return number


def _from(token: Token, field: str) -> Token:
    """Where a token comes from: the id of `token`, under the name `field`, if it has one."""
    return {field: token["id"]} if "id" in token else {}


def _field(token: object, name: str) -> Any:
    return token.get(name) if isinstance(token, dict) else None


def _set(token: object, flag: str) -> bool:
    """Whether a flag is set, as JavaScript sees it: an empty list or object is something."""
    value = _field(token, flag)
    return bool(value) or isinstance(value, list | dict)
