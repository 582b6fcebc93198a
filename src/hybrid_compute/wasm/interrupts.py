"""Ctrl-C while a guest runs in the main thread: it is stopped, and `KeyboardInterrupt` raised where it was called.

Python would handle the signal in the middle of the callback that the guest makes, where an exception has nowhere to
go. So for the time of a call the signal is only written down. Whoever has a handler of their own keeps it.
"""

from __future__ import annotations

import importlib
from typing import Any

from hybrid_compute.wasm.leash import Leash

# The same as `signal`, without its enums, which would take longer than the call of a guest.
_signal: Any = importlib.import_module("_signal")


def written_down(leash: Leash) -> bool:
    """From now on Ctrl-C stops this call. False if that is not for us to do."""
    if _signal.getsignal(_signal.SIGINT) is not _signal.default_int_handler:
        return False

    def stop(_number: int, _frame: Any) -> None:
        leash.stop(KeyboardInterrupt())

    _signal.signal(_signal.SIGINT, stop)
    return True


def as_before(leash: Leash) -> None:
    """The call is over. What came too late to stop it is handled now."""
    _signal.signal(_signal.SIGINT, _signal.default_int_handler)
    if isinstance(leash.error, KeyboardInterrupt):
        _signal.raise_signal(_signal.SIGINT)
