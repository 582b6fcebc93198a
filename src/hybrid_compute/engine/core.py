"""The engine where its state lives: one thing after another, in this process or in a worker, without a loop or a clock.

    do(request) ──> the action, in its turn ──> Done or Failed, with what was told
                        │ raised: the state is as before
                        └ went well: history, engine:action, watchers

What an action does follows from state, entry and seed alone: so a state that was lost, or is to be undone, is an older
copy of it with the entries since done again.
"""

from __future__ import annotations

import copy
import pickle
from collections import deque
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any, Final, NamedTuple, TypeAlias

from hybrid_compute.engine.actions import Action, ActionRegistry
from hybrid_compute.engine.turn import Told, Turn, turn
from hybrid_compute.engine.watchers import DEPTH, Entry, Watcher
from hybrid_compute.errors import ActionFailed, ActionNotFound, EngineError

CHECKPOINT_EVERY: Final = 50
"""Entries between two copies of the state."""


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

    error: EngineError
    entries: list[Entry]
    """Those of actions that were due before it."""
    told: list[Told]


Outcome: TypeAlias = Done | Failed


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """What an engine is made of. It goes to the worker, so all that is in it can be pickled.

    `state` makes the state as it is at first, and the actions named in `first` are done then. All chance follows from
    `seed`. So many `checkpoints` are kept for `undo`.
    """

    state: Callable[[], Any]
    actions: ActionRegistry
    seed: int = 0
    first: tuple[str, ...] = ()
    checkpoints: int = 5


class _Checkpoint(NamedTuple):
    """The state as it was after so many entries."""

    length: int
    state: Any


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
        self._agenda: deque[Request] = deque()
        self._depth = 0
        self._base = _Checkpoint(0, _copy(self.state))
        self._checkpoints: deque[_Checkpoint] = deque(maxlen=plan.checkpoints)

    def begin(self, now: int) -> list[Entry]:
        """Do the first actions. Raises what they raise."""
        for name in self.plan.first:
            outcome = self.do(Request(name, {}, now))
            if isinstance(outcome, Failed):
                raise outcome.error
        return list(self.history)

    # Doing.

    def do(self, request: Request) -> Outcome:
        """Do one action, after those that are due, and what follows from it."""
        due = self.settle() if self._agenda and not self._depth else None
        outcome = self._do(request)
        if due is not None:
            outcome.entries[:0], outcome.told[:0] = due
        return outcome

    def do_each(self, requests: Iterable[Request]) -> list[Outcome]:
        """Do several, each by itself."""
        return [self.do(request) for request in requests]

    def do_all(self, requests: Iterable[Request]) -> list[Outcome]:
        """Do several, or none: if one fails, that is the one outcome, and the state is as before."""
        before, length, serial, agenda = _copy(self.state), len(self.history), self._serial, self._agenda.copy()
        done: list[Outcome] = []
        for request in requests:
            outcome = self.do(request)
            if isinstance(outcome, Failed):
                self.state, self._serial, self._agenda = before, serial, agenda
                self._forget_after(length)
                return [outcome]
            done.append(outcome)
        return done

    def settle(self) -> tuple[list[Entry], list[Told]]:
        """Do what is due; the entries, and what was told."""
        entries: list[Entry] = []
        told: list[Told] = []
        while self._agenda:
            outcome = self._do(self._agenda.popleft())
            entries += outcome.entries
            told += outcome.told
        return entries, told

    def _do(self, request: Request) -> Outcome:
        type, payload, now, reversible = request
        try:
            action = self.plan.actions[type]
        except ActionNotFound as error:
            return self._failed(request, error)
        length = len(self.history)
        if length and length % CHECKPOINT_EVERY == 0:
            self._take_checkpoint(length)
        self._serial = serial = self._serial + 1
        if not self._alone:
            payload = copied(payload)
        kept = payload if action.careful else copied(payload)
        it = Turn(self.plan.seed, serial, now)
        try:
            result = _run(action, self.state, payload, it)
            if not (self._alone and action.careful):  # what could not cross is not to be done
                result = copied(result)
        except Exception as error:
            if not (action.careful or action.reads):
                self.return_to(length)
            return self._failed(request, error)
        entry = Entry(serial, type, kept, now, reversible)
        self.history.append(entry)
        told = self._told(action, entry, result, it.told) if self._wanted else []
        done = Done(result, [entry], told)
        if self.watchers and self._depth < DEPTH:
            self._show(entry, done)
        return done

    def _failed(self, request: Request, error: Exception) -> Failed:
        told = Told("engine:error", {"action": request.type, "error": str(error)}, "engine")
        return Failed(_as_ours(error), [], self._heard([told]))

    def _told(self, action: Action, entry: Entry, result: Any, told: list[Told]) -> list[Told]:
        """What is told of an action that went well, to those who listen."""
        if not action.reads:
            told.insert(0, Told("state:updated", {"length": len(self.history)}, "engine"))
        told.append(Told("engine:action", {**entry._asdict(), "result": result}, "engine"))
        heard = self._heard(told)
        return heard if self._alone else copied(heard)

    def _heard(self, told: list[Told]) -> list[Told]:
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
                inside = _Inside(self, entry.timestamp, done)
                try:
                    watcher.see(inside, entry)
                except Exception as error:
                    inside.take_back()
                    what = {"action": entry.type, "phase": "policy", "policy": watcher.name, "error": str(error)}
                    inside.tell("engine:error", what)
        finally:
            self._depth -= 1

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
            if not self._checkpoints:
                return None
            checkpoint = self._checkpoints.pop()
            self.state = checkpoint.state
            del self.history[checkpoint.length :]
            return last
        length = max(self._base.length, len(self.history) - steps)
        if length == len(self.history) or not all(each.reversible for each in self.history[length:]):
            return None
        self.return_to(length)
        return last

    def return_to(self, length: int) -> None:
        """The state as it was after so many entries: an older copy of it, with the entries since done again."""
        self._forget_after(length)
        checkpoint = self._checkpoints[-1] if self._checkpoints else self._base
        self.state = _copy(checkpoint.state)
        for entry in self.history[checkpoint.length :]:
            self._again(entry)

    def repeat(self, entries: Iterable[Entry]) -> None:
        """Go on with entries of another engine that has begun as this one. Nobody is told or asked."""
        for entry in entries:
            self._again(entry)
            self.history.append(entry)
            self._serial = entry.serial

    def _again(self, entry: Entry) -> None:
        action = self.plan.actions[entry.type]
        if not action.reads:
            payload = entry.payload if action.careful else copied(entry.payload)
            _run(action, self.state, payload, Turn(self.plan.seed, entry.serial, entry.timestamp))

    def peek(self) -> Any:
        """A copy of the state."""
        return _copy(self.state)

    def entries(self, start: int = 0) -> list[Entry]:
        """What was done, from there on."""
        return self.history[start:]

    def compact(self) -> None:
        """Forget what was done. The state stays, and can no longer be undone."""
        self.history.clear()
        self._start_over()

    def _take_checkpoint(self, length: int) -> None:
        if not self._checkpoints or self._checkpoints[-1].length != length:
            self._checkpoints.append(_Checkpoint(length, _copy(self.state)))

    def _forget_after(self, length: int) -> None:
        del self.history[length:]
        while self._checkpoints and self._checkpoints[-1].length > length:
            self._checkpoints.pop()

    def _start_over(self) -> None:
        self._base = _Checkpoint(len(self.history), _copy(self.state))
        self._checkpoints.clear()

    # As bytes.

    def snapshot(self) -> bytes:
        """State and history, for `restore` here or in another engine of the same plan."""
        return pickle.dumps((self.state, self.history, self._serial), 5)

    def restore(self, snapshot: bytes) -> int:
        """Go on from a snapshot; the length of its history."""
        self.state, self.history, self._serial = pickle.loads(snapshot)
        self._agenda.clear()
        self._start_over()
        return len(self.history)


class _Inside:
    """What `watchers.Inside` promises, within one action."""

    def __init__(self, core: Core, now: int, done: Done) -> None:
        self._core = core
        self._now = now
        self._done = done
        self._told: list[Told] = []

    @property
    def state(self) -> Any:
        return self._core.state

    @property
    def history(self) -> list[Entry]:
        return self._core.history

    def dispatch(self, type: str, payload: Any = None) -> Any:
        outcome = self._core.do(self._request(type, payload))
        self._done.entries.extend(outcome.entries)
        self._done.told.extend(outcome.told)
        if isinstance(outcome, Failed):
            raise outcome.error
        return outcome.result

    def later(self, type: str, payload: Any = None) -> None:
        self._core._agenda.append(self._request(type, payload))

    def tell(self, type: str, payload: Any) -> None:
        told = self._core._heard([Told(type, payload, "engine")])
        self._told += told
        self._done.told.extend(told)

    def take_back(self) -> None:
        """It raised: what it has told, in the belief that all went well, is not told."""
        self._done.told[:] = [each for each in self._done.told if not any(each is told for told in self._told)]

    def _request(self, type: str, payload: Any) -> Request:
        return Request(type, {} if payload is None else payload, self._now)


def copied(value: Any) -> Any:
    """A value that shares nothing with the one that was given."""
    return value if type(value) in _ATOMS else pickle.loads(pickle.dumps(value, 5))


_ATOMS = frozenset({int, float, str, bool, bytes, type(None)})


def _run(action: Action, state: Any, payload: Any, it: Turn) -> Any:
    token = turn.set(it)
    try:
        return action.handler(state, payload)
    finally:
        turn.reset(token)


def _copy(state: Any) -> Any:
    """A state that shares with this one nothing that changes. A class may know a quick way: `__deepcopy__`."""
    return copy.deepcopy(state) if hasattr(type(state), "__deepcopy__") else pickle.loads(pickle.dumps(state, 5))


def _as_ours(error: Exception) -> EngineError:
    if isinstance(error, EngineError):
        return error
    failure = ActionFailed(f"{type(error).__name__}: {error}")
    failure.__cause__ = error
    return failure
