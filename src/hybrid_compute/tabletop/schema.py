"""What each token action takes: the fields of its payload, and what may stand in them.

    of("stack:draw")         as JSON Schema
    check(action, payload)   refuses fields that the action has not, and values that it would not look at

What an action looks at it refuses itself, in the words of the original: a count of 0, an agent without a name. So a
payload that `check` lets through may still be refused.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from difflib import get_close_matches
from types import NoneType
from typing import Any, Final, NamedTuple, TypeAlias

from hybrid_compute.errors import ActionNotFound, InvalidInput
from hybrid_compute.tabletop.numbers import shown

Json: TypeAlias = dict[str, Any]
Fault: TypeAlias = Callable[[Any], str | None]
"""What is wrong with a value, in words that follow its name; None if nothing is."""


class Kind(NamedTuple):
    """What may stand in a field. `fault` is None where the action itself says what is wrong."""

    schema: Json
    fault: Fault | None = None


class Shape(NamedTuple):
    """The fields of an object, and the faults that are looked for in them."""

    fields: frozenset[str]
    faults: tuple[tuple[str, Fault], ...]


def of(action: str) -> Json:
    """The payload of an action as JSON Schema. Raises `ActionNotFound`."""
    if action not in _TAKES:
        raise ActionNotFound(f"Unknown action: {action}")
    fields = _TAKES[action]
    return _object(fields) if fields else {"type": "object"}


def check(action: str, payload: Mapping[str, Any]) -> None:
    """Raises `InvalidInput` for a field that the action has not, or a value that it would not look at."""
    shape = _SHAPES.get(action)
    if shape is not None and (shape[1] or not shape[0].issuperset(payload)):  # by place: this is done for each action
        _look_at(action, payload, shape)


def _look_at(action: str, payload: Mapping[str, Any], shape: Shape) -> None:
    if not payload.keys() <= shape.fields:
        raise InvalidInput(f"{action} {_no_such(payload, shape.fields)}")
    for field, fault in shape.faults:
        if field in payload and (wrong := fault(payload[field])):
            raise InvalidInput(f"{field} of {action} {wrong}")


def _no_such(given: Mapping[str, Any], fields: frozenset[str]) -> str:
    """What to say of a field that there is not."""
    unknown = next(field for field in given if field not in fields)
    near = get_close_matches(unknown, fields, n=1)
    meant = f"; did you mean {near[0]!r}?" if near else ""
    return f"has no field {unknown[:100]!r}: its fields are {', '.join(sorted(fields))}{meant}"


# What may stand in a field.

_PYTHON: Final[dict[str, tuple[str, set[type]]]] = {
    "string": ("a text", {str}),
    "number": ("a number", {int, float}),
    "boolean": ("true or false", {bool}),
    "object": ("an object", {dict}),
    "null": ("null", {NoneType}),
}


def _checked(*types: str) -> Kind:
    """A kind that actions do not look at, so it is looked at here."""
    *said, last = (_PYTHON[name][0] for name in types)
    taken = {kind for name in types for kind in _PYTHON[name][1]}

    def fault(value: Any) -> str | None:
        return None if type(value) in taken else f"must be {', '.join(said)} or {last}, not {shown(value):.100}"

    return Kind({"type": list(types)}, fault)


def _record(fields: dict[str, Kind]) -> Kind:
    """An object with these fields, or null. That it is one, the action looks at."""
    shape = _shape(fields)

    def fault(value: Any) -> str | None:
        return _no_such(value, shape.fields) if isinstance(value, dict) and not value.keys() <= shape.fields else None

    schema = _object(fields)
    return Kind({**schema, "type": ["object", "null"]}, fault)


def _shape(fields: dict[str, Kind]) -> Shape:
    names = {name.removesuffix("!"): kind for name, kind in fields.items()}
    return Shape(frozenset(names), tuple((name, kind.fault) for name, kind in names.items() if kind.fault))


def _object(fields: dict[str, Kind]) -> Json:
    schema: Json = {
        "type": "object",
        "properties": {name.removesuffix("!"): kind.schema for name, kind in fields.items()},
        "additionalProperties": False,
    }
    required = [name.removesuffix("!") for name in fields if name.endswith("!")]
    return {**schema, "required": required} if required else schema


_ANY: Final = Kind({})
_NAME: Final = Kind({"type": "string", "minLength": 1})
_TEXT: Final = _checked("string", "null")
_ID: Final = _checked("string", "number", "null")
_SWITCH: Final = _checked("boolean", "null")
_TIME: Final = _checked("number", "null")
_FLAG: Final = Kind({"type": "boolean"})
_SIDE: Final = Kind({"type": ["boolean", "null"]})
_COUNT: Final = Kind({"type": "integer", "minimum": 1})
_INDEX: Final = Kind({"type": "integer", "minimum": 0})
_WHOLE: Final = Kind({"type": "integer"})
_NUMBER: Final = Kind({"type": ["number", "null"], "minimum": -1e100, "maximum": 1e100})
_AMOUNT: Final = Kind({"type": "number", "minimum": 0, "maximum": 1e100})
_SEED: Final = Kind({"type": ["number", "null"]})
_TOKEN: Final = Kind({"type": "object"})
_CARD: Final = Kind({"type": "object", "required": ["id"]})
_TOKENS: Final = Kind({"type": "array", "items": {"type": "object"}})
_LIST: Final = Kind({"type": "array"})
_DECKS: Final = Kind({"type": "array", "items": {"type": "array"}})
_EXTRA: Final = Kind({"type": ["object", "null"]})
_OFFER: Final = _record({"token": Kind({"type": ["object", "null"]}), "resource": _NAME, "amount": _AMOUNT})
_PLACE: Final = _record(
    # The original takes `tags` as well, and ignores them.
    {"x": _NUMBER, "y": _NUMBER, "faceUp": _SIDE, "label": Kind({"type": ["string", "null"]}), "tags": _ANY}
)
_PATCHES: Final = Kind({"type": "array", "minItems": 1, "items": _object({"path!": _LIST, "value!": _ANY})})
_FLAGS: Final = Kind({"enum": ["reversed", "normal", "merged", "split"]})
_CHANGE: Final = Kind({"enum": ["flip", "merge", "unmerge"]})

_SPREAD: Final = {"zone!": _NAME, "pattern": _TEXT, "angleStep": _NUMBER, "radius": _NUMBER}
_ONE: Final = {"name!": _NAME}
_TWO: Final = {"from!": _NAME, "to!": _NAME}
_SOME: Final = {"resource!": _NAME, "amount": _AMOUNT}

_TAKES: Final[dict[str, dict[str, Kind]]] = {
    "stack:draw": {"count": _COUNT},
    "stack:peek": {"count": _COUNT},
    "stack:shuffle": {"seed": _SEED},
    "stack:burn": {"count": _COUNT},
    "stack:reset": {},
    "stack:cut": {"position": _INDEX},
    "stack:insertAt": {"card!": _TOKEN, "position": _INDEX},
    "stack:removeAt": {"position": _INDEX},
    "stack:swap": {"i!": _INDEX, "j!": _INDEX},
    "stack:reverse": {},
    "stack:discard": {"card!": _TOKEN},
    "space:place": {"zone!": _NAME, "card!": _CARD, "opts": _PLACE},
    "space:remove": {"zone": _TEXT, "placementId": _TEXT},
    "space:move": {"fromZone": _TEXT, "toZone": _TEXT, "placementId": _TEXT, "x": _NUMBER, "y": _NUMBER},
    "space:flip": {"zone": _TEXT, "placementId": _TEXT, "faceUp": _SIDE},
    "space:createZone": {"name!": _NAME, "label": _TEXT, "x": _NUMBER, "y": _NUMBER},
    "space:deleteZone": _ONE,
    "space:clearZone": {"zone!": _NAME},
    "space:lockZone": {"zone!": _NAME, "locked": _FLAG},
    "space:shuffleZone": {"zone!": _NAME, "seed": _SEED},
    "space:fanZone": _SPREAD,
    "space:spreadZone": _SPREAD,
    "space:stackZone": {"zone!": _NAME},
    "space:transferZone": {"fromZone!": _NAME, "toZone!": _NAME},
    "space:clear": {},
    "source:draw": {"count": _COUNT, "asList": _SWITCH},
    "source:shuffle": {"seed": _SEED},
    "source:burn": {"count": _COUNT},
    "source:addStack": {"stack!": _TOKENS},
    "source:removeStack": {"stack!": _TOKENS},
    "source:reset": {},
    "source:inspect": {},
    "agent:create": {**_ONE, "id": _TEXT, "meta": _EXTRA},
    "agent:remove": _ONE,
    "agent:get": _ONE,
    "agent:getAll": {},
    "agent:setActive": {**_ONE, "active": _FLAG},
    "agent:setMeta": {**_ONE, "key!": _NAME, "value!": _ANY},
    "agent:giveResource": {**_ONE, **_SOME},
    "agent:takeResource": {**_ONE, **_SOME},
    "agent:transferResource": {**_TWO, **_SOME},
    "agent:stealResource": {**_TWO, **_SOME},
    "agent:addToken": {**_ONE, "token!": _TOKEN},
    "agent:removeToken": {**_ONE, "tokenId!": _ID},
    "agent:transferToken": {**_TWO, "tokenId!": _ID},
    "agent:stealToken": {**_TWO, "tokenId!": _ID},
    "agent:trade": {"agent1!": _NAME, "agent2!": _NAME, "offer1": _OFFER, "offer2": _OFFER},
    "agent:drawCards": {**_ONE, "count": _COUNT},
    "agent:discardCards": {**_ONE, "tokenIds": Kind({"type": ["array", "null"]})},
    "game:start": {},
    "game:end": {"winner": _ANY, "reason": _ANY},
    "game:pause": {},
    "game:resume": {},
    "game:nextPhase": {"phase!": _ANY},
    "game:getState": {},
    "game:setProperty": {"key!": _NAME, "value!": _ANY},
    "game:mergeState": {"state!": _TOKEN},
    "game:setState": {"key!": _NAME, "value": _ANY, "patches": _PATCHES, "replace": _SWITCH},
    "game:loopInit": {"maxTurns": _ANY},
    "game:loopStart": {},
    "game:loopStop": {"phase": _ANY},
    "game:nextTurn": {"agentCount": Kind({"type": ["integer", "null"]})},
    "game:setPhase": {"phase!": _ANY},
    "game:setMaxTurns": {"maxTurns!": _ANY},
    "game:setActiveAgent": {"index!": _WHOLE},
    "rule:initRules": {},
    "rule:markFired": {**_ONE, "timestamp": _TIME},
    "token:transform": {"token!": _TOKEN, "properties": _EXTRA},
    "token:attach": {"host!": _TOKEN, "attachment!": _TOKEN, "attachmentType": _TEXT},
    "token:detach": {"host!": _TOKEN, "attachmentId": _ID},
    "token:merge": {"tokens!": _TOKENS, "properties": _EXTRA, "keepOriginals": _SWITCH},
    "token:split": {"token!": _TOKEN, "count": _WHOLE, "propertiesArray": Kind({"type": ["array", "null"]})},
    "tokens:shuffle": {"decks!": _DECKS, "seed": Kind({"type": ["number", "string", "null"]})},
    "tokens:draw": {"decks!": _DECKS, "counts!": Kind({"type": "array", "items": {"type": "integer", "minimum": 0}})},
    "tokens:filter": {"tokens!": _LIST, "predicate": _FLAGS},
    "tokens:find": {"tokens!": _LIST, "predicate": _TEXT},
    "tokens:count": {"tokens!": _LIST, "predicate": _TEXT},
    "tokens:map": {"tokens!": _TOKENS, "operation": _CHANGE},
    "tokens:forEach": {"tokens!": _TOKENS, "operation": _CHANGE},
    "tokens:collect": {"sources!": _LIST},
    "debug:log": {},
}
"""By action, its fields; those with an exclamation mark must be there. Where there are none, none can be misspelled:
such an action takes any, as the original does."""

_SHAPES: Final = {action: _shape(fields) for action, fields in _TAKES.items() if fields}
