"""Signals: a trap begins as one, which wasmtime handles. Whoever takes it away makes the trap the end of the process.

`faulthandler` does, if it is enabled after the first engine was made, and so does `signal.signal`; what was there
before is asked last, as it should. What sets handlers by C alone is not noticed.
"""

from __future__ import annotations

import faulthandler
import importlib
import signal
from collections.abc import Callable
from typing import Any

from hybrid_compute.errors import BackendUnavailable

TRAPS = tuple(getattr(signal, name) for name in ("SIGSEGV", "SIGILL", "SIGFPE", "SIGBUS") if hasattr(signal, name))
"""The signals that traps begin as."""
_NUMBERS = tuple(map(int, TRAPS))
# That of C: the function around it makes an enumeration of what it gives, which takes a microsecond for each signal.
_handler_of: Callable[[int], Any] = importlib.import_module("_signal").getsignal
_enabled_before: bool | None = None
_handlers_before: list[Any] = []


def about_to_be_handled() -> None:
    """An engine is about to be made. The first one takes over the signals of traps."""
    global _enabled_before  # noqa: PLW0603  # one process has one set of handlers
    if _enabled_before is None:
        _enabled_before = faulthandler.is_enabled()
        _handlers_before[:] = map(_handler_of, _NUMBERS)


def taken_away() -> bool:
    """Whether the trap of a guest would end the process, as far as the short ways ask."""
    return faulthandler.is_enabled() and not _enabled_before


def insist_on_handlers() -> None:
    """Refuse to run a guest where its trap would end the process."""
    if faulthandler.is_enabled() and taken_away():
        raise BackendUnavailable(
            "faulthandler was enabled after the first use of WASM, so a trap in a guest would end the process: enable "
            "it before (python -X faulthandler), or disable it",
            backend="wasm",
        )
    if [*map(_handler_of, _NUMBERS)] != _handlers_before:
        changed = next(
            each for each, before in zip(TRAPS, _handlers_before, strict=True) if _handler_of(each) != before
        )
        raise BackendUnavailable(
            f"{changed.name} was given a handler after the first use of WASM, so a trap in a guest would be none any "
            f"more: call signal.signal before that",
            backend="wasm",
        )
