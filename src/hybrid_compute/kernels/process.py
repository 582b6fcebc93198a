"""What all kernels of a process share: the machine that runs them, or the reason why there is none."""

from __future__ import annotations

import os
import threading
import warnings
from typing import TYPE_CHECKING, Any

from hybrid_compute.kernels import limits, parallel

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

    from hybrid_compute.kernels.machine import Machine

lock = threading.RLock()
_machine: Machine | None = None
_tried = False


def machine() -> Machine | None:
    """Where the kernels of this process run; None if that is Python.

    So it is where wasmtime is not installed. Where it is, and is of no use (on Windows, or where four gigabytes of
    addresses are not to be had), a `RuntimeWarning` says why, once.
    """
    global _machine, _tried  # noqa: PLW0603  # all kernels share it, and so do their arrays
    with lock:
        if _machine is None and not _tried:
            _tried = True
            try:
                _machine = _start()
            except ModuleNotFoundError as error:
                if error.name != "wasmtime":
                    raise
            except Exception as error:  # whatever a library says that is not made for this machine
                warnings.warn(
                    f"kernels run as Python here, which is slow: wasmtime is installed, but {error}",
                    RuntimeWarning,
                    stacklevel=2,
                )
        return _machine


def _start() -> Machine:
    from hybrid_compute.kernels.machine import Machine

    return Machine()


def empty(shape: int | tuple[int, ...], dtype: npt.DTypeLike = float) -> np.ndarray[Any, np.dtype[Any]]:
    """A new array, uninitialised, that lies where kernels work: they use it without a copy.

    Where kernels run as Python it is an ordinary one.
    """
    there = machine()
    if there is None:
        import numpy as np

        return np.empty(shape, dtype)
    from hybrid_compute.kernels.memory import array_in

    return array_in(there.memory, shape, dtype)


def _after_fork() -> None:
    """A child has none of the threads. Instances and memory it has: they are copies."""
    global lock  # noqa: PLW0603
    lock = threading.RLock()
    parallel.after_fork()
    limits.after_fork()
    if _machine is not None:
        _machine.after_fork()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)
