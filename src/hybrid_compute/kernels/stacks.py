"""Whether a thread has stack enough left for a kernel: asked once where it always has, however deep its calls are."""

from __future__ import annotations

import threading

from hybrid_compute.wasm import stack

MOST = 256 << 10
"""What a kernel may use."""


class _Thread(threading.local):
    safe = -1
    """Up to which recursion limit of Python there is room for sure."""


thread = _Thread()


def insist() -> None:
    """Raise `BackendUnavailable` where this thread has too little stack left."""
    stack.insist_on(MOST, otherwise="")
    if not stack.here.stack.taken:  # else what is safe now is less than what is safe when those guests have ended
        thread.safe = stack.here.stack.safe_limit(MOST)
