"""Zones, and what lies in them: the actions `space:*`.

A zone is a list of placements, each a token with its place on the table. The lock of a zone stands beside it in
`zones`, as `_lock:<zone>`, so no zone may have such a name.

A lock, or a placement that is not there, is no error: the action does nothing and tells `space:locked` or
`space:notFound`.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import repeat
from math import cos, radians, sin
from operator import indexOf, itemgetter
from typing import Any, TypeAlias

from hybrid_compute.engine.actions import ActionRegistry
from hybrid_compute.engine.turn import emit, new_id, now
from hybrid_compute.errors import ActionFailed
from hybrid_compute.tabletop.checks import flag, number, text
from hybrid_compute.tabletop.dice import shuffled
from hybrid_compute.tabletop.numbers import shown
from hybrid_compute.tabletop.table import Payload, Placement, Table, Token

Zones: TypeAlias = dict[str, Any]
Point: TypeAlias = tuple[float, float]

ACTIONS = ActionRegistry(careful=True)
LOCK = "_lock:"

_id = itemgetter("id")


@ACTIONS.add("space:place")
def place(table: Table, payload: Payload) -> Placement | None:
    """Put a token into a zone, which is made if it is new. The token is taken from nowhere; None if locked."""
    zones = _zones(table)
    zone = _zone(payload)
    card = payload.get("card")
    if not card and card != {}:
        raise ActionFailed("card required")
    if not isinstance(card, dict) or not card.get("id"):
        raise ActionFailed("Cannot place invalid token (missing id)")
    if _locked(zones, zone):
        _tell("space:locked", "place", zoneName=zone)
        return None
    placement = _placement(card, payload.get("opts") or {})
    _made(table, zone).append(placement)
    emit("space:place", placement, "space")
    return placement


@ACTIONS.add("space:remove")
def remove(table: Table, payload: Payload) -> None:
    """Take a placement, and the token with it, from a zone."""
    found = _reach(table, payload, "remove")
    if found:
        placements, at = found
        emit("space:remove", {"id": placements.pop(at)["id"]}, "space")


@ACTIONS.add("space:move")
def move(table: Table, payload: Payload) -> None:
    """Bring a placement to the end of a zone, which is made if it is new; it keeps its id, and x and y if not given."""
    zones = _zones(table)
    source, target, wanted = payload.get("fromZone"), payload.get("toZone"), payload.get("placementId")
    if _locked(zones, source) or _locked(zones, target):
        return _tell("space:locked", "move", fromZone=source, toZone=target)
    placements = _placements(zones, source)
    at = _find(placements, wanted)
    if at is None:
        return _tell("space:notFound", "move", placementId=wanted, fromZone=source)
    target = _zone(payload, "toZone")
    old = placements[at]
    new = {**old, "x": _number(payload, "x", old["x"]), "y": _number(payload, "y", old["y"])}
    del placements[at]
    _made(table, target).append(new)
    emit("space:move", {"fromZone": source, "toZone": target, "placementId": wanted}, "space")


@ACTIONS.add("space:flip")
def flip(table: Table, payload: Payload) -> None:
    """Turn a placement over; with `faceUp`, to that side."""
    side = payload.get("faceUp")
    told = {} if side is None else {"faceUp": flag(side, "faceUp")}
    found = _reach(table, payload, "flip")
    if found:
        placements, at = found
        placement = placements[at]
        placements[at] = {**placement, "faceUp": not placement["faceUp"], **told}
        emit("space:flip", {"id": placement["id"], **told}, "space")


@ACTIONS.add("space:createZone")
def create_zone(table: Table, payload: Payload) -> None:
    """Make a zone; one that is there stays as it is. Label, x and y are told, and kept nowhere."""
    _zones(table)
    name = _zone(payload, "name")
    label = name if payload.get("label") is None else payload["label"]
    told = {"id": name, "label": label, "x": _number(payload, "x", 0), "y": _number(payload, "y", 0)}
    _made(table, name)
    emit("zone:created", {"payload": told}, "space")


@ACTIONS.add("space:deleteZone")
def delete_zone(table: Table, payload: Payload) -> None:
    """Forget a zone and what lies in it, unless it is locked."""
    zones = _zones(table)
    name = _zone(payload, "name")
    if _locked(zones, name):
        return _tell("space:locked", "deleteZone", zoneName=name)
    zones.pop(name, None)
    zones.pop(LOCK + name, None)
    emit("zone:deleted", {"payload": {"id": name}}, "space")


@ACTIONS.add("space:clearZone")
def clear_zone(table: Table, payload: Payload) -> None:
    """Empty a zone, unless it is locked."""
    zones = _zones(table)
    zone = _zone(payload)
    if not _locked(zones, zone):
        _placements(zones, zone).clear()
        emit("space:clearZone", {"name": zone}, "space")


@ACTIONS.add("space:lockZone")
def lock_zone(table: Table, payload: Payload) -> None:
    """Lock a zone, which need not be there yet; or, with `locked` false, unlock it."""
    _zones(table)
    zone = _zone(payload)
    locked = flag(payload.get("locked", True), "locked")
    table.document.setdefault("zones", {})[LOCK + zone] = locked
    emit("zone:locked", {"payload": {"id": zone, "locked": locked}}, "space")


@ACTIONS.add("space:shuffleZone")
def shuffle_zone(table: Table, payload: Payload) -> None:
    """Put a zone into another order, unless it is locked. A seed holds for this once."""
    zones = _zones(table)
    zone = _zone(payload)
    if not _locked(zones, zone):
        placements = _placements(zones, zone)
        placements[:] = shuffled(placements, payload.get("seed"))


@ACTIONS.add("space:fanZone")
def fan_zone(table: Table, payload: Payload) -> None:
    """Spread a zone on an arc, unless another `pattern` is asked for."""
    _spread(table, payload, "arc")


@ACTIONS.add("space:spreadZone")
def spread_zone(table: Table, payload: Payload) -> None:
    """Spread a zone in a row, or on an arc for the pattern "arc"."""
    _spread(table, payload, "linear")


@ACTIONS.add("space:stackZone")
def stack_zone(table: Table, payload: Payload) -> None:
    """Bring all that lies in a zone to one point, unless it is locked."""
    zones = _zones(table)
    zone = _zone(payload)
    if not _locked(zones, zone):
        _lay(_placements(zones, zone), repeat((0, 0)))
        emit("zone:stacked", {"payload": {"id": zone}}, "space")


@ACTIONS.add("space:transferZone")
def transfer_zone(table: Table, payload: Payload) -> int:
    """Bring all of one zone to the end of another, in order. Returns how many; 0 if one of them is locked."""
    zones = _zones(table)
    source, target = _zone(payload, "fromZone"), _zone(payload, "toZone")
    if _locked(zones, source) or _locked(zones, target):
        return 0
    placements = _placements(zones, source)
    count = len(placements)
    if count and source != target:
        _made(table, target).extend(placements)
        placements.clear()
    emit("space:transferZone", {"fromZone": source, "toZone": target, "count": count}, "space")
    return count


@ACTIONS.add("space:clear")
def clear(table: Table, payload: Payload) -> None:
    """Forget all zones, with their locks."""
    _zones(table)
    table.document["zones"] = {}
    emit("space:clear", None, "space")


def _spread(table: Table, payload: Payload, pattern: str) -> None:
    zones = _zones(table)
    zone = _zone(payload)
    pattern = payload.get("pattern") or pattern
    step, radius = _number(payload, "angleStep", 15), _number(payload, "radius", 100)
    if not _locked(zones, zone):
        placements = _placements(zones, zone)
        points = _arc(len(placements), step, radius) if pattern == "arc" else _row(len(placements), step)
        _lay(placements, points)
        emit("zone:spread", {"payload": {"id": zone, "pattern": pattern}}, "space")


def _arc(count: int, step: float, radius: float) -> Iterator[Point]:
    for index in range(count):
        angle = radians((index - count / 2) * step)
        yield cos(angle) * radius, sin(angle) * radius


def _row(count: int, step: float) -> Iterator[Point]:
    for index in range(count):
        yield index * step, 0


def _lay(placements: list[Placement], points: Iterator[Point]) -> None:
    placements[:] = [{**placement, "x": x, "y": y} for placement, (x, y) in zip(placements, points, strict=False)]


def _placement(card: Token, opts: Any) -> Placement:
    if not isinstance(opts, dict):
        raise ActionFailed(f"opts must be an object, not {shown(opts)}")
    label, face_up = opts.get("label"), opts.get("faceUp")
    if label is not None and not isinstance(label, str):
        raise ActionFailed(f"label must be a string, not {shown(label)}")
    return {
        "id": new_id(),
        "tokenId": card["id"],
        "tokenSnapshot": card,
        "x": _number(opts, "x", 0),
        "y": _number(opts, "y", 0),
        "faceUp": True if face_up is None else flag(face_up, "faceUp"),
        "label": label,
        "ts": now(),
        "reversed": bool(card.get("_rev")),
        "tags": [],
    }


def _zones(table: Table) -> Zones:
    """What there is by now; before the first zone, a mapping that belongs to nobody."""
    if not table.space:
        raise ActionFailed("No space attached to engine")
    zones: Zones = table.document.get("zones", {})
    return zones


def _zone(payload: Payload, field: str = "zone") -> str:
    """The zone that is named; it need not be there."""
    name = text(payload, field)
    if name.startswith(LOCK):
        raise ActionFailed(f'{field} must not be "{name}": names with "{LOCK}" are those of locks')
    return name


def _made(table: Table, zone: str) -> list[Placement]:
    """The zone, made if it is new."""
    placements: list[Placement] = table.document.setdefault("zones", {}).setdefault(zone, [])
    return placements


def _placements(zones: Zones, zone: Any) -> list[Placement]:
    """What lies in the zone; nothing if that is no zone."""
    return zones.get(zone, []) if isinstance(zone, str) and not zone.startswith(LOCK) else []


def _locked(zones: Zones, zone: Any) -> bool:
    return isinstance(zone, str) and zones.get(LOCK + zone) is True


def _find(placements: list[Placement], wanted: Any) -> int | None:
    try:
        return indexOf(map(_id, placements), wanted)
    except ValueError:
        return None


def _reach(table: Table, payload: Payload, operation: str) -> tuple[list[Placement], int] | None:
    """The zone and the index of the placement that is meant. Tells why where it is out of reach."""
    zones = _zones(table)
    zone, wanted = payload.get("zone"), payload.get("placementId")
    placements = _placements(zones, zone)
    at = _find(placements, wanted)
    if _locked(zones, zone):
        _tell("space:locked", operation, zoneName=zone)
    elif at is None:
        _tell("space:notFound", operation, placementId=wanted, zoneName=zone)
    else:
        return placements, at
    return None


def _tell(event: str, operation: str, **about: Any) -> None:
    """Why nothing was done; without what the payload did not say."""
    said = {field: value for field, value in about.items() if value is not None}
    emit(event, {"operation": operation, **said}, "space")


def _number(payload: Payload, field: str, default: Any) -> Any:
    value = payload.get(field)
    return default if value is None else number(value, field)
