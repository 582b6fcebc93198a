"""Whether the stack of a thread is large enough for a kernel: asked once, for it stays as it is."""

from __future__ import annotations

import threading

from hybrid_compute.wasm import stack

MOST = 256 << 10
"""What a kernel may use."""


class _Thread(threading.local):
    checked = False


thread = _Thread()


def insist() -> None:
    """Raise `BackendUnavailable` on a thread whose stack is too small."""
    stack.insist_on(MOST, otherwise="")
    thread.checked = True
