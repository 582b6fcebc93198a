"""Players, what they own, and what passes between them. The first argument names the one who acts.

What is given, taken, transferred and stolen without further word are resources, which are counted.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, TypedDict

from hybrid_compute.engine.actions import Ask
from hybrid_compute.tabletop.agents import Agent
from hybrid_compute.tabletop.asks.asking import ask
from hybrid_compute.tabletop.table import Token


class Offer(TypedDict, total=False):
    """What one side of a trade gives: a token, by its id, or so much of a resource, or both."""

    token: Token
    resource: str
    amount: float


def create(name: str, *, id: str | None = None, meta: dict[str, Any] | None = None) -> Ask[Agent]:
    """A new agent, with nothing."""
    return ask("agent:create", name=name, id=id, meta=meta)


def remove(name: str) -> Ask[None]:
    """Forget an agent, with all that it holds."""
    return ask("agent:remove", name=name)


def get(name: str) -> Ask[Agent]:
    """The agent of that name."""
    return ask("agent:get", name=name)


def get_all() -> Ask[list[Agent]]:
    """All agents, in the order in which they were made."""
    return ask("agent:getAll")


def set_active(name: str, active: bool = True) -> Ask[None]:
    """Say whether an agent takes part."""
    return ask("agent:setActive", name=name, active=active)


def set_meta(name: str, key: str, value: Any) -> Ask[None]:
    """Note something about an agent."""
    return Ask("agent:setMeta", {"name": name, "key": key, "value": value})


def give(name: str, resource: str, amount: float = 1) -> Ask[None]:
    """An agent gets so much of a resource, from nowhere."""
    return ask("agent:giveResource", name=name, resource=resource, amount=amount)


def take(name: str, resource: str, amount: float = 1) -> Ask[None]:
    """An agent loses so much of a resource, or all that it has."""
    return ask("agent:takeResource", name=name, resource=resource, amount=amount)


def transfer(name: str, to: str, resource: str, amount: float = 1) -> Ask[None]:
    """An agent gives so much of a resource to another."""
    return ask("agent:transferResource", **{"from": name}, to=to, resource=resource, amount=amount)


def steal(name: str, victim: str, resource: str, amount: float = 1) -> Ask[None]:
    """An agent takes so much of a resource from another, or all that the other has."""
    return ask("agent:stealResource", **{"from": victim}, to=name, resource=resource, amount=amount)


def add_token(name: str, token: Token) -> Ask[None]:
    """Put a token at the end of an inventory. It is taken from nowhere."""
    return ask("agent:addToken", name=name, token=token)


def remove_token(name: str, token_id: str) -> Ask[Token]:
    """Take the first token of that id out of an inventory."""
    return ask("agent:removeToken", name=name, tokenId=token_id)


def transfer_token(name: str, to: str, token_id: str) -> Ask[None]:
    """An agent gives the first token of that id to another."""
    return ask("agent:transferToken", **{"from": name}, to=to, tokenId=token_id)


def steal_token(name: str, victim: str, token_id: str) -> Ask[None]:
    """An agent takes the first token of that id from another."""
    return ask("agent:stealToken", **{"from": victim}, to=name, tokenId=token_id)


def trade(name: str, other: str, gives: Offer | None = None, gets: Offer | None = None) -> Ask[None]:
    """Two agents exchange a token, so much of a resource, or both; either may offer nothing."""
    return ask("agent:trade", agent1=name, agent2=other, offer1=gives, offer2=gets)


def draw(name: str, count: int = 1) -> Ask[list[Token]]:
    """Draw from the stack into an inventory; the list begins with the topmost."""
    return ask("agent:drawCards", name=name, count=count)


def discard(name: str, token_ids: Sequence[str]) -> Ask[list[Token]]:
    """Bring tokens from an inventory to the discards, in the order of the ids."""
    return ask("agent:discardCards", name=name, tokenIds=list(token_ids))
