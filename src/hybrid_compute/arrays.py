"""`empty(shape, dtype)`: an array in shared memory when this is a worker, an ordinary one elsewhere.

A result that a task builds in such an array crosses back without a copy.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

_allocator: Callable[[int], memoryview | None] | None = None


def allocate_with(allocator: Callable[[int], memoryview | None]) -> None:
    """Installed by the place that runs tasks: bytes of shared memory, or None when it is short."""
    global _allocator  # noqa: PLW0603  # one process is one place
    _allocator = allocator


def empty(shape: int | tuple[int, ...], dtype: npt.DTypeLike = float) -> np.ndarray[Any, np.dtype[Any]]:
    """A new array, uninitialised, that crosses process borders without a copy where that is possible.

    >>> empty((2, 3), "float32").shape
    (2, 3)
    """
    import numpy as np

    if _allocator is None:
        return np.empty(shape, dtype)
    wanted = np.dtype(dtype)
    count = int(np.prod(shape))
    memory = _allocator(max(1, count * wanted.itemsize))
    if memory is None:
        return np.empty(shape, dtype)
    return np.frombuffer(memory, wanted, count).reshape(shape)
