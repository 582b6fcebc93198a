"""The error tree is as it is drawn, and every error survives the journey between processes."""

import builtins
import pickle
import re
from typing import Any

import cloudpickle
import pytest
from hypothesis import given
from hypothesis import strategies as st

from hybrid_compute import errors
from hybrid_compute.errors import BackendError, HybridComputeError, TaskFailed, WorkerLost

ALL: list[type[HybridComputeError]] = [getattr(errors, name) for name in errors.__all__]

LINE = re.compile(r"^    (?P<stem>[│├└─ ]*)(?P<name>[A-Z]\w+)(?:\s+.*?)??(?:\(also (?P<also>\w+)\))?$")


def drawn() -> dict[str, tuple[str | None, str | None]]:
    """For each name in the drawing: the one it hangs on, and the builtin it also is."""
    path: list[str] = []
    found: dict[str, tuple[str | None, str | None]] = {}
    assert errors.__doc__
    for line in errors.__doc__.splitlines():
        if match := LINE.match(line):
            depth = len(match["stem"]) // 4
            path[depth:] = [match["name"]]
            found[match["name"]] = (path[depth - 1] if depth else None, match["also"])
    return found


def parent(kind: type[HybridComputeError]) -> str | None:
    """The nearest public ancestor."""
    return next((base.__name__ for base in kind.__mro__[1:] if base.__name__ in errors.__all__), None)


def filled(kind: type[HybridComputeError]) -> HybridComputeError:
    """An error with every attribute that its kind has."""
    facts: dict[str, Any] = {}
    if issubclass(kind, TaskFailed):
        facts["remote_traceback"] = "Traceback ..."
    if issubclass(kind, BackendError):
        facts |= {"backend": "worker", "started": True}
    if issubclass(kind, WorkerLost):
        facts["exit_code"] = -9
    if issubclass(kind, errors.PolicyRefused | errors.NoBackendAvailable):
        facts["refusals"] = {"worker": "it is closed"}
    return kind("what happened", **facts)


def test_the_tree_is_as_drawn() -> None:
    """The drawing at the top of the file is the truth: names, parents, and the builtins they also are."""
    tree = drawn()
    assert sorted(tree) == sorted(errors.__all__)
    for kind in ALL:
        above, also = tree[kind.__name__]
        assert parent(kind) == above
        if also:
            assert issubclass(kind, getattr(builtins, also))


def test_the_builtins_are_all_drawn() -> None:
    """No error is a LookupError, ValueError or the like without the drawing saying so."""
    for kind in ALL:
        extra = {base.__name__ for base in kind.__bases__ if not issubclass(base, HybridComputeError)}
        assert extra - {"Exception"} == ({drawn()[kind.__name__][1]} - {None})


def test_every_class_in_the_module_is_public_and_listed() -> None:
    """An error that can be raised can be caught by name."""
    kinds = {name for name, each in vars(errors).items() if isinstance(each, type) and issubclass(each, Exception)}
    assert {name for name in kinds if name[0] != "_"} == set(errors.__all__)


def test_every_code_is_its_own() -> None:
    """The codes on the wire tell the kinds apart, and follow from the names, so that they are stable."""
    for kind in ALL:
        if kind is not HybridComputeError:
            assert kind.code == re.sub(r"(?<=[a-z])(?=[A-Z])", "_", kind.__name__).lower()
    assert len({kind.code for kind in ALL}) == len(ALL)


@pytest.mark.parametrize("kind", ALL, ids=lambda kind: kind.__name__)
@pytest.mark.parametrize("pickler", [pickle, cloudpickle], ids=["pickle", "cloudpickle"])
def test_every_error_pickles_with_its_attributes(kind: type[HybridComputeError], pickler: Any) -> None:
    """What was known where it was raised is known where it arrives; its notes too."""
    error = filled(kind)
    error.add_note("seen on the way")
    for protocol in range(2, pickle.HIGHEST_PROTOCOL + 1):
        back = pickle.loads(pickler.dumps(error, protocol=protocol))
        assert type(back) is kind
        assert str(back) == str(error) == "what happened"
        assert vars(back) == vars(error)
        assert back.__notes__ == ["seen on the way"]


@pytest.mark.parametrize("kind", ALL, ids=lambda kind: kind.__name__)
def test_every_error_can_be_made_from_a_message_alone(kind: type[HybridComputeError]) -> None:
    """The attributes have values that mean: nobody knows."""
    error = kind("what happened")
    assert str(error) == "what happened"
    assert getattr(error, "started", False) is False
    assert getattr(error, "exit_code", None) is None


def test_refusals_are_a_copy() -> None:
    """What the router does with its own list afterwards does not change the error."""
    refusals = {"worker": "it is closed"}
    error = errors.NoBackendAvailable("no", refusals=refusals)
    refusals.clear()
    assert error.refusals == {"worker": "it is closed"}


@given(st.text(), st.text(), st.booleans(), st.none() | st.integers(-64, 255))
def test_a_lost_worker_round_trips_whatever_it_says(text: str, backend: str, started: bool, code: int | None) -> None:
    """No text and no number is lost in the pickle."""
    back = pickle.loads(pickle.dumps(WorkerLost(text, backend=backend, started=started, exit_code=code)))
    assert (str(back), back.backend, back.started, back.exit_code) == (text, backend, started, code)
