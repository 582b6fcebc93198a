"""Kernels as tasks: in this process and in workers, sent by name or as what they were made into."""

import pickle
from typing import Any

import cloudpickle
import numpy as np
import pytest

import hybrid_compute
from hybrid_compute import BlockingRuntime, LocalBackend, Runtime, WorkerBackend, kernel, task
from hybrid_compute.backends.functions import define
from hybrid_compute.errors import InvalidInput, TaskFailed
from hybrid_compute.kernels import Array, Kernel, f32, f64, i32
from hybrid_compute.kernels import kernel as the_same
from hybrid_compute.schema import bind_json, json_schema
from hybrid_compute.tasks import as_task
from tests.kernels.oracle import define as defined

pytest.importorskip("wasmtime")

STEPS = 3


@kernel
def collatz(n: int) -> int:
    steps = 0
    while n != 1:
        n = n // 2 if n % 2 == 0 else STEPS * n + 1
        steps += 1
    return steps


@task(pure=True)
@kernel
def longest(most: int) -> int:
    best = 0
    for n in range(1, most):
        best = max(best, collatz(n))
    return best


@task
@kernel
def total(x: Array[f64], scale: float) -> float:
    sum = 0.0
    for i in range(len(x)):
        sum += x[i] * scale
    return sum


@task
def how(kernel: Kernel[..., Any], n: int) -> tuple[bool, int]:
    """What a worker says of a kernel that it is given."""
    return kernel.compiled, kernel(n)


def test_the_name_at_the_root_is_the_decorator() -> None:
    """Whatever is imported, and in which order: a module of a similar name stands beside it."""
    assert hybrid_compute.kernel is the_same
    assert hybrid_compute.Kernel is Kernel
    assert hybrid_compute.kernels.kernel is the_same
    assert isinstance(collatz, hybrid_compute.Kernel)


@pytest.mark.parametrize("place", [LocalBackend, WorkerBackend, lambda: WorkerBackend(portable=True)])
async def test_a_kernel_is_a_task(place: Any) -> None:
    """Decorated as one, or as it is."""
    async with Runtime([place()]) as rt:
        assert await rt.run(collatz, 27) == 111
        assert await rt.run(longest, 100) == 118
        assert await rt.map(collatz, [1, 2, 27]) == [0, 1, 111]
        assert await rt.run(total, np.ones(100_000), 0.5) == 50_000
        assert await rt.run(how, collatz, 27) == (True, 111)
        with pytest.raises(TaskFailed, match="KernelError: total: x is an Array"):
            await rt.run(total, [1.0], 0.5)


@pytest.mark.parametrize("portable", [False, True])
def test_a_kernel_without_a_module_crosses_as_it_is(portable: bool) -> None:
    """One of a notebook, say: with the kernels it calls, and without its source."""
    text = """
@kernel
def recursive(n: int) -> int:
    return 0 if n == 0 else recursive(n - 1)

@kernel
def third(n: int) -> int:
    return n // LOCAL

@kernel(deterministic=True, fuel=1_000_000)
def sixth(n: int) -> int:
    def half(m: int) -> int:
        return third(n) // m
    return half(2) + recursive(n)
"""
    sixth = defined(text, "sixth", LOCAL=3)
    named = task(name="a-sixth")(sixth)
    with BlockingRuntime([WorkerBackend(size=1, portable=portable)]) as rt:
        assert rt.run(sixth, 60) == 10
        assert rt.run(named, 60) == 10
        assert rt.run(how, sixth, 60) == (True, 10)
    copied = pickle.loads(cloudpickle.dumps(sixth))
    assert copied is not sixth
    assert (copied(60), copied.__wrapped__(60), copied.wat) == (10, 10, sixth.wat)
    assert copied.options == sixth.options == (True, True, 1_000_000)


def test_a_kernel_crosses_by_name_where_it_has_one() -> None:
    """Also from under the task that it has become."""
    assert pickle.loads(pickle.dumps(collatz)) is collatz
    assert pickle.loads(pickle.dumps(longest.fn)) is longest.fn
    assert define(longest)[1]
    definition, constant = define(as_task(defined("@kernel\ndef f(n: int) -> int:\n    return n\n")))
    assert constant, "it is sent once, not with every call"
    assert definition


def test_one_kernel_is_one_task() -> None:
    """It is not sent anew with each call; and what `functools.wraps` has copied is no task of this one."""
    assert as_task(collatz) is as_task(collatz)

    def plain(n: int) -> int:
        return n

    known = as_task(plain)
    assert as_task(kernel(plain)).fn is not plain
    assert as_task(plain) is known
    assert as_task(collatz).where == f"{__file__}:{collatz.__wrapped__.__code__.co_firstlineno}"


@task
@kernel
def mixed(n: i32, x: f32, y: float, yes: bool) -> f32:
    return x * n if yes else f32(y)


def test_a_kernel_has_a_schema() -> None:
    """So a server and the command line can offer it. What has 32 bits in the kernel is a number like any other."""
    assert json_schema(longest) == {"input": {"type": "integer"}, "output": {"type": "integer"}}
    assert json_schema(mixed)["output"] == {"type": "number"}
    args, kwargs = bind_json(mixed, b'{"n": 3, "x": 0.5, "y": 1.0, "yes": true}')
    assert mixed(*args, **kwargs) == 1.5
    with pytest.raises(InvalidInput):
        bind_json(mixed, b'{"n": 3.5, "x": 0.5, "y": 1.0, "yes": true}')
