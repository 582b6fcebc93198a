"""Rules: what is to be done on a table whenever something is so.

    deal = Rule("deal", everybody_is_here, [stack.shuffle(), agents.draw("Alice", 5)], once=True)
    await engine.watch(RuleEngine([deal]))

They look on where the table is, so conditions and functions must be ones that a worker can import. Which rules have
fired stands in the table itself, under `rules`: it is undone, saved and restored with the rest.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

from hybrid_compute.engine.watchers import Entry, Inside

Condition: TypeAlias = Callable[[Inside, Entry], bool]
Sequel: TypeAlias = Sequence[tuple[str, Any]] | Callable[[Inside, Entry], object]


@dataclass(frozen=True, slots=True)
class Rule:
    """Does its `sequel` after each action for which `condition` holds; after the first one only, if `once`.

    A sequel is a list of actions, or a function that does them by `inside.dispatch`. A greater `priority` comes first.
    """

    name: str
    condition: Condition
    sequel: Sequel
    priority: float = 0
    once: bool = False

    def play(self, inside: Inside, entry: Entry) -> None:
        """Do the sequel, and tell `rule:triggered`; or `rule:error`, and what comes after the error is not done."""
        try:
            if callable(self.sequel):
                self.sequel(inside, entry)
            else:
                for type, payload in self.sequel:
                    inside.dispatch(type, payload)
        except Exception as error:
            self._fail(inside, error)
        else:
            inside.tell("rule:triggered", {"name": self.name})

    def holds(self, inside: Inside, entry: Entry) -> bool:
        """Whether the condition holds. If that cannot be said, it does not, and `rule:error` is told."""
        try:
            return bool(self.condition(inside, entry))
        except Exception as error:
            self._fail(inside, error)
            return False

    def _fail(self, inside: Inside, error: Exception) -> None:
        inside.tell("rule:error", {"name": self.name, "error": str(error)})


class RuleEngine:
    """Rules that look on together; as a watcher it has a name, so that another of that name takes its place."""

    def __init__(self, rules: Iterable[Rule], *, name: str = "rules") -> None:
        self.name = name
        self.rules = sorted(rules, key=lambda rule: -rule.priority)

    def see(self, inside: Inside, entry: Entry) -> None:
        """Note the rules that fire, in their order; what they do comes when all have seen the action."""
        for rule in self.rules:
            if rule.once and rule.name in _fired(inside):
                continue
            if rule.holds(inside, entry):
                if rule.once:
                    inside.dispatch("rule:markFired", {"name": rule.name})
                inside.later(rule.play)


def _fired(inside: Inside) -> dict[str, Any]:
    """When each rule has fired. The memory is made if there is none."""
    if "rules" not in inside.state.document:
        inside.dispatch("rule:initRules")
    fired: dict[str, Any] = inside.state.document["rules"]["fired"]
    return fired
