"""The trace that a call belongs to: set by whoever was asked as part of one, carried along by whoever asks further.

    traceparent.set("00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01")

The text is that of W3C Trace Context. A program that traces with OpenTelemetry need not set it.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Generator
from contextlib import contextmanager
from contextvars import ContextVar

traceparent: ContextVar[str | None] = ContextVar("traceparent", default=None)
"""The trace of this context; None where there is none."""

_FORM = re.compile(r"(?P<version>[0-9a-f]{2})-(?P<trace>[0-9a-f]{32})-(?P<span>[0-9a-f]{16})-[0-9a-f]{2}(?P<more>-.*)?")


def current() -> str | None:
    """The trace to tell a server of. What is not well-formed is left out, as if there were none."""
    given = traceparent.get() or _of_opentelemetry()
    return given if given is not None and is_traceparent(given) else None


@contextmanager
def in_trace(given: str | None) -> Generator[None]:
    """What is asked for in the block belongs to this trace; what is not well-formed is none, as the standard has it."""
    if given is None or not is_traceparent(given):
        yield
        return
    before = traceparent.set(given)
    try:
        yield
    finally:
        traceparent.reset(before)


def is_traceparent(text: str) -> bool:
    """Whether a text names a trace.

    >>> is_traceparent("00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"), is_traceparent("00-0-0-01")
    (True, False)
    """
    form = _FORM.fullmatch(text)
    if form is None or form["version"] == "ff" or (form["version"] == "00" and form["more"]):
        return False
    return form["trace"].strip("0") != "" and form["span"].strip("0") != ""


def _of_opentelemetry() -> str | None:
    """The current span of OpenTelemetry, in a program that has loaded it."""
    if "opentelemetry.trace" not in sys.modules:
        return None
    from opentelemetry import propagate

    carrier: dict[str, str] = {}
    propagate.inject(carrier)
    return carrier.get("traceparent")
