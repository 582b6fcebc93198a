"""How an engine uses its worker."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from hybrid_compute.engine.environment import Mechanism


@dataclass(frozen=True, slots=True, kw_only=True)
class WorkerOptions:
    """How an engine uses its worker.

    An action has `timeout` seconds (None: as long as it takes) from when it is sent; the worker is replaced if it does
    not stop. With `batching`, actions that are dispatched within `batch_window` seconds of the first travel in one
    message, at most `batch_limit` of them; `atomic` batches are done as a whole or not at all. A batch has `timeout`
    seconds to begin, and each of its actions after the first is stopped after more than once and less than twice that
    time: then it fails alone, and the others are done without it.

    If the worker cannot be started, `fallback="local"` has the engine live in this process from the beginning. If it
    dies later, a `durable` engine goes on in another one, from a snapshot and the log of what was done; any other is
    stopped.

    The worker is a process, or with `mechanism="thread"` a thread of this one, which shares its cores and its fate, and
    cannot be stopped: an action that does not end in time is left to itself.

    Raises `ValueError` for what is no length of time, or no number.
    """

    timeout: float | None = 30.0
    batching: bool = False
    batch_window: float = 0.010
    batch_limit: int = 1000
    atomic: bool = False
    fallback: Literal["local"] | None = "local"
    durable: bool = False
    mechanism: Mechanism | None = None

    def __post_init__(self) -> None:
        if self.timeout is not None and not self.timeout > 0:
            raise ValueError(f"timeout must be a positive number of seconds or None, not {self.timeout!r}")
        if not self.batch_window >= 0:
            raise ValueError(f"batch_window must be a number of seconds, not {self.batch_window!r}")
        if self.batch_limit < 1:
            raise ValueError(f"a batch of at most {self.batch_limit} actions would never be sent")
        if self.fallback not in ("local", None):
            raise ValueError(f"fallback is 'local' or None, not {self.fallback!r}")
        if self.mechanism not in ("process", "thread", None):
            raise ValueError(f"mechanism is 'process', 'thread' or None, not {self.mechanism!r}")
        if self.atomic and not self.batching:
            raise ValueError("atomic is about batches: say batching=True")
