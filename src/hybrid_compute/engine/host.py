"""The engines that live in this worker, each under its name. What its owners ask for arrives here as plain tasks.

Requests and outcomes cross as bytes: the pool passes those on as they are, and the owner's log keeps them so.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from functools import partial
from pickle import loads
from typing import Any, TypeAlias

from hybrid_compute.engine.core import Core, Done, Failed, Outcome, Plan, Request, cannot_travel, own
from hybrid_compute.engine.turn import Told
from hybrid_compute.engine.watchers import Entry, Watcher
from hybrid_compute.errors import ActionFailed, EngineError, NotTransferable
from hybrid_compute.links.codec import READING_FAILED, dumps
from hybrid_compute.reporting import stepper
from hybrid_compute.tasks import task

_cores: dict[str, Core] = {}

Brief: TypeAlias = tuple[bool, Any, int | list[Entry], list[Told]]
"""An outcome without what its asker knows: whether it went well, result or error, its serial if its own is the only
entry or else the entries, and what was told."""

Answer: TypeAlias = tuple[Any, ...] | EngineError | NotTransferable | None
"""What a question gives: an answer, or why there is none; None if the engine does not live here."""

Logged: TypeAlias = Entry | tuple[int, bytes]
"""What was done, as the owner keeps it: its own request, packed, has a serial number beside it."""


@task(name="engine.begin", pure=True)
def begin(
    name: str,
    before: str | None,
    plan: Plan,
    now: int,
    wanted: frozenset[str],
    watchers: list[Watcher],
    backup: bytes | None,
    log: list[Logged],
) -> list[Entry]:
    """Make an engine, or one that is as another was; the entries that it begins with, if it is a new one.

    It has another name in each of its lives, so that what was sent to the one `before` finds it no more. Once more is
    as good as once: a worker that dies meanwhile is followed by another.
    """
    if before is not None:
        _cores.pop(before, None)
    core = _cores[name] = Core(plan, alone=True)
    core.listen(wanted)
    for watcher in watchers:
        core.watch(watcher)
    if backup is None and not log:
        return core.begin(now)
    if backup is not None:
        core.go_on(backup)
    core.repeat(each if isinstance(each, Entry) else _entry(*each) for each in log)
    return []


@task(name="engine.do")
def do(name: str, packed: bytes) -> bytes | None:
    """Do one action; its `Brief` as bytes, None if the engine does not live here."""
    core = _cores.get(name)
    if core is None:
        return None
    try:
        return core.wholly(partial(_reply, core), packed)
    except NotTransferable as error:  # nobody could be told that it was done
        return dumps(brief(_untold(error)), None)


@task(name="engine.do_many")
def do_many(name: str, packed: list[bytes], atomic: bool) -> bytes | None:
    """Do several, in order; their briefs as bytes, None if the engine does not live here."""
    core = _cores.get(name)
    if core is None:
        return None

    def do(packed: list[bytes]) -> bytes:
        steps = _steps(packed)
        outcomes = core.do_all(map(unpack, steps)) if atomic else [_do(core, each) for each in steps]
        return dumps([brief(each) for each in outcomes], None)

    try:
        return core.wholly(do, packed)
    except NotTransferable as error:
        return dumps([brief(_untold(error))] * (1 if atomic else len(packed)), None)


def _steps(packed: Iterable[bytes]) -> Iterator[bytes]:
    """The same, while it is told which one is begun."""
    begin = stepper.get()
    for number, each in enumerate(packed, 1):
        if begin is not None:
            begin(number)
        yield each


def _reply(core: Core, packed: bytes) -> bytes:
    return dumps(brief(_do(core, packed)), None)


def _untold(error: NotTransferable) -> Failed:
    return Failed(ActionFailed(f"{type(error).__name__}: {error}"), [], [])


def _do(core: Core, packed: bytes) -> Outcome:
    try:
        request = unpack(packed)
    except NotTransferable as error:
        return Failed(error, [], [])
    return core.do(request)


@task(name="engine.ask")
def ask(name: str, verb: str, *args: Any) -> Answer:
    """What a method of the core returns."""
    core = _cores.get(name)
    try:
        return None if core is None else (getattr(core, verb)(*args),)
    except (EngineError, NotTransferable) as error:
        return error


@task(name="engine.go_back")
def go_back(name: str, verb: str, *args: Any) -> Answer:
    """The same, with a backup of what the core is then, and the length of its history."""
    core = _cores.get(name)
    try:
        return None if core is None else (getattr(core, verb)(*args), core.backup(), len(core.history))
    except (EngineError, NotTransferable) as error:
        return error


@task(name="engine.ping")
def ping() -> None:
    """Nothing: how long does that take?"""


@task(name="engine.end")
def end(name: str) -> bool:
    """Forget the engine; whether it was there."""
    return _cores.pop(name, None) is not None


def brief(outcome: Outcome) -> Brief:
    entries = outcome.entries
    if isinstance(outcome, Done):
        return True, outcome.result, entries[0].serial if len(entries) == 1 else entries, outcome.told
    return False, outcome.error, entries, outcome.told


def pack(request: Request) -> bytes:
    """A request as it travels. Raises `NotTransferable`."""
    try:
        return dumps(tuple(request), None)
    except NotTransferable as error:
        own(request)  # which says it of the payload, and not of what is around it
        raise cannot_travel(request.type, error) from error


def unpack(packed: bytes) -> Request:
    """The request again. Raises `NotTransferable` if what is in it can be packed only."""
    try:
        return Request(*loads(packed))
    except READING_FAILED as error:
        raise NotTransferable(f"the payload cannot travel: {type(error).__name__}: {error}") from error


def _entry(serial: int, packed: bytes) -> Entry:
    return Entry(serial, *unpack(packed))
