"""Zones, and what lies in them. A locked zone is left as it is: that is no error."""

from __future__ import annotations

from hybrid_compute.engine.actions import Ask
from hybrid_compute.tabletop.asks.asking import ask
from hybrid_compute.tabletop.table import Placement, Token


def place(
    zone: str, card: Token, *, x: float = 0, y: float = 0, face_up: bool = True, label: str | None = None
) -> Ask[Placement | None]:
    """Put a card into a zone, which is made if it is new. It is taken from nowhere; None if the zone is locked."""
    return ask("space:place", zone=zone, card=card, opts={"x": x, "y": y, "faceUp": face_up, "label": label})


def remove(zone: str, placement_id: str) -> Ask[None]:
    """Take a placement, and the token with it, from a zone."""
    return ask("space:remove", zone=zone, placementId=placement_id)


def move(
    from_zone: str, to_zone: str, placement_id: str, *, x: float | None = None, y: float | None = None
) -> Ask[None]:
    """Bring a placement to the end of a zone, which is made if it is new. Where it lies stays, if not said."""
    return ask("space:move", fromZone=from_zone, toZone=to_zone, placementId=placement_id, x=x, y=y)


def flip(zone: str, placement_id: str, face_up: bool | None = None) -> Ask[None]:
    """Turn a placement over; with `face_up`, to that side."""
    return ask("space:flip", zone=zone, placementId=placement_id, faceUp=face_up)


def create_zone(name: str, *, label: str | None = None, x: float = 0, y: float = 0) -> Ask[None]:
    """Make a zone; one that is there stays as it is. Label, x and y are told, and kept nowhere."""
    return ask("space:createZone", name=name, label=label, x=x, y=y)


def delete_zone(name: str) -> Ask[None]:
    """Forget a zone and what lies in it."""
    return ask("space:deleteZone", name=name)


def clear_zone(zone: str) -> Ask[None]:
    """Empty a zone."""
    return ask("space:clearZone", zone=zone)


def lock_zone(zone: str, locked: bool = True) -> Ask[None]:
    """Lock a zone, which need not be there yet; or unlock it."""
    return ask("space:lockZone", zone=zone, locked=locked)


def shuffle_zone(zone: str, seed: float | None = None) -> Ask[None]:
    """Put a zone into another order. A seed holds for this once."""
    return ask("space:shuffleZone", zone=zone, seed=seed)


def fan_zone(zone: str, pattern: str = "arc", *, angle_step: float = 15, radius: float = 100) -> Ask[None]:
    """Spread a zone on an arc, so many degrees from one to the next."""
    return ask("space:fanZone", zone=zone, pattern=pattern, angleStep=angle_step, radius=radius)


def spread_zone(zone: str, pattern: str = "linear", *, angle_step: float = 15, radius: float = 100) -> Ask[None]:
    """Spread a zone in a row, `angle_step` from one to the next, or on an arc for the pattern "arc"."""
    return ask("space:spreadZone", zone=zone, pattern=pattern, angleStep=angle_step, radius=radius)


def stack_zone(zone: str) -> Ask[None]:
    """Bring all that lies in a zone to one point."""
    return ask("space:stackZone", zone=zone)


def transfer_zone(from_zone: str, to_zone: str) -> Ask[int]:
    """Bring all of one zone to the end of another, in order; how many. 0 if one of them is locked."""
    return ask("space:transferZone", fromZone=from_zone, toZone=to_zone)


def clear() -> Ask[None]:
    """Forget all zones, with their locks."""
    return ask("space:clear")
