"""Fourier transforms are numpy's."""

from typing import Any

import numpy as np
import pytest

from hybrid_compute.errors import InvalidInput
from hybrid_compute.gpu import ops
from tests.gpu.ops.device import KINDS, Computer, floats, normal


def close(found: Any, wanted: Any) -> None:
    """Within what the docstring promises."""
    assert (found.shape, found.dtype) == (wanted.shape, wanted.dtype)
    if wanted.size:
        assert np.all(_mean_square(found.astype("float64") - wanted) <= 1e-6**2 * _mean_square(wanted))


def _mean_square(x: Any) -> Any:
    return np.mean(np.square(x, dtype="float64"), (-2, -1))


@pytest.mark.parametrize("inverse", [False, True])
@pytest.mark.parametrize("length", [2**power for power in range(15)])
def test_transforms_of_any_power_of_two(gpu: Computer, length: int, inverse: bool) -> None:
    for kind in KINDS:
        x = floats(kind, 1, 3, length, 2)
        close(gpu(ops.fft, x, inverse), ops.fft(x, inverse))


@pytest.mark.parametrize("before", [(), (0,), (1,), (2, 2), (300,)], ids=str)
def test_many_at_once(gpu: Computer, before: tuple[int, ...]) -> None:
    x = normal(1, *before, 8, 2)
    close(gpu(ops.fft, x), ops.fft(x))


def test_there_and_back(full_gpu: Computer) -> None:
    """Long enough for ten passes."""
    x = normal(1, 1 << 18, 2)
    found = full_gpu(ops.fft, x)
    close(found, ops.fft(x))
    close(full_gpu(ops.fft, found, inverse=True), x)


@pytest.mark.parametrize("shape", [(3, 2), (4,), (4, 3), (0, 2)], ids=str)
def test_what_does_not_fit_is_refused(gpu: Computer, shape: tuple[int, ...]) -> None:
    for run in (ops.fft, lambda *args: gpu(ops.fft, *args)):
        with pytest.raises(InvalidInput, match=r"must be float32\[..., length, 2\], with a power of two"):
            run(normal(1, *shape))
