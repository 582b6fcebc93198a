"""Events are frozen values, and a hook that fails breaks nothing."""

import dataclasses
import logging
import pickle
from typing import Any, get_args

import pytest

from hybrid_compute import events
from hybrid_compute.errors import WorkerLost
from hybrid_compute.events import CallFinished, CallPassedOn, CallStarted, Event, Hooks, Progress, WorkerStopped

EVENTS: tuple[Any, ...] = get_args(Event)

EXAMPLES: list[Event] = [
    CallStarted(1, "add", "worker"),
    CallFinished(1, "add", "worker", 0.1, None, 10, 20, None),
    CallPassedOn(1, "add", "worker", WorkerLost("gone")),
    Progress(1, "add", 3.0, None, "half way"),
    events.WorkerStarted("worker", 7),
    WorkerStopped("worker", 7, -9, "killed"),
]


def test_every_event_is_in_the_union() -> None:
    """Whoever matches on `Event` has all of them."""
    defined = {each for each in vars(events).values() if isinstance(each, type) and dataclasses.is_dataclass(each)}
    assert defined == set(EVENTS) == {type(example) for example in EXAMPLES}


@pytest.mark.parametrize("event", EXAMPLES, ids=lambda event: type(event).__name__)
def test_an_event_is_a_frozen_value(event: Any) -> None:
    """It can be compared and kept, and no hook can change what the next one sees."""
    assert event == dataclasses.replace(event)
    assert not hasattr(event, "__dict__")
    with pytest.raises(dataclasses.FrozenInstanceError):
        setattr(event, dataclasses.fields(event)[0].name, "other")


@pytest.mark.parametrize("event", EXAMPLES, ids=lambda event: type(event).__name__)
def test_an_event_pickles(event: Any) -> None:
    """It can go to a log in another process."""
    back = pickle.loads(pickle.dumps(event))
    assert repr(back) == repr(event)


def test_hooks_are_an_ordinary_list() -> None:
    """Empty it is false, which is all that an emitter has to ask."""
    hooks = Hooks()
    assert not hooks
    seen: list[Event] = []
    hooks.append(seen.append)
    assert hooks
    hooks.emit(EXAMPLES[0])
    hooks.remove(seen.append)
    assert not hooks
    assert seen == EXAMPLES[:1]


def test_hooks_are_called_in_order_with_every_event() -> None:
    """First registered, first told."""
    seen: list[tuple[str, Event]] = []
    hooks = Hooks([lambda event: seen.append(("first", event)), lambda event: seen.append(("second", event))])
    for event in EXAMPLES[:2]:
        hooks.emit(event)
    assert seen == [(name, event) for event in EXAMPLES[:2] for name in ("first", "second")]


def test_a_hook_that_fails_is_logged_and_breaks_nothing(caplog: pytest.LogCaptureFixture) -> None:
    """The other hooks are told, the emitter goes on, and the log has the traceback."""
    seen: list[Event] = []

    def broken(event: Event) -> None:
        raise ValueError("a bug in a hook")

    hooks = Hooks([broken, seen.append])
    with caplog.at_level(logging.ERROR, "hybrid_compute"):
        hooks.emit(EXAMPLES[0])
    assert seen == EXAMPLES[:1]
    [record] = caplog.records
    assert "broken" in record.getMessage()
    assert "CallStarted" in record.getMessage()
    assert record.exc_info
    assert record.exc_info[0] is ValueError


def test_what_stops_the_program_passes_through_a_hook() -> None:
    """An interrupt that arrives inside a hook is not swallowed."""

    def interrupted(event: Event) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        Hooks([interrupted]).emit(EXAMPLES[0])


def test_a_hook_may_remove_itself_while_it_is_called() -> None:
    """The hooks after it are still told."""
    seen: list[str] = []
    hooks = Hooks()

    def once(event: Event) -> None:
        hooks.remove(once)
        seen.append("once")

    hooks += [once, lambda event: seen.append("always")]
    hooks.emit(EXAMPLES[0])
    hooks.emit(EXAMPLES[0])
    assert seen == ["once", "always", "always"]
