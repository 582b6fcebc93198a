"""The engines that live in this worker, each under its name. What its owners ask for arrives here as plain tasks."""

from __future__ import annotations

from time import time
from typing import Any, TypeAlias

from hybrid_compute.engine.core import Core, Done, Outcome, Plan, Request
from hybrid_compute.engine.turn import Told
from hybrid_compute.engine.watchers import Entry, Watcher
from hybrid_compute.tasks import task

_cores: dict[str, Core] = {}

Brief: TypeAlias = tuple[bool, Any, int | list[Entry], list[Told]]
"""An outcome without what its asker knows: whether it went well, result or error, its serial if its own is the only
entry or else the entries, and what was told."""


@task(name="engine.begin")
def begin(
    name: str, plan: Plan, wanted: frozenset[str], watchers: list[Watcher], snapshot: bytes | None, entries: list[Entry]
) -> list[Entry]:
    """Make an engine, or one that is as another was; the entries that it begins with, if it is a new one."""
    core = _cores[name] = Core(plan, alone=True)
    core.listen(wanted)
    for watcher in watchers:
        core.watch(watcher)
    if snapshot is None and not entries:
        return core.begin(int(time() * 1000))
    if snapshot is not None:
        core.restore(snapshot)
    core.repeat(entries)
    return []


@task(name="engine.do")
def do(name: str, type: str, payload: Any, now: int, reversible: bool) -> Brief | None:
    """Do one action; None if the engine does not live here."""
    core = _cores.get(name)
    return None if core is None else brief(core.do(Request(type, payload, now, reversible)))


@task(name="engine.do_many")
def do_many(name: str, requests: list[Request], atomic: bool) -> list[Brief] | None:
    """Do several, in order; None if the engine does not live here."""
    core = _cores.get(name)
    if core is None:
        return None
    return [brief(each) for each in (core.do_all(requests) if atomic else core.do_each(requests))]


@task(name="engine.ask")
def ask(name: str, verb: str, *args: Any) -> tuple[Any] | None:
    """What a method of the core returns; None if the engine does not live here."""
    core = _cores.get(name)
    return None if core is None else (getattr(core, verb)(*args),)


@task(name="engine.end")
def end(name: str) -> bool:
    """Forget the engine; whether it was there."""
    return _cores.pop(name, None) is not None


def brief(outcome: Outcome) -> Brief:
    entries = outcome.entries
    if isinstance(outcome, Done):
        return True, outcome.result, entries[0].serial if len(entries) == 1 else entries, outcome.told
    return False, outcome.error, entries, outcome.told
