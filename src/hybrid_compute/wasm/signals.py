"""Signals: a trap begins as one, which wasmtime handles. Whoever takes it away makes the trap the end of the process.

`faulthandler` does, if it is enabled after the first engine was made; enabled before, it is asked last, as it should.
"""

from __future__ import annotations

import faulthandler

from hybrid_compute.errors import BackendUnavailable

_enabled_before: bool | None = None


def about_to_be_handled() -> None:
    """An engine is about to be made. The first one takes over the signals of traps."""
    global _enabled_before  # noqa: PLW0603  # one process has one set of handlers
    if _enabled_before is None:
        _enabled_before = faulthandler.is_enabled()


def taken_away() -> bool:
    """Whether the trap of a guest would end the process."""
    return faulthandler.is_enabled() and not _enabled_before


def insist_on_handlers() -> None:
    """Refuse to run a guest where its trap would end the process."""
    if taken_away():
        raise BackendUnavailable(
            "faulthandler was enabled after the first use of WASM, so a trap in a guest would end the process: enable "
            "it before (python -X faulthandler), or disable it",
            backend="wasm",
        )
