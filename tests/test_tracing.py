"""The trace of a call: what is one, and where it comes from."""

import subprocess
import sys

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hybrid_compute.tracing import current, in_trace, is_traceparent, traceparent

TRACE = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"


@pytest.mark.parametrize("text", [TRACE, TRACE[:-2] + "00", "cc" + TRACE[2:], "01" + TRACE[2:] + "-what-comes-later"])
def test_a_trace_is_known_by_its_form(text: str) -> None:
    """Also one of a later version, which may say more."""
    assert is_traceparent(text)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "00-0-0-01",
        TRACE.upper(),
        TRACE + "-more",
        TRACE + "\n",
        "ff" + TRACE[2:],
        TRACE.replace("4bf92f3577b34da6a3ce929d0e0e4736", "0" * 32),
        TRACE.replace("00f067aa0ba902b7", "0" * 16),
    ],
)
def test_what_is_no_trace_is_none(text: str) -> None:
    """Too short, in capitals, of nothing, of a version that there is not."""
    assert not is_traceparent(text)


@given(st.text())
def test_any_text_can_be_asked_about(text: str) -> None:
    """It comes from a network."""
    assert is_traceparent(text) in (True, False)


def test_the_trace_of_a_context_is_the_current_one() -> None:
    """Within the block; what is not well-formed is as none."""
    assert current() is None
    with in_trace(TRACE):
        assert current() == TRACE
        with in_trace("nonsense"), in_trace(None):
            assert current() == TRACE
    assert current() is None
    token = traceparent.set("nonsense")
    assert current() is None
    traceparent.reset(token)


PROGRAM = f"""
from opentelemetry import trace
from hybrid_compute.tracing import current, in_trace
assert current() is None
context = trace.SpanContext(0x4bf92f3577b34da6a3ce929d0e0e4736, 0x00f067aa0ba902b7, True, trace.TraceFlags(1))
with trace.use_span(trace.NonRecordingSpan(context)):
    assert current() == {TRACE!r}, current()
    with in_trace({TRACE.replace("4bf9", "0000")!r}):
        assert current() == {TRACE.replace("4bf9", "0000")!r}
"""


def test_a_program_that_traces_with_opentelemetry_need_say_nothing() -> None:
    """Its current span is the trace, unless the program says otherwise."""
    pytest.importorskip("opentelemetry.trace")
    subprocess.run([sys.executable, "-c", PROGRAM], check=True)


def test_opentelemetry_is_not_loaded_by_asking() -> None:
    """Who does not use it does not pay for it."""
    asking = "import sys; from hybrid_compute.tracing import current; current(); print('opentelemetry' in sys.modules)"
    assert (
        subprocess.run([sys.executable, "-c", asking], capture_output=True, text=True, check=True).stdout == "False\n"
    )
