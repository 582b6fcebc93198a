"""The same bits in all processes, however many threads there are, and an end at the same instruction."""

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from hybrid_compute.errors import BackendUnavailable, LimitExceeded
from hybrid_compute.kernels import Array, KernelError, f32, f64, kernel

pytest.importorskip("wasmtime")


@kernel(deterministic=True, fuel=10_000)
def count(out: Array[f64], n: int) -> int:
    for i in range(n):
        out[0] = i
        out[1] = out[1] + out[0] * 0.5
    return n


@kernel(deterministic=True, interruptible=False, fuel=10_000)
def count_through(out: Array[f64], n: int) -> int:
    for i in range(n):
        out[0] = i
        out[1] = out[1] + out[0] * 0.5
    return n


@kernel(deterministic=True, fast=True)
def dot(start: int, stop: int, x: Array[f64], y: Array[f64]) -> float:
    s = 0.0
    for i in range(start, stop):
        s += x[i] * y[i]
    return s


@kernel(deterministic=True)
def nowhere(x: Array[f64], y: Array[f32]) -> f32:
    """Every way to a NaN that there is without failing."""
    for i in range(len(x)):
        x[i] = (x[i] - x[i]) * -1.0 if i % 2 else x[i] / x[i] + y[i]
        y[i] = y[i] * 0.0 - y[i] / 3.0
    return y[0] % 2.0


def test_fuel_ends_a_kernel() -> None:
    """It is for one call: the next one has all of it again, and so has each part of a range."""
    out = np.zeros(2)
    for _ in range(2):
        with pytest.raises(LimitExceeded, match="the kernel count used up its fuel, 10000 units") as caught:
            count(out, 1_000_000)
        assert caught.value.started
        assert count(out, 100) == 100


def test_fuel_is_a_number_of_units() -> None:
    for wrong in (0, -1, 1 << 63):
        with pytest.raises(ValueError, match="must be positive"):
            kernel(fuel=wrong)(count.__wrapped__)
    for strange in (1.5, True, "1"):
        with pytest.raises(TypeError, match="is a number of units"):
            kernel(fuel=strange)(count.__wrapped__)  # type: ignore[call-overload]
    with pytest.raises(KernelError, match="is not written in Python"):
        kernel(fuel=1)(len)


def test_fuel_is_not_counted_by_python() -> None:
    """So a kernel that has a limit is not run without it."""
    with pytest.raises(BackendUnavailable, match=r"fuel of the kernel count .* pip install 'hybrid-compute\[wasm\]'"):
        count._plain()


REPORT = """
import sys
if "plain" in sys.argv:
    import pytest
    pytest.importorskip = lambda name: None
    sys.modules["wasmtime"] = None
import numpy as np
from hybrid_compute.errors import BackendUnavailable, LimitExceeded
from tests.kernels.test_determinism import count, count_through, dot, nowhere

def hexed(values):
    return np.array(values).tobytes().hex()

x, y = np.array([np.inf, 0.1, -np.inf, 3.0, np.nan] * 3), np.array([np.inf, 0.1, -np.inf, 3.0, np.nan] * 3, "f4")
print(nowhere.compiled == ("plain" not in sys.argv), hexed([nowhere(x, y)]), hexed(x), hexed(y))
rng = np.random.default_rng(3)
x, y = rng.random(10_001), rng.random(10_001)
if "plain" not in sys.argv:
    print(hexed(dot.parallel(len(x), x, y, threads=int(sys.argv[1]))))
    for function in (count, count_through):
        out = np.zeros(2)
        try:
            function(out, 1_000_000)
        except LimitExceeded:
            print(hexed(out))
"""


def reported(*arguments: str) -> list[str]:
    environment = {**os.environ, "PYTHONHASHSEED": arguments[0]}
    code = ["-W", "error", "-c", REPORT, *arguments]
    ran = subprocess.run(
        [sys.executable, *code],
        capture_output=True,
        text=True,
        env=environment,
        cwd=Path(__file__).parents[2],
        check=False,
    )
    assert ran.returncode == 0, ran.stderr
    return ran.stdout.splitlines()


def test_the_bits_are_the_same_in_all_processes() -> None:
    """Results, all NaNs, sums in threads, and how far it comes with its fuel; NaNs also as Python."""
    first, second, plain = (reported(*arguments) for arguments in (("1",), ("2",), ("3", "plain")))
    assert len(first) == 4
    assert first == second
    assert first[2] == first[3]
    assert plain == first[:1]
    assert first[0].startswith("True ")


def test_the_sum_of_parts_does_not_depend_on_threads() -> None:
    """The parts are the same; so are their sums, to the last bit, whatever was done first."""
    rng = np.random.default_rng(5)
    x, y = rng.random(100_003) - 0.5, rng.random(100_003)
    sums = {tuple(dot.parallel(len(x), x, y, threads=threads)) for threads in (1, 2, 3, 7, None)}
    assert len(sums) == 1
