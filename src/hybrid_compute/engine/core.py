"""The engine where its state lives: one thing after another, in this process or in a worker, without a loop or a clock.

    do(request) ──> the action, in its turn ──> Done or Failed, with what was told
                        │ raised: the state is as before
                        └ went well: history, engine:action, watchers

What an action does follows from state, entry and seed alone: so a state that was lost, or is to be undone, is an older
copy of it with the entries since done again.
"""

from __future__ import annotations

import pickle
from collections import deque
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any, NamedTuple, TypeAlias, TypeVar

from hybrid_compute.engine.actions import Action, ActionRegistry
from hybrid_compute.engine.checkpoints import EVERY, Checkpoints
from hybrid_compute.engine.copying import copied, copy_of
from hybrid_compute.engine.turn import Told, Turn, turn
from hybrid_compute.engine.watchers import DEPTH, Entry, Inside, Unwatched, Watcher
from hybrid_compute.errors import (
    ActionFailed,
    EngineError,
    HybridComputeError,
    InvalidInput,
    NotTransferable,
)
from hybrid_compute.links.codec import OF_THE_TASK, READING_FAILED, dumps

A = TypeVar("A")
B = TypeVar("B")


class Request(NamedTuple):
    """What was dispatched. Its payload is the core's own: nobody else changes it."""

    type: str
    payload: Any
    now: int
    """Milliseconds since 1970."""
    reversible: bool = True


class Done(NamedTuple):
    """An action went well."""

    result: Any
    entries: list[Entry]
    """Its own, and those of actions that followed from it."""
    told: list[Told]


class Failed(NamedTuple):
    """An action did not, and the state is as before."""

    error: HybridComputeError
    entries: list[Entry]
    """None of its own."""
    told: list[Told]


Outcome: TypeAlias = Done | Failed


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """What an engine is made of. It goes to the worker, so all that is in it can be pickled.

    `state` makes the state as it is at first, and the actions named in `first` are done then. All chance follows from
    `seed`. So many `checkpoints` are kept for `undo`. `check` raises `InvalidInput` for what an action does not take.
    """

    state: Callable[[], Any]
    actions: ActionRegistry
    seed: int = 0
    first: tuple[str, ...] = ()
    checkpoints: int = 5
    check: Callable[[str, Any], object] | None = None


class Description(NamedTuple):
    """What an engine is made of, and how far it is: what `Engine.describe` gives."""

    state: str
    """The name of its type."""
    actions: list[str]
    seed: int
    history: int
    """How many entries it has."""
    policies: list[str]


class _Due(NamedTuple):
    """What a watcher does once the action that it has seen is over."""

    watcher: Watcher
    entry: Entry
    depth: int
    work: Callable[[Inside, Entry], object]


class Core:
    """State, actions, and what has been done."""

    def __init__(self, plan: Plan, *, alone: bool = False) -> None:
        self.plan = plan
        self._alone = alone  # what goes out crosses to another process anyway, and is copied by that
        self.state = plan.state()
        self.history: list[Entry] = []
        self.watchers: dict[str, Watcher] = {}
        self._serial = 0
        self._wanted: frozenset[str] = frozenset()
        self._agenda: deque[_Due] = deque()
        self._depth = 0
        self._checkpoints = Checkpoints(self.state, most=plan.checkpoints)

    def begin(self, now: int) -> list[Entry]:
        """Do the first actions. Raises what they raise."""
        for name in self.plan.first:
            outcome = self.do(Request(name, {}, now))
            if isinstance(outcome, Failed):
                raise outcome.error
        return list(self.history)

    # Doing.

    def do(self, request: Request) -> Outcome:
        """Do one action, and what follows from it."""
        outcome = self.step(request)
        if self._agenda:
            self.settle(outcome)
        return outcome

    def do_all(self, requests: Iterable[Request]) -> list[Outcome]:
        """Do several, or none: if one fails, that is the one outcome, and the state is as before."""
        length, serial, watchers = len(self.history), self._serial, dict(self.watchers)
        done: list[Outcome] = []
        for request in requests:
            outcome = self.do(request)
            if isinstance(outcome, Failed):
                self.return_to(length)
                self._serial, self.watchers = serial, watchers
                return [outcome]
            done.append(outcome)
        return done

    def wholly(self, do: Callable[[A], B], asked: A) -> B:
        """Do something, or nothing of it: if it raises, an interrupt say, the state is as before."""
        length, watchers = len(self.history), dict(self.watchers) if self.watchers else {}
        try:
            return do(asked)
        except BaseException:
            self._agenda.clear()
            self.return_to(length)
            self.watchers = watchers
            raise

    def settle(self, outcome: Outcome) -> None:
        """Do what watchers have put off until now, and add it to the outcome of what it follows from."""
        while self._agenda:
            due = self._agenda.popleft()
            self._depth = due.depth
            try:
                self._let(due.watcher, due.entry, outcome, due.work)
            finally:
                self._depth = 0

    def step(self, request: Request) -> Outcome:
        """Do one action. What watchers put off is still to be done then: see `settle`."""
        type, payload, now, reversible = request
        try:
            action = self.plan.actions[type]
            if self.plan.check is not None:
                self.plan.check(type, payload)
        except HybridComputeError as error:
            return self._failed(request, error)
        length = len(self.history)
        if length % EVERY == 0:
            self._checkpoints.reach(length, self.state)
        self._serial = serial = self._serial + 1
        it = Turn(self.plan.seed, serial, now)
        ran = False
        try:
            kept = payload if action.careful else copied(payload)
            result = _run(action, self.state, payload, it)
            ran = True
            if not (self._alone and action.careful):  # what could not cross is not to be done
                result = copied(result)
            if it.told and not action.careful:
                it.told = copied(it.told)
        except OF_THE_TASK as error:
            if not action.reads and (ran or not action.careful):
                self.return_to(length)
            return self._failed(request, error)
        entry = Entry(serial, type, kept, now, reversible)
        self.history.append(entry)
        told = self._told(action, entry, result, it.told) if self._wanted else []
        done = Done(result, [entry], told)
        if self.watchers and self._depth < DEPTH:
            self._show(entry, done)
        return done

    def _failed(self, request: Request, error: BaseException) -> Failed:
        told = Told("engine:error", {"action": request.type, "error": _text(error)}, "engine")
        return Failed(_as_ours(error), [], self.heard([told]))

    def _told(self, action: Action, entry: Entry, result: Any, told: list[Told]) -> list[Told]:
        """What is told of an action that went well, to those who listen."""
        if not action.reads:
            told.insert(0, Told("state:updated", {"length": len(self.history)}, "engine"))
        told.append(Told("engine:action", {**entry._asdict(), "result": result}, "engine"))
        heard = self.heard(told)
        return heard if self._alone else copied(heard)

    def heard(self, told: list[Told]) -> list[Told]:
        """Those that somebody listens to."""
        return told if "*" in self._wanted else [each for each in told if each.type in self._wanted]

    def listen(self, wanted: frozenset[str]) -> None:
        """From now on tell events of these types; `*` stands for all."""
        self._wanted = wanted

    # Watching.

    def watch(self, watcher: Watcher) -> None:
        """From now on show it each action that went well, after those who were there before."""
        self.watchers[watcher.name] = watcher

    def unwatch(self, name: str) -> None:
        self.watchers.pop(name, None)

    def _show(self, entry: Entry, done: Done) -> None:
        self._depth += 1
        try:
            for watcher in list(self.watchers.values()):
                self._let(watcher, entry, done, watcher.see)
        finally:
            self._depth -= 1

    def put_off(self, watcher: Watcher, entry: Entry, work: Callable[[Inside, Entry], object]) -> None:
        """Have a watcher do some work on this entry when all that is under way is over."""
        self._agenda.append(_Due(watcher, entry, self._depth, work))

    def _let(self, watcher: Watcher, entry: Entry, outcome: Outcome, work: Callable[[Inside, Entry], object]) -> None:
        """Have a watcher do its work on an action that it has seen."""
        inside = _Inside(self, watcher, entry, outcome)
        try:
            work(inside, entry)
        except Exception as error:
            inside.take_back()
            what = {"action": entry.type, "phase": "policy", "policy": watcher.name, "error": _text(error)}
            inside.tell("engine:error", what)

    # Going back, and doing again.

    def undo(self, steps: int | None = None) -> Entry | None:
        """Take back the last `steps` actions; without a number, all since the last checkpoint, if there is one.

        Gives the last action that was taken back; None if there was nothing to take back, or one of them is not
        `reversible`.
        """
        last = self.history[-1] if self.history else None
        if last is None or not last.reversible:
            return None
        if steps is None:
            checkpoint = self._checkpoints.pop()
            if checkpoint is None:
                return None
            self.return_to(checkpoint)
            return last
        length = max(self._checkpoints.first, len(self.history) - steps)
        if length == len(self.history) or not all(each.reversible for each in self.history[length:]):
            return None
        self.return_to(length)
        return last

    def return_to(self, length: int) -> None:
        """The state as it was after so many entries: an older copy of it, with the entries since done again."""
        self._forget_after(length)
        start, state = self._checkpoints.last_copy
        self.state = copy_of(state)
        for entry in self.history[start:]:
            self._again(entry)

    def repeat(self, entries: Iterable[Entry]) -> None:
        """Go on with entries of another engine that has begun as this one. Nobody is told or asked."""
        for entry in entries:
            self._checkpoints.reach(len(self.history), self.state)
            self._again(entry)
            self.history.append(entry)
            self._serial = entry.serial

    def replay(self, entries: list[Entry]) -> int:
        """Begin anew and do these, which are all that another engine of this plan has done; how many there are.

        Raises `EngineError` if one of them cannot be done; then nothing has changed.
        """
        again = Core(self.plan)
        for entry in copied(entries):
            try:
                again.repeat([entry])
            except Exception as error:
                raise EngineError(
                    f"entry {len(again.history)} of the log, {entry.type!r}, cannot be done again: {error}"
                ) from error
        self.state, self.history, self._serial = again.state, again.history, again._serial
        self._checkpoints = again._checkpoints
        return len(self.history)

    def _again(self, entry: Entry) -> None:
        action = self.plan.actions[entry.type]
        if not action.reads:
            payload = entry.payload if action.careful else copied(entry.payload)
            _run(action, self.state, payload, Turn(self.plan.seed, entry.serial, entry.timestamp))

    def peek(self) -> Any:
        """A copy of the state."""
        return copy_of(self.state)

    def entries(self, start: int = 0) -> list[Entry]:
        """What was done, from there on."""
        entries = self.history[start:]
        return entries if self._alone else copied(entries)

    def describe(self) -> Description:
        """What it is made of, and how far it is."""
        actions, policies = list(self.plan.actions), list(self.watchers)
        return Description(type(self.state).__name__, actions, self.plan.seed, len(self.history), policies)

    def compact(self) -> None:
        """Forget what was done. The state stays, and can no longer be undone."""
        self.history.clear()
        self._start_over()

    def _forget_after(self, length: int) -> None:
        del self.history[length:]
        self._checkpoints.forget_after(length)

    def _start_over(self) -> None:
        self._checkpoints.start_over(len(self.history), self.state)

    # As bytes.

    def snapshot(self) -> bytes:
        """State and history, for `restore` here or in another engine of the same plan."""
        return dumps((self.state, self.history, self._serial), None)

    def backup(self) -> bytes:
        """The same with what `undo` goes back to, for an engine that is to go on as this one."""
        return dumps((self.state, self.history, self._serial, self._checkpoints.kept()), None)

    def go_on(self, backup: bytes) -> None:
        """Be as the engine was that the backup is of."""
        self.state, self.history, self._serial, kept = pickle.loads(backup)
        self._checkpoints.go_on(kept, len(self.history), self.state)

    def restore(self, snapshot: bytes) -> int:
        """Go on from a snapshot; the length of its history.

        Raises `EngineError` if it is none, or not one of an engine like this; then nothing has changed.
        """
        self.state, self.history, self._serial = self._read(snapshot)
        self._start_over()
        return len(self.history)

    def _read(self, snapshot: bytes) -> tuple[Any, list[Entry], int]:
        try:
            state, history, serial = pickle.loads(snapshot)
            unknown = sorted({entry.type for entry in history if entry.type not in self.plan.actions})
        except Exception as error:  # bytes that are no pickle may raise anything
            raise EngineError(f"this is no snapshot of an engine: {type(error).__name__}: {error}") from error
        theirs, ours = _name(state), _name(self.state)
        if theirs != ours:
            raise EngineError(f"this snapshot is of another engine: its state is a {theirs}, and here it is a {ours}")
        if unknown:
            raise EngineError(f"this snapshot is of another engine: it has done {unknown}, unknown here")
        return state, history, serial


class _Inside:
    """What `watchers.Inside` promises, within one action."""

    def __init__(self, core: Core, watcher: Watcher, entry: Entry, outcome: Outcome) -> None:
        self._core = core
        self._watcher = watcher
        self._entry = entry
        self._outcome = outcome
        self._told: list[Told] = []

    @property
    def state(self) -> Any:
        return self._core.state

    @property
    def history(self) -> list[Entry]:
        return self._core.history

    def dispatch(self, type: str, payload: Any = None) -> Any:
        request = own(Request(type, {} if payload is None else payload, self._entry.timestamp))
        outcome = self._core.step(request)
        self._outcome.entries.extend(outcome.entries)
        self._outcome.told.extend(outcome.told)
        if isinstance(outcome, Failed):
            raise outcome.error
        return outcome.result

    def later(self, work: Callable[[Inside, Entry], object]) -> None:
        self._core.put_off(self._watcher, self._entry, work)

    def tell(self, type: str, payload: Any) -> None:
        told = self._core.heard([Told(type, payload, "engine")])
        self._told += told
        self._outcome.told.extend(told)

    def unwatch(self, name: str) -> None:
        self._core.unwatch(name)
        # Told in any case: the owner of an engine that lives elsewhere has to know it too.
        self._outcome.told.append(Unwatched("engine:unwatched", {"name": name}, "engine"))

    def take_back(self) -> None:
        """It raised: what it has told, in the belief that all went well, is not told."""
        self._outcome.told[:] = [each for each in self._outcome.told if not any(each is told for told in self._told)]


def _run(action: Action, state: Any, payload: Any, it: Turn) -> Any:
    token = turn.set(it)
    try:
        return action.handler(state, payload)
    finally:
        turn.reset(token)


def own(request: Request) -> Request:
    """The request with a payload that nobody else has. Raises `NotTransferable`."""
    type, payload, now, reversible = request
    try:
        return Request(type, copied(payload), now, reversible)
    except READING_FAILED as error:  # whatever its classes raise
        raise cannot_travel(type, error) from error


def cannot_travel(type: str, error: BaseException) -> NotTransferable:
    """What to raise where a payload cannot be copied, for this reason."""
    reason = "it is nested too deeply" if isinstance(error, RecursionError) else _text(error)
    return NotTransferable(f"the payload of action {type!r} cannot travel: {reason}")


def _as_ours(error: BaseException) -> HybridComputeError:
    if isinstance(error, EngineError | InvalidInput) and _travels(error):
        return error
    failure = ActionFailed(f"{type(error).__name__}: {_text(error)}")
    failure.__cause__ = error
    return failure


def _travels(error: HybridComputeError) -> bool:
    try:
        return isinstance(copied(error), type(error))
    except READING_FAILED:  # its author's code; the text of it travels in any case
        return False


def _text(error: BaseException) -> str:
    try:
        return str(error)
    except Exception as broken:
        return f"<its __str__ raised {type(broken).__name__}>"


def _name(state: Any) -> str:
    return f"{type(state).__module__}.{type(state).__qualname__}"
