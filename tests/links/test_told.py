"""Errors that are told over a network, and what the other end raises of them."""

from __future__ import annotations

import json
import math
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hybrid_compute import errors, task
from hybrid_compute.errors import (
    BackendError,
    BackendUnavailable,
    HybridComputeError,
    LimitExceeded,
    LocalProtocolError,
    NoBackendAvailable,
    PolicyRefused,
    ProtocolError,
    RemoteProtocolError,
    TaskFailed,
    WorkerLost,
)
from hybrid_compute.links.told import tell, told
from hybrid_compute.links.wire import JSON, MESSAGE_PACK, Encoding, Failure, Reply

KINDS = [kind for name in errors.__all__ if issubclass(kind := getattr(errors, name), HybridComputeError)]
ran: list[str] = []


class Tricky(Exception):
    """An exception whose making has an effect."""

    def __init__(self, text: str) -> None:
        ran.append(text)
        super().__init__(text)


@task
def here() -> None:
    return None


def across(error: BaseException, encoding: Encoding = JSON, **options: Any) -> HybridComputeError:
    """What the other end raises of an error, which has gone over the wire in between."""
    data = b"".join(encoding.write_failure(None, tell(error, **options)))
    reply = encoding.read_replies(data)
    assert isinstance(reply, Reply)
    assert reply.error is not None
    return told(Failure(reply.error, reply.code, reply.details), here, "there")


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.__name__)
@pytest.mark.parametrize("encoding", [JSON, MESSAGE_PACK], ids=["json", "msgpack"])
def test_an_error_of_ours_arrives_as_it_was(kind: type[HybridComputeError], encoding: Encoding) -> None:
    """Its type and its text; who broke the protocol depends on who says so."""
    found = across(kind("what went wrong"), encoding)
    assert type(found) is (ProtocolError if issubclass(kind, ProtocolError) else kind)
    assert str(found) == "what went wrong"


@pytest.mark.parametrize("started", [True, False])
@pytest.mark.parametrize(
    "kind", [kind for kind in KINDS if issubclass(kind, BackendError)], ids=lambda kind: kind.__name__
)
def test_whether_a_task_may_have_begun_arrives(kind: type[BackendError], started: bool) -> None:
    """The caller may try another place only if it has not."""
    found = across(kind("x", backend="its worker", started=started))
    assert isinstance(found, BackendError)
    assert (found.started, found.backend) == (started, "there")


def test_what_is_not_said_is_taken_to_have_begun() -> None:
    """A server of another version may not say; to run a call twice would be worse."""
    for details in ({}, {"started": "no"}, {"started": 0}, {"started": None}):
        found = told(Failure("x", "worker_lost", details), here, "there")
        assert isinstance(found, WorkerLost)
        assert found.started


def test_details_arrive() -> None:
    """How a worker died, and why each place refused."""
    lost = across(WorkerLost("x", exit_code=-9))
    assert isinstance(lost, WorkerLost)
    assert lost.exit_code == -9
    for kind in (PolicyRefused, NoBackendAvailable):
        refused = across(kind("x", refusals={"gpu": "none here"}))
        assert isinstance(refused, kind)
        assert refused.refusals == {"gpu": "none here"}


@pytest.mark.parametrize("code", ["unauthorized", "forbidden", "not_found", "too_large", "unsupported_media_type"])
def test_what_a_door_says_is_about_the_place(code: str) -> None:
    """The call has not begun, so another place may do."""
    found = told(Failure("no", code), here, "there")
    assert type(found) is (LimitExceeded if code == "too_large" else BackendUnavailable)
    assert isinstance(found, BackendError)
    assert not found.started
    assert "there" in str(found)
    assert "'here'" in str(found)


def failed(cause: BaseException) -> TaskFailed:
    error = TaskFailed("it failed", remote_traceback="Traceback ...")
    error.__cause__ = cause
    return error


@pytest.mark.parametrize(
    "cause", [ValueError("oh"), KeyError("a", 1), ZeroDivisionError(), OSError(2, "gone"), Tricky("mine")]
)
def test_a_known_cause_arrives_with_its_arguments(cause: Exception) -> None:
    """Of a class that the caller has loaded; its making is not run."""
    ran.clear()
    found = across(failed(cause))
    assert type(found.__cause__) is type(cause)
    assert found.__cause__ is not None
    assert found.__cause__.args == cause.args
    assert ran == []


def test_what_handlers_look_at_arrives_too() -> None:
    """The number of an `OSError`, and the attributes of a class of somebody's own, as far as they are plain."""
    cause = across(failed(FileNotFoundError(2, "gone"))).__cause__
    assert isinstance(cause, FileNotFoundError)
    assert (cause.errno, cause.strerror) == (2, "gone")
    broken = json.JSONDecodeError("odd", "{", 1)
    back = across(failed(broken)).__cause__
    assert isinstance(back, json.JSONDecodeError)
    assert (back.msg, back.doc, back.pos, back.lineno) == ("odd", "{", 1, 1)


@pytest.mark.parametrize("odd", [2**70, -(2**70), math.nan, math.inf, b"x", [1], "x" * 100_000, "\ud800"], ids=repr)
@pytest.mark.parametrize("encoding", [JSON, MESSAGE_PACK])
def test_what_cannot_travel_takes_no_answer_away(odd: object, encoding: Encoding) -> None:
    """An exception that was raised with it is named all the same."""
    failure = tell(failed(ValueError(odd)), tracebacks=True)
    found = encoding.read_replies(b"".join(encoding.write_failure(None, failure)))
    assert not isinstance(found, list)
    assert (found.code, found.details["type"]) == ("task_failed", "ValueError")


@pytest.mark.parametrize("encoding", [JSON, MESSAGE_PACK])
def test_a_failure_that_cannot_be_written_is_written_without_its_details(encoding: Encoding) -> None:
    """Whoever waits for an answer gets one, whatever somebody has put into it."""
    written = b"".join(encoding.write_failure(encoding.null, Failure("odd \ud800", "x", {"y": object()})))
    found = encoding.read_replies(written)
    assert not isinstance(found, list)
    assert (found.error, found.code, found.details) == ("odd ?", "x", {})


@pytest.mark.parametrize(
    ("module", "name"),
    [
        ("subprocess", "Popen"),
        ("os", "system"),
        ("builtins", "eval"),
        ("builtins", "SystemExit"),
        ("builtins", "KeyboardInterrupt"),
        ("builtins", "print"),
        ("builtins", "object"),
        (__name__, "ran"),
        (__name__, "told"),
        (__name__, "__builtins__"),
        (__name__, "Tricky.__init__"),
        ("a.module.that.is.not.there", "Error"),
        (7, "ValueError"),
        ("builtins", 7),
        (None, None),
    ],
)
def test_nothing_else_is_made_of_what_came(module: object, name: object) -> None:
    """Nothing is imported, nothing is called, and nothing that ends a program is raised."""
    details = {"module": module, "type": name, "args": ["echo pwned"]}
    found = told(Failure("it failed", "task_failed", details), here, "there")
    assert type(found) is TaskFailed
    assert found.__cause__ is None


def test_a_traceback_is_told_only_where_it_is_allowed() -> None:
    """It says much of the place where it ran."""
    error = failed(ValueError("oh"))
    assert "traceback" not in tell(error).details
    found = across(error, tracebacks=True)
    assert isinstance(found, TaskFailed)
    assert found.remote_traceback == "Traceback ..."
    assert any("Traceback ..." in note for note in found.__notes__)


def test_an_error_that_nobody_expected_says_nothing() -> None:
    """Its text may have secrets in it; the log of the server has it."""
    assert tell(RuntimeError("password=123")).error == "the server failed to answer: its log says why"
    assert tell(RuntimeError("password=123")).code == "internal_error"


def test_a_code_that_nobody_knows_is_the_fault_of_the_server() -> None:
    """It may be of a later version."""
    assert type(told(Failure("x", "no_such_code"), here, "there")) is RemoteProtocolError
    assert type(told(Failure("x", "local_protocol_error"), here, "there")) is LocalProtocolError


@pytest.mark.parametrize("text", ["", "half \ud800 of one", "line\nbreak", "\0"])
def test_any_text_can_be_told(text: str) -> None:
    """It is never empty, and always Unicode."""
    for encoding in (JSON, MESSAGE_PACK):
        found = str(across(TaskFailed(text), encoding))
        assert found
        found.encode()
    cause = across(failed(ValueError(text))).__cause__
    assert cause is not None
    assert str(cause) == text.replace("\ud800", "?")


anything = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=8,
)


@given(
    code=st.sampled_from(sorted({kind.code for kind in KINDS})) | st.text(max_size=10),
    details=st.fixed_dictionaries(
        {},
        optional={
            name: st.just(value) | anything
            for name, value in {
                "started": True,
                "exit_code": -9,
                "refusals": {"a": "b"},
                "type": "ValueError",
                "module": "builtins",
                "args": ["x"],
                "traceback": "x",
                "backend": "x",
            }.items()
        },
    ),
)
def test_whatever_a_server_tells_is_an_error_of_ours(code: str, details: dict[str, Any]) -> None:
    """With a text and a code, whatever its details are."""
    found = told(Failure("text", code, details), here, "there")
    assert isinstance(found, HybridComputeError)
    assert "text" in str(found)
    if isinstance(found, BackendError):
        assert type(found.started) is bool
    if isinstance(found, PolicyRefused | NoBackendAvailable):
        assert isinstance(found.refusals, dict)
    tell(found)
