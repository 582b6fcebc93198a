"""A device for the tests of operations, with and without what not every one has."""

import dataclasses
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, settings

from hybrid_compute.errors import BackendUnavailable
from hybrid_compute.gpu.array import GpuArray
from hybrid_compute.gpu.calls import upload
from hybrid_compute.gpu.device import Device
from hybrid_compute.gpu.replies import Waiting
from hybrid_compute.tasks import AnyTask


class Computer:
    """Computes operations on a device, and waits.

    What suits a processor is shaped otherwise than what suits a gpu. Which of the two is computed does not depend on
    where it is: so both are tested on either.
    """

    def __init__(self, device: Device, *, software: bool = False) -> None:
        assert device.facts is not None
        self.device = device
        self.facts = dataclasses.replace(device.facts, software=software)

    def __call__(self, task: AnyTask, *args: Any, **kwargs: Any) -> Any:
        reply = Waiting()
        args = task.fn.positional(args, kwargs)  # type: ignore[attr-defined]
        self.device.submit([task.fn.work(args, self.facts, reply)])  # type: ignore[attr-defined]
        return reply.future.result(timeout=60)

    def put(self, array: Any) -> GpuArray:
        """A copy of the array on the device."""
        reply = Waiting()
        self.device.submit([upload(array, reply)])
        found = reply.future.result(timeout=60)
        assert isinstance(found, GpuArray)
        return found


def opened(without: tuple[str, ...], limits: Mapping[str, int] | None = None) -> Iterator[Computer]:
    device = Device(without=without, memory=4 << 30, limits=limits)
    try:
        device.open().result()
    except BackendUnavailable as error:
        pytest.skip(str(error))
    yield Computer(device)
    device.close()
    assert device.join(30)


def normal(seed: int, *shape: int, dtype: str = "float32") -> np.ndarray[Any, np.dtype[Any]]:
    """Numbers about zero."""
    return np.asarray(np.random.default_rng(seed).standard_normal(shape)).astype(dtype)


def floats(kind: str, seed: int, *shape: int, dtype: str = "float32") -> np.ndarray[Any, np.dtype[Any]]:
    """Numbers of either sign; or such that what is rounded off adds up: of one sign, or all the same."""
    if kind == "same":
        return np.full(shape, 0.1 * seed, dtype)
    x = normal(seed, *shape, dtype=dtype)
    return np.abs(x) if kind == "positive" else x


def whole(seed: int, *shape: int, dtype: str = "float32") -> np.ndarray[Any, np.dtype[Any]]:
    """Whole numbers, small enough that halves can have their products."""
    return np.asarray(np.random.default_rng(seed).integers(0 if dtype == "uint32" else -99, 100, shape)).astype(dtype)


KINDS = ["either", "positive", "same"]
"""Of floats, see `floats`."""
DTYPES = ["float32", "float16", "int32", "uint32"]
FEW = settings(max_examples=12, suppress_health_check=[HealthCheck.function_scoped_fixture])
"""A device in software takes its time, and most of what could go wrong shows in a few shapes."""
