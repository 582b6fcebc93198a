"""An engine with a table, as the vectors ask for it: set up, told what to do, and looked at."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any, Final, NamedTuple, Protocol, TypeAlias

from hybrid_compute.engine.core import Core, Done, Outcome, Plan, Request
from hybrid_compute.engine.listeners import Event, Listeners
from hybrid_compute.engine.turn import Told
from hybrid_compute.engine.watchers import Entry, Inside, Policy
from hybrid_compute.errors import EngineStopped
from hybrid_compute.tabletop import schema, wording
from hybrid_compute.tabletop.actions import ACTIONS
from hybrid_compute.tabletop.asks import game
from hybrid_compute.tabletop.plan import Setup, laid
from hybrid_compute.tabletop.rules import Rule, RuleEngine
from hybrid_compute.tabletop.table import Table


class Answer(NamedTuple):
    """What came of it: a result, or else the error; and what was told, None where that cannot be seen from here."""

    ok: bool
    result: Any
    told: list[Told] | None


class NotOffered(Exception):
    """This engine has no such operation."""


class Playing(Protocol):
    """One engine with one table."""

    @property
    def table(self) -> Table: ...

    def dispatch(self, type: str, payload: Any, *, reversible: bool = True) -> Answer:
        """Do an action. `payload` is None where none is given."""
        ...

    def operate(self, op: str, name: str = "") -> Answer:
        """Do what is no action, with a policy of that `name` where one is meant. Raises `NotOffered`.

        What follows from an action by a rule is done when the vectors ask to `settle`.
        """
        ...


Play: TypeAlias = Callable[[Setup, Callable[[], int]], Playing]


def play(setup: Setup, clock: Callable[[], int]) -> Playing:
    """An engine with a table set up, on which the loop is made ready. `clock` gives milliseconds since 1970."""
    playing = _OnCore(Core(Plan(state=partial(laid, setup), actions=ACTIONS, check=schema.check)), clock)
    playing.dispatch("game:loopInit", None)
    return playing


class _OnCore:
    """Playing straight on the core of an engine: no loop, no worker."""

    def __init__(self, core: Core, clock: Callable[[], int]) -> None:
        self._core = core
        self._clock = clock
        self._snapshot = b""
        self._stopped = False
        self._events: list[Event] = []
        self._listeners = Listeners(lambda: None)
        self._listeners.add("*", self._events.append)
        core.listen(frozenset("*"))

    @property
    def table(self) -> Table:
        table: Table = self._core.state
        return table

    def dispatch(self, type: str, payload: Any, *, reversible: bool = True) -> Answer:
        if self._stopped:
            return Answer(False, EngineStopped("the engine was shut down"), [])
        request = Request(type, {} if payload is None else payload, self._clock(), reversible)
        return self._answer(self._core.step(request))

    def operate(self, op: str, name: str = "") -> Answer:
        core = self._core
        match op:
            case "history.length":
                return _fine(len(core.history))
            case "history.types":
                return _fine(self._types())
            case "history.last":
                entry = core.history[-1]._asdict()
                return _fine({"id": str(entry.pop("serial")), "seed": None, **entry})
            case "undo":
                last = core.undo()
                return _fine(last and last.type)
            case "snapshot.shape":
                return _fine(self._save())
            case "snapshot again":
                self._save()
                return _fine(None)
            case "restore":
                return _fine(core.restore(self._snapshot))
            case "registerPolicy":
                core.watch(Policy(name, lambda inside, entry: True, _EFFECTS[name]))
                return _fine(None)
            case "policy hits":
                return _fine(sum(each.hits for each in core.watchers.values() if isinstance(each, Policy)))
            case "on(draw)":
                self._listeners.add("draw", _shout)
                return _fine(None)
            case "once(draw), once(engine:action), once(state:updated)":
                heard: list[Event] = []
                for type in ("draw", "engine:action", "state:updated"):
                    self._listeners.add(type, heard.append, once=True)
                return self.dispatch("stack:draw", None)._replace(result=[wording.envelope(each) for each in heard])
            case "RuleEngine":
                self.dispatch("rule:initRules", None)
                core.watch(_RULES)
                return _fine(self._types())
            case "settle":
                core.settle(outcome := Done(None, [], []))
                return self._answer(outcome)._replace(result=self._types())
            case "describe":
                return _fine(wording.described(self.table.document))
            case "shutdown":
                self._stopped = True
                core.compact()
                return Answer(True, len(core.history), [Told("engine:shutdown", None, "engine")])
            case "dispatch no:such":
                failed = self.dispatch("no:such", None)
                return Answer(True, wording.rejected(failed.result, cause=True, actionIdIsString=True), failed.told)
            case "dispatch agent:get":
                failed = self.dispatch("agent:get", {"name": "X"})
                return Answer(True, wording.rejected(failed.result, cause=str(failed.result)), failed.told)
            case "dispatch x60: debug:log":
                return self._repeat(60, "debug:log", {})
            case "dispatch x60: agent:giveResource":
                self.dispatch("agent:create", {"name": "A", "id": "a"})
                return self._repeat(59, "agent:giveResource", {"name": "A", "resource": "n"})
            case "dispatch without await":
                drawn = self.dispatch("stack:draw", {"count": 2})
                left = len(self.table.document["stack"]["stack"])
                return drawn._replace(result={"drawn": len(drawn.result), "sizeBeforeAwait": left})
            case _:
                raise NotOffered(op)

    def _answer(self, outcome: Outcome) -> Answer:
        self._events.clear()
        self._listeners.tell(outcome.told)
        told = [wording.event(each) for each in self._events]
        if isinstance(outcome, Done):
            return Answer(True, outcome.result, told)
        return Answer(False, outcome.error, told)

    def _types(self) -> list[str]:
        return [entry.type for entry in self._core.history]

    def _save(self) -> dict[str, Any]:
        """Keep a snapshot; what is in it, in the words of the original, whose documents are CRDTs."""
        self._snapshot = self._core.snapshot()
        inside = {"crdt": "string", "history": self._types(), "policies": list(self._core.watchers)}
        return {**inside, "keys": sorted(inside)}

    def _repeat(self, times: int, type: str, payload: dict[str, Any]) -> Answer:
        for _ in range(times):
            self.dispatch(type, payload)
        return _fine(len(self._core.history))


def _boom(inside: Inside, entry: Entry) -> None:
    raise RuntimeError("boom")


def _shout(event: Event) -> None:
    raise RuntimeError("boom")


_EFFECTS: Final[dict[str, Callable[[Inside, Entry], object]]] = {
    "p": lambda inside, entry: None,
    "loop": lambda inside, entry: inside.dispatch("debug:log"),
    "bad": _boom,
}
"""What the policies of the vectors do, by their names."""


def _was_logged(inside: Inside, entry: Entry) -> bool:
    return entry.type == "debug:log"


_RULES: Final = RuleEngine([Rule("once", _was_logged, [game.set_property("hit", 1)], once=True)])


def _fine(result: Any) -> Answer:
    return Answer(True, result, None)
