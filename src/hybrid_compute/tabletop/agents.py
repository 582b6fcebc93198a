"""Players, what they own, and what passes between them: the actions `agent:*`.

An agent holds resources, which are counted, and an inventory of tokens. What passes between two agents is written to
`transactions`. An agent changes where it is, so what goes out is a copy of it.
"""

from __future__ import annotations

from typing import Any, NamedTuple, TypeAlias

from hybrid_compute.engine.actions import ActionRegistry
from hybrid_compute.engine.turn import new_id, now
from hybrid_compute.errors import ActionFailed
from hybrid_compute.tabletop.checks import flag, number, text
from hybrid_compute.tabletop.numbers import shown
from hybrid_compute.tabletop.piles import piles, take
from hybrid_compute.tabletop.table import Payload, Table, Token, agent_copied

Agent: TypeAlias = dict[str, Any]

ACTIONS = ActionRegistry(careful=True)


@ACTIONS.add("agent:create")
def create(table: Table, payload: Payload) -> Agent:
    """A new agent, with nothing. `id` and `meta` are its own if given."""
    name = text(payload, "name")
    if name in table.document.get("agents", {}):
        raise ActionFailed(f'Agent "{name}" already exists')
    agent: Agent = {
        "id": payload.get("id") or f"agent-{new_id()}",
        "name": name,
        "meta": {**_object(payload, "meta")},
        "active": True,
        "resources": {},
        "inventory": [],
    }
    table.document.setdefault("agents", {})[name] = agent
    return agent_copied(agent)


@ACTIONS.add("agent:remove")
def remove(table: Table, payload: Payload) -> None:
    """Forget an agent, with all that it holds."""
    agent = _agent(table, payload)
    del table.document["agents"][agent["name"]]


@ACTIONS.add("agent:get", reads=True)
def get(table: Table, payload: Payload) -> Agent:
    """The agent of that name."""
    return agent_copied(_agent(table, payload))


@ACTIONS.add("agent:getAll", reads=True)
def get_all(table: Table, payload: Payload) -> list[Agent]:
    """All agents, in the order in which they were made."""
    return [agent_copied(agent) for agent in table.document.get("agents", {}).values()]


@ACTIONS.add("agent:setActive")
def set_active(table: Table, payload: Payload) -> None:
    """Say whether an agent takes part."""
    agent = _agent(table, payload)
    agent["active"] = flag(payload.get("active", True), "active")


@ACTIONS.add("agent:setMeta")
def set_meta(table: Table, payload: Payload) -> None:
    """Note something about an agent."""
    key = text(payload, "key")
    agent = _agent(table, payload)
    if "value" not in payload:
        raise ActionFailed("value required")
    agent["meta"][key] = payload["value"]


@ACTIONS.add("agent:giveResource")
def give_resource(table: Table, payload: Payload) -> None:
    """An agent gets so much of a resource, from nowhere."""
    agent = _agent(table, payload)
    resource, amount = _resource(payload)
    _add(agent, resource, amount)


@ACTIONS.add("agent:takeResource")
def take_resource(table: Table, payload: Payload) -> None:
    """An agent loses so much of a resource, or all that it has."""
    agent = _agent(table, payload)
    resource, amount = _resource(payload)
    _add(agent, resource, -min(amount, _has(agent, resource)))


@ACTIONS.add("agent:transferResource")
def transfer_resource(table: Table, payload: Payload) -> None:
    """One agent gives so much of a resource to another."""
    giver, taker = _agent(table, payload, "from"), _agent(table, payload, "to")
    resource, amount = _resource(payload)
    _afford(giver, resource, amount, "Agent '{}'")
    _pass(giver, taker, resource, amount)
    _log(table, "resource_transfer", giver, taker, resource=resource, amount=amount)


@ACTIONS.add("agent:stealResource")
def steal_resource(table: Table, payload: Payload) -> None:
    """One agent loses so much of a resource to another, or all that it has; what is logged is what was taken."""
    loser, thief = _agent(table, payload, "from"), _agent(table, payload, "to")
    resource, amount = _resource(payload)
    taken = min(amount, _has(loser, resource))
    _pass(loser, thief, resource, taken)
    _log(table, "steal_resource", loser, thief, resource=resource, amount=taken)


@ACTIONS.add("agent:addToken")
def add_token(table: Table, payload: Payload) -> None:
    """Put a token at the end of an inventory. It is taken from nowhere."""
    agent = _agent(table, payload)
    token = payload.get("token")
    if token is None:
        raise ActionFailed("token required")
    if not isinstance(token, dict):
        raise ActionFailed(f"token must be an object, not {shown(token)}")
    agent["inventory"].append(token)


@ACTIONS.add("agent:removeToken")
def remove_token(table: Table, payload: Payload) -> Token:
    """Take the first token of that id out of an inventory."""
    agent = _agent(table, payload)
    at = _holds(agent, _token_id(payload))
    token: Token = agent["inventory"].pop(at)
    return token


@ACTIONS.add("agent:transferToken")
def transfer_token(table: Table, payload: Payload) -> None:
    """One agent gives the first token of that id to another."""
    _hand_over(table, payload, "token_transfer")


@ACTIONS.add("agent:stealToken")
def steal_token(table: Table, payload: Payload) -> None:
    """One agent loses the first token of that id to another."""
    _hand_over(table, payload, "steal_token")


@ACTIONS.add("agent:trade")
def trade(table: Table, payload: Payload) -> None:
    """Two agents exchange a token, so much of a resource, or both; either may offer nothing."""
    one, two = _agent(table, payload, "agent1"), _agent(table, payload, "agent2")
    if one is two:
        raise ActionFailed(f'Agent "{one["name"]}" cannot trade with itself')
    offers = _object(payload, "offer1"), _object(payload, "offer2")
    from_one, from_two = _offer(one, offers[0]), _offer(two, offers[1])
    _deliver(one, two, from_one)
    _deliver(two, one, from_two)  # what came from the first is at the end: it moves nothing that was offered
    names = {"agent1": one["name"], "agent2": two["name"]}
    _log(table, "trade", one, two, **names, offer1=offers[0], offer2=offers[1])


@ACTIONS.add("agent:drawCards")
def draw_cards(table: Table, payload: Payload) -> list[Token]:
    """Draw from the stack into an inventory. The last drawn is the last in both."""
    piles(table)  # without a stack that is the error, whoever asks
    agent = _agent(table, payload)
    tokens = take(table, payload.get("count", 1))
    agent["inventory"].extend(tokens)
    return tokens


@ACTIONS.add("agent:discardCards")
def discard_cards(table: Table, payload: Payload) -> list[Token]:
    """Bring tokens from an inventory to the discards, in the order of `tokenIds`: of each id all that there are."""
    discards = piles(table)["discards"]
    agent = _agent(table, payload)
    leaving: dict[Any, list[Token]] = {token_id: [] for token_id in _token_ids(payload)}
    staying: list[Token] = []
    for token in agent["inventory"]:
        leaving.get(token.get("id"), staying).append(token)
    discarded = [token for tokens in leaving.values() for token in tokens]
    agent["inventory"][:] = staying
    discards.extend(discarded)
    return discarded


def _agent(table: Table, payload: Payload, field: str = "name") -> Agent:
    name = text(payload, field)
    agent: Agent | None = table.document.get("agents", {}).get(name)
    if agent is None:
        raise ActionFailed(f'Agent "{name}" not found')
    return agent


def _object(payload: Payload, field: str) -> dict[str, Any]:
    value = payload.get(field)
    if value is None:
        return {}
    if not isinstance(value, dict):
        raise ActionFailed(f"{field} must be an object, not {shown(value)}")
    return value


def _resource(payload: Payload, default: float = 1) -> tuple[str, float]:
    return text(payload, "resource"), number(payload.get("amount", default), "amount", least=0)


def _has(agent: Agent, resource: str) -> float:
    amount: float = agent["resources"].get(resource, 0)
    return amount


def _add(agent: Agent, resource: str, amount: float) -> None:
    agent["resources"][resource] = _has(agent, resource) + amount


def _pass(giver: Agent, taker: Agent, resource: str, amount: float) -> None:
    _add(giver, resource, -amount)
    _add(taker, resource, amount)


def _afford(agent: Agent, resource: str, amount: float, who: str) -> None:
    has = _has(agent, resource)
    if has < amount:
        raise ActionFailed(f"{who.format(agent['name'])} has {shown(has)} {resource} but {shown(amount)} requested")


def _token_id(payload: Payload) -> Any:
    token_id = payload.get("tokenId")
    if token_id is None:
        raise ActionFailed("tokenId required")
    return token_id


def _token_ids(payload: Payload) -> list[Any]:
    token_ids = payload.get("tokenIds")
    if token_ids is None:
        return []
    if isinstance(token_ids, list) and all(isinstance(token_id, str | int | float) for token_id in token_ids):
        return token_ids
    raise ActionFailed(f"tokenIds must be a list of ids, not {shown(token_ids)}")


def _index(agent: Agent, token_id: Any) -> int | None:
    return next((at for at, token in enumerate(agent["inventory"]) if token.get("id") == token_id), None)


def _holds(agent: Agent, token_id: Any) -> int:
    at = _index(agent, token_id)
    if at is None:
        raise ActionFailed(f'Token "{token_id}" not found in agent "{agent["name"]}"')
    return at


def _hand_over(table: Table, payload: Payload, type: str) -> None:
    giver, taker = _agent(table, payload, "from"), _agent(table, payload, "to")
    at = _holds(giver, _token_id(payload))
    taker["inventory"].append(giver["inventory"].pop(at))
    _log(table, type, giver, taker, token=payload["tokenId"])


class _Offer(NamedTuple):
    """What one side of a trade gives: the index of a token, so much of a resource."""

    token: int | None
    resource: str | None
    amount: float


def _offer(agent: Agent, offer: dict[str, Any]) -> _Offer:
    """The offer, once it is sure that the agent can keep it."""
    token = _offered_token(agent, offer.get("token"))
    if not (offer.get("resource") or offer.get("amount")):
        return _Offer(token, None, 0)
    resource, amount = _resource(offer, default=0)
    _afford(agent, resource, amount, 'Agent "{}"')
    return _Offer(token, resource, amount)


def _offered_token(agent: Agent, token: Any) -> int | None:
    if token is None:
        return None
    if not isinstance(token, dict) or token.get("id") is None:
        raise ActionFailed("an offered token must be an object with an id")
    at = _index(agent, token["id"])
    if at is None:
        raise ActionFailed(f'Token "{token["id"]}" not in {agent["name"]}\'s inventory')
    return at


def _deliver(giver: Agent, taker: Agent, offer: _Offer) -> None:
    if offer.token is not None:
        taker["inventory"].append(giver["inventory"].pop(offer.token))
    if offer.resource is not None:
        _pass(giver, taker, offer.resource, offer.amount)


def _log(table: Table, type: str, giver: Agent, taker: Agent, **what: Any) -> None:
    entry = {"type": type, "from": giver["name"], "to": taker["name"], **what, "timestamp": now()}
    table.document.setdefault("transactions", []).append(entry)
