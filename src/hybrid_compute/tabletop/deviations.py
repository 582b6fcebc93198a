"""Where our answer may be another than that of the original: what a step asks, and what ours then answers.

A step is judged by these only if the vectors call it, or its case, a quirk of the original. So vectors that nobody
here has seen are judged by the same rules. The reasons stand in `docs/topics/tabletop.md`, each beside its actions.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from fnmatch import fnmatchcase
from typing import Any, Final, NamedTuple, TypeAlias

from hybrid_compute.errors import ActionNotFound, EngineStopped, InvalidInput
from hybrid_compute.tabletop import schema
from hybrid_compute.tabletop.actions import ACTIONS
from hybrid_compute.tabletop.checks import MOST
from hybrid_compute.tabletop.dice import LARGEST
from hybrid_compute.tabletop.game import OWNED
from hybrid_compute.tabletop.numbers import is_number, whole
from hybrid_compute.tabletop.playing import Answer
from hybrid_compute.tabletop.recorded import Document
from hybrid_compute.tabletop.space import LOCK
from hybrid_compute.tabletop.tokens import MOST as MOST_OF_ONE

SETUP: Final = "setup"
"""What stands in place of an action where the table is set up."""


class Step(NamedTuple):
    """What was asked, and what the original has answered."""

    action: str
    """The operation, where it was none; or `SETUP`."""
    payload: Document
    """Empty, where none was given."""
    recorded: Document

    def get(self, field: str) -> Any:
        return self.payload.get(field)

    def has(self, field: str) -> bool:
        return field in self.payload


Asked: TypeAlias = Callable[[Step], bool]
Answered: TypeAlias = Callable[[Step, Answer], bool]


class Deviation(NamedTuple):
    """Whoever does one of these `actions` (names, with `*`), so that `asked` holds, is answered as `answered` says."""

    reason: str
    actions: tuple[str, ...]
    asked: Asked
    answered: Answered

    def explains(self, step: Step, answer: Answer) -> bool:
        return self.is_about(step) and self.answered(step, answer)

    def is_about(self, step: Step) -> bool:
        return any(fnmatchcase(step.action, name) for name in self.actions) and self.asked(step)


def reason(step: Step, answer: Answer) -> str | None:
    """Why this step may be answered so, and not as the original did; None if there is no reason."""
    return next((one.reason for one in DEVIATIONS if one.explains(step, answer)), None)


def unkept(step: Step, answer: Answer) -> str | None:
    """Why this step, which the original has done, should not have been answered as it was; None if it may be."""
    if not step.recorded["ok"] or reason(step, answer):
        return None
    return next((one.reason for one in DEVIATIONS if one.asked is not _always and one.is_about(step)), None)


# What ours answers.


def _refused(words: str) -> Answered:
    """An error that begins with these words, a regular expression."""
    return lambda step, answer: not answer.ok and re.match(words, str(answer.result)) is not None


def _refused_as(kind: type[Exception]) -> Answered:
    return lambda step, answer: isinstance(answer.result, kind)


def _done(step: Step, answer: Answer) -> bool:
    return answer.ok


def _whatever(step: Step, answer: Answer) -> bool:
    """What follows from it is refused or done as for anybody else; but not by falling over."""
    return answer.ok or answer.result.__cause__ is None


def _with_the_stack(step: Step, answer: Answer) -> bool:
    return "stack" in answer.result and "stack" not in step.recorded["state"]


def _other_order(step: Step, answer: Answer) -> bool:
    """The same names in the order in which they came."""
    there = step.recorded.get("result")
    if not (answer.ok and isinstance(there, list) and isinstance(answer.result, list)):
        return False
    return sorted(each["name"] for each in there) == sorted(each["name"] for each in answer.result)


def _more(step: Step, answer: Answer) -> bool:
    return answer.ok and len(answer.result) > len(step.recorded.get("result") or ())


# What is asked.


def _always(step: Step) -> bool:
    return True


def _unless(fits: Callable[[Any], bool], *fields: str) -> Asked:
    """One of these fields is there, and what stands in it does not fit."""
    return lambda step: any(step.has(field) and not fits(step.get(field)) for field in fields)


def _without(fits: Callable[[Any], bool], *fields: str) -> Asked:
    """One of these fields is not there, or what stands in it does not fit."""
    return lambda step: any(not fits(step.get(field)) for field in fields)


def _is_object(value: Any) -> bool:
    return isinstance(value, dict)


def _is_object_or_null(value: Any) -> bool:
    return value is None or isinstance(value, dict)


def _is_flag(value: Any) -> bool:
    return isinstance(value, bool)


def _is_text(value: Any) -> bool:
    return isinstance(value, str) and value != ""


def _is_integer(value: Any) -> bool:
    return whole(value) is not None


def _is_positive(value: Any) -> bool:
    number = whole(value)
    return number is not None and number > 0


def _is_seed(value: Any) -> bool:
    return value is None or (is_number(value) and -LARGEST <= value <= LARGEST)


def _is_seed_or_text(value: Any) -> bool:
    return isinstance(value, str) or _is_seed(value)


def _is_amount(value: Any) -> bool:
    return is_number(value) and 0 <= value <= MOST


def _is_place(value: Any) -> bool:
    return value is None or (is_number(value) and -MOST <= value <= MOST)


def _offers(step: Step) -> list[Document]:
    return [offer for name in ("offer1", "offer2") if isinstance(offer := step.get(name), dict)]


def _counted(step: Step) -> list[Document]:
    """What says how much of which resource: the payload itself, or offers."""
    if step.action == "agent:trade":
        return [offer for offer in _offers(step) if offer.get("resource") or offer.get("amount")]
    return [step.payload]


def _bad_amount(step: Step) -> bool:
    return any("amount" in each and not _is_amount(each["amount"]) for each in _counted(step))


def _no_resource(step: Step) -> bool:
    return any(not _is_text(each.get("resource")) for each in _counted(step))


def _offers_no_object(step: Step) -> bool:
    offered = [offer["token"] for offer in _offers(step) if offer.get("token") is not None]
    return not all(isinstance(each, dict) and each.get("id") is not None for each in offered)


def _no_object_among(step: Step) -> bool:
    """A token that is none, or one of several."""
    one = [step.get(name) for name in ("token", "host", "attachment", "card") if step.has(name)]
    return not all(isinstance(each, dict) for each in [*one, *_list(step, "tokens")])


def _no_object_among_those(step: Step) -> bool:
    """Fields that are none, of one of the tokens that are made."""
    return not all(isinstance(each or {}, dict) for each in _list(step, "propertiesArray"))


def _list(step: Step, field: str) -> list[Any]:
    value = step.get(field)
    return value if isinstance(value, list) else []


def _opts(step: Step) -> Document:
    opts = step.get("opts")
    return opts if isinstance(opts, dict) else {}


def _ill_flag(step: Step) -> bool:
    sides = [step.get("faceUp"), _opts(step).get("faceUp")]
    return not _is_flag(step.payload.get("locked", True)) or not all(side is None or _is_flag(side) for side in sides)


def _ill_place(step: Step) -> bool:
    given = [step.payload, _opts(step)]
    return not all(_is_place(each.get(name)) for each in given for name in ("x", "y", "angleStep", "radius"))


_ZONES: Final = frozenset(["zone", "fromZone", "toZone"])
_AGENTS: Final = frozenset(["name", "from", "to", "agent1", "agent2"])


def _nameless(step: Step, names: frozenset[str]) -> bool:
    """A name is missing, or no text, that the action must have."""
    required = schema.of(step.action).get("required", ()) if step.action in ACTIONS else ()
    return not all(_is_text(step.get(name)) for name in names.intersection(required))


def _nameless_zone(step: Step) -> bool:
    return _nameless(step, _ZONES | {"name"}) or (step.action == "space:move" and not _is_text(step.get("toZone")))


def _nameless_agent(step: Step) -> bool:
    return _nameless(step, _AGENTS)


_MEMBERS: Final = frozenset(
    (
        *("__proto__", "__defineGetter__", "__defineSetter__", "__lookupGetter__", "__lookupSetter__"),
        *("constructor", "hasOwnProperty", "isPrototypeOf", "propertyIsEnumerable"),
        *("toLocaleString", "toString", "valueOf"),
    )
)
"""What every object of JavaScript has."""


def _names_a_member(step: Step) -> bool:
    return any(isinstance(name, str) and name in _MEMBERS for name in step.payload.values())


def _names_a_lock(step: Step) -> bool:
    return any(isinstance(name, str) and name.startswith(LOCK) for name in step.payload.values())


def _says_null(step: Step) -> bool:
    return None in [*step.payload.values(), *_opts(step).values()]


def _null_payload(step: Step) -> bool:
    return "payload" in step.recorded and step.recorded["payload"] is None


def _ill_counts(step: Step) -> bool:
    return not all(_is_integer(each) and each >= 0 for each in _list(step, "counts"))


def _ill_decks(step: Step) -> bool:
    return not all(isinstance(deck, list) for deck in _list(step, "decks"))


def _ill_ids(step: Step) -> bool:
    ids = step.get("tokenIds")
    return ids is not None and not (isinstance(ids, list) and all(isinstance(each, str | int | float) for each in ids))


def _same_traders(step: Step) -> bool:
    return bool(step.get("agent1") == step.get("agent2"))


def _an_offer_is_missing(step: Step) -> bool:
    return step.get("offer1") is None or step.get("offer2") is None


def _was_an_error(step: Step) -> bool:
    return not step.recorded["ok"]


def _is_owned(step: Step) -> bool:
    key = step.get("key")
    return isinstance(key, str) and key in OWNED


_COUNTING: Final = ("stack:draw", "stack:peek", "stack:burn", "agent:drawCards", "source:draw", "source:burn")
_SHUFFLING: Final = ("stack:shuffle", "source:shuffle", "space:shuffleZone")
_RESOURCES: Final = ("agent:*Resource", "agent:trade")

DEVIATIONS: Final = (
    # The engine.
    Deviation("an engine has one state, and the stack is in it", (SETUP,), _always, _with_the_stack),
    Deviation("only actions are actions", ("*",), _always, _refused_as(ActionNotFound)),
    Deviation("nothing is done after the end", ("*",), _always, _refused_as(EngineStopped)),
    Deviation("a restored engine gives snapshots like any other", ("snapshot*",), _was_an_error, _done),
    Deviation("an event is what was told, with nothing around it", ("on(*", "once(*"), _always, _done),
    Deviation("a payload that is null is an empty one", ("*",), _null_payload, _whatever),
    Deviation(
        "a payload has the fields of its action, and what may stand in them", ("*",), _always, _refused_as(InvalidInput)
    ),
    Deviation("null is as if it were not there", ("space:*",), _says_null, _done),
    # Piles.
    Deviation(
        "a count is a whole number above 0",
        _COUNTING,
        _unless(_is_positive, "count"),
        _refused("Invalid (draw|peek|burn) count: "),
    ),
    Deviation("a seed is a finite number", _SHUFFLING, _unless(_is_seed, "seed"), _refused("Invalid seed: ")),
    Deviation(
        "a card is an object",
        ("stack:insertAt", "stack:discard", "space:place"),
        _no_object_among,
        _refused("card (must be|required)|Cannot place invalid token"),
    ),
    Deviation(
        "both places of a swap are whole numbers",
        ("stack:swap",),
        _without(_is_integer, "i", "j"),
        _refused("Invalid swap indices: "),
    ),
    Deviation("an empty stack is reversed by doing nothing", ("stack:reverse",), _was_an_error, _done),
    Deviation("no two stacks have the same id", ("source:addStack",), _always, _done),
    Deviation("the stack's own tokens go", ("source:removeStack",), _always, _done),
    Deviation(
        "a stack is a Stack, or a list of tokens",
        ("source:addStack", "source:removeStack"),
        _always,
        _refused("stack must be a Stack or a list of tokens"),
    ),
    # Zones.
    Deviation("clearing makes no zone", ("space:clearZone",), _always, _done),
    Deviation("shuffling makes no zones", ("space:shuffleZone",), _always, _done),
    Deviation("a locked zone is not deleted, and a lock goes with its zone", ("space:deleteZone",), _always, _done),
    Deviation("the names of locks are none of zones", ("space:*",), _names_a_lock, _whatever),
    Deviation(
        "a zone has a name, which is a text",
        ("space:*",),
        _nameless_zone,
        _refused("(zone|name|fromZone|toZone) (required|must be a string)"),
    ),
    Deviation(
        "a zone is locked or not, and a side is up or not: true or false",
        ("space:lockZone", "space:place", "space:flip"),
        _ill_flag,
        _refused("(locked|faceUp) must be true or false"),
    ),
    Deviation(
        "opts are an object", ("space:place",), _unless(_is_object_or_null, "opts"), _refused("opts must be an object")
    ),
    Deviation("a label is a text", ("space:place",), _always, _refused("label must be a string")),
    Deviation(
        "a place is a number within bounds",
        ("space:*",),
        _ill_place,
        _refused("(x|y|angleStep|radius) must be a number"),
    ),
    # Agents.
    Deviation("agents are in the order in which they were made", ("agent:getAll",), _always, _other_order),
    Deviation("a name is nothing but a name", ("agent:*",), _names_a_member, _whatever),
    Deviation(
        "an agent has a name, which is a text",
        ("agent:*",),
        _nameless_agent,
        _refused("(name|from|to|agent1|agent2) (required|must be a string)"),
    ),
    Deviation(
        "meta is an object", ("agent:create",), _unless(_is_object_or_null, "meta"), _refused("meta must be an object")
    ),
    Deviation(
        "an agent is active or not: true or false",
        ("agent:setActive",),
        _unless(_is_flag, "active"),
        _refused("active must be true or false"),
    ),
    Deviation(
        "an amount is a number, not below 0", _RESOURCES, _bad_amount, _refused("amount must be a number|resource req")
    ),
    Deviation("a resource has a name", _RESOURCES, _no_resource, _refused("resource (required|must be a string)")),
    Deviation(
        "a token is an object",
        ("agent:addToken", "token:*", "tokens:map", "tokens:forEach"),
        _no_object_among,
        _refused("(token|host|attachment|each token) must be an object"),
    ),
    Deviation(
        "an offered token has an id",
        ("agent:trade",),
        _offers_no_object,
        _refused("an offered token must be an object with an id"),
    ),
    Deviation(
        "a token is asked for by its id",
        ("agent:removeToken", "agent:transferToken", "agent:stealToken"),
        _without(lambda value: value is not None, "tokenId"),
        _refused("tokenId required"),
    ),
    Deviation("a missing offer is an empty one", ("agent:trade",), _an_offer_is_missing, _done),
    Deviation(
        "an offer is an object",
        ("agent:trade",),
        _unless(_is_object_or_null, "offer1", "offer2"),
        _refused("offer[12] must be an object"),
    ),
    Deviation(
        "nobody trades with themselves",
        ("agent:trade",),
        _same_traders,
        _refused('Agent ".*" cannot trade with itself'),
    ),
    Deviation("every copy that leaves a hand is discarded", ("agent:discardCards",), _always, _more),
    Deviation("ids come in a list", ("agent:discardCards",), _ill_ids, _refused("tokenIds must be a list of ids")),
    # The game, its loop and the rules.
    Deviation("a pause counts once", ("game:resume",), _always, _done),
    Deviation(
        "what is counted on is a number",
        ("game:nextPhase", "game:resume"),
        _always,
        _refused("(turn|totalPauseDuration|pauseTime) of the game state must be a number"),
    ),
    Deviation(
        "only an object is merged into the game's state",
        ("game:mergeState",),
        _without(_is_object, "state"),
        _refused("state object required"),
    ),
    Deviation(
        "only an object is merged into an object",
        ("game:setState",),
        _always,  # what is there says whether it is refused
        _refused("'.*' is an object, and the value is none"),
    ),
    Deviation(
        "what has actions of its own is out of reach", ("game:setState",), _is_owned, _refused("'.*' has actions")
    ),
    Deviation(
        "a key is a text that is not empty", ("game:setProperty",), _without(_is_text, "key"), _refused("key required")
    ),
    Deviation(
        "what a game keeps is JSON, and not too deep",
        ("game:setProperty", "game:mergeState", "game:setState"),
        _always,
        _refused("value must (be JSON|not be nested)"),
    ),
    Deviation(
        "an agent's index, and the number of agents, are whole numbers",
        ("game:setActiveAgent", "game:nextTurn"),
        lambda step: not (_is_integer(step.get("index") or 0) and _is_integer(step.get("agentCount") or 0)),
        _refused("(index|agentCount) must be an integer"),
    ),
    Deviation("the next turn is that of an agent", ("game:nextTurn",), _always, _done),
    Deviation(
        "a rule has a name, which is a text",
        ("rule:markFired",),
        _without(_is_text, "name"),
        _refused("name (required|must be a string)"),
    ),
    # Tokens.
    Deviation("a merged token has an id of its own", ("token:merge",), _always, _done),
    Deviation(
        "a token is split into a whole number of tokens, up to 10000",
        ("token:split",),
        _unless(lambda value: _is_integer(value) and value <= MOST_OF_ONE, "count"),
        _refused("Invalid split count: "),
    ),
    Deviation(
        "properties are an object, and lists are lists",
        ("token:*",),
        _always,
        _refused("(properties|propertiesArray|_attachments of the host) must be "),
    ),
    Deviation(
        "the fields of a part are an object",
        ("token:split",),
        _no_object_among_those,
        _refused("each of propertiesArray must be an object"),
    ),
    Deviation("counts are whole numbers, not below 0", ("tokens:draw",), _ill_counts, _refused("Invalid draw count: ")),
    Deviation(
        "a seed is a number or a text",
        ("tokens:shuffle",),
        _unless(_is_seed_or_text, "seed"),
        _refused("Invalid seed: "),
    ),
    Deviation("a deck is a list", ("tokens:shuffle", "tokens:draw"), _ill_decks, _refused("each deck must be a list")),
    Deviation(
        "what is null has no flag, and says none",
        ("tokens:filter", "tokens:find", "tokens:count"),
        _was_an_error,
        _whatever,
    ),
)
