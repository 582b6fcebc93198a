"""A gpu keeps the contract, with the contract's tasks as shaders.

Some of them are left out and reported as skipped: those that raise, that return nothing, or that leave a mark in a
file. What is promised of a gpu beyond the contract is in `test_gpu.py`.
"""

import math

from hybrid_compute.backends.base import Backend
from hybrid_compute.backends.wrappers import Limited, Recording, Retrying
from hybrid_compute.errors import InvalidInput
from hybrid_compute.testing import BackendContract, tasks
from tests.backends.shaded import make_gpu


class GpuContract(BackendContract):
    """The contract, in what a shader can take and give: whole numbers, floats and bytes, as words."""

    streams = False
    coroutines = False
    values = (0, -(2**63), 2**63 - 1, 1.5, -math.inf, b"", bytes(range(256)))
    invalid_input = InvalidInput
    refuses = (
        *(tasks.fail, tasks.fail_peculiarly, tasks.run_out, tasks.be_late, tasks.leave),  # shaders raise nothing
        tasks.nothing,  # and what has no result has no effect
        tasks.append,  # for they see no files
    )


class TestGpuBackend(GpuContract):
    def make_backend(self) -> Backend:
        return make_gpu()


class TestGpuBackendInWrappers(GpuContract):
    def make_backend(self) -> Backend:
        return Recording(Limited(Retrying(make_gpu()), calls=3))
