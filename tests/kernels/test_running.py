"""Kernels in memory, in threads, in other processes, and without wasmtime."""

import pickle
import subprocess
import sys
import threading
import time
from array import array
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from hybrid_compute import kernels
from hybrid_compute.errors import TaskTimeout
from hybrid_compute.kernels import Array, Array2, KernelError, f64, i64, kernel, time_limit
from hybrid_compute.kernels.memory import LinearMemory
from hybrid_compute.kernels.parallel import PIECES
from hybrid_compute.kernels.process import machine
from tests.kernels.oracle import compiled

pytest.importorskip("wasmtime")


@kernel
def fill(start: int, stop: int, value: float, out: Array[f64]) -> int:
    for i in range(start, stop):
        out[i] = value + i
    return stop - start


@kernel
def put(x: Array[i64], i: int, value: int) -> None:
    x[i] = value


@kernel
def put2(x: Array2[i64], i: int, j: int, value: int) -> None:
    x[i, j] = value


@kernel
def spin(n: int) -> int:
    total = 0
    for i in range(n):
        total ^= i * 3
        if total == -1:
            break
    return total


HOSTILE = [5, -6, 2**31, -(2**31), 2**32, 2**32 + 1, 2**61, -(2**61), 2**63 - 1, -(2**63)]


@pytest.mark.parametrize("index", HOSTILE)
def test_no_index_leads_out_of_an_array(index: int) -> None:
    """Arrays that lie beside it in the same memory stay as they are."""
    before, x, after = (kernels.empty(5, np.int64) for _ in range(3))
    for each in (before, x, after):
        each[:] = 7
    with pytest.raises(IndexError, match=f"index {index} is out of range"):
        put(x, index, 1)
    for i, j in ((index, 0), (0, index), (index, index)):
        with pytest.raises(IndexError):
            put2(x[:4].reshape(2, 2), i, j, 1)
    for each in (before, x, after):
        assert each.tolist() == [7] * 5


@pytest.mark.parametrize(
    "loop",
    [
        "for i in range(n):\n        x[i] = 1.0",
        "for i in range(n, n + 9):\n        x[i] = 1.0",
        "for i in range(9):\n        x[i + n] = 1.0",
        "for i in range(9):\n        x[n * i] = 1.0",
        "for i in range(n, 2**62):\n        x[i - n] = x[i - n] * 2.0",
        "for i in range(-(2**62), n):\n        x[i + n] = 1.0",
        "for i in range(n, -1, -1):\n        x[i] = 1.0",
        "k = n\n    while True:\n        x[k] = 1.0\n        k += k",
    ],
)
@pytest.mark.parametrize("n", [*HOSTILE, 1, 8, 9])
def test_no_loop_leads_out_of_an_array(loop: str, n: int) -> None:
    """Whatever its bounds are: the quick version of a loop is taken only where nothing can go wrong."""
    around = kernels.empty(64 + 8 + 64, float)
    around[:] = 7.0
    function = compiled(f"def f(x: Array[f64], n: int) -> None:\n    {loop}\n", interruptible=True)
    assert function.compiled  # which takes time, too
    with time_limit(0.2):
        try:
            function(around[64:72], n)
        except (IndexError, TaskTimeout):
            pass
    assert (around[:64] == 7.0).all()
    assert (around[72:] == 7.0).all()


def test_arrays_are_copied_in_and_back() -> None:
    """Those of numpy and of the module array, and only what is written comes back."""
    for x in (np.zeros(10), array("d", [0.0] * 10), memoryview(array("d", [0.0] * 10))):
        fill(2, 4, 1.0, x)
        assert list(x) == [0, 0, 3, 4, 0, 0, 0, 0, 0, 0]
    frozen = np.ones(3)
    frozen.flags.writeable = False
    add = compiled("def f(x: Array[f64], y: Array[f64]) -> None:\n    for i in range(3):\n        y[i] += x[i]\n")
    y = np.ones(3)
    add(frozen, y)
    assert y.tolist() == [2, 2, 2]


def test_what_was_written_before_a_failure_stays() -> None:
    """As in Python."""
    x = np.zeros(3)
    with pytest.raises(IndexError):
        fill(1, 9, 0.0, x)
    assert x.tolist() == [0, 1, 2]


def test_arrays_that_share_memory_share_their_copy() -> None:
    add = compiled("def f(x: Array[f64], y: Array[f64]) -> None:\n    for i in range(len(y)):\n        y[i] += x[i]\n")
    for whole in (np.ones(20), kernels.empty(20)):
        whole[:] = 1.0
        expected = whole.copy()
        add(whole[:-1], whole[1:])
        add.__wrapped__(expected[:-1], expected[1:])
        assert (whole == expected).all()


def test_empty_arrays() -> None:
    x = np.zeros(0)
    assert fill(0, 0, 1.0, x) == 0
    with pytest.raises(IndexError):
        fill(0, 1, 1.0, x)
    rows = compiled("def f(x: Array2[f64]) -> int:\n    return x.shape[0] * 10 + x.shape[1]\n")
    assert rows(np.zeros((0, 3))) == 3


def test_a_range_is_split_over_threads() -> None:
    """Every number once; the parts are the same however many threads there are."""
    for threads in (1, 2, 5, None):
        out = np.zeros(1000)
        sizes = fill.parallel(range(3, 1000), 0.5, out, threads=threads)
        assert len(sizes) == PIECES
        assert sum(sizes) == 997
        assert out.tolist() == [0.0] * 3 + [i + 0.5 for i in range(3, 1000)]
    assert fill.parallel(0, 1.0, np.zeros(1)) == []


def test_a_part_that_fails_fails_the_whole() -> None:
    out = np.zeros(100)
    with pytest.raises(IndexError, match="index 100 is out of range"):
        fill.parallel(200, 1.0, out, threads=2)
    with pytest.raises(KernelError, match="its first two parameters must be where to start and to stop"):
        put.parallel(3, 1, 1)
    with pytest.raises(KernelError, match="goes one by one"):
        fill.parallel(range(0, 10, 2), 1.0, out)
    with pytest.raises(ValueError, match="threads is 0"):
        fill.parallel(3, 1.0, out, threads=0)


def test_threads_do_not_get_in_each_others_way() -> None:
    """Each call has an instance of its own, and arrays of its own."""

    def work(seed: int) -> bool:
        for turn in range(50):
            x = np.full(100, -1.0)
            fill(0, 100, float(seed * turn), x)
            if x.tolist() != [seed * turn + float(i) for i in range(100)]:
                return False
        return True

    with ThreadPoolExecutor(8) as threads:
        assert all(threads.map(work, range(16)))


def test_the_gil_is_released() -> None:
    """While one thread is in a kernel, another one goes on."""
    spin(1)  # compiled: that would give others their turns too
    thread = threading.Thread(target=spin, args=(300_000_000,))
    thread.start()
    turns = 0
    while thread.is_alive():
        turns += 1
        time.sleep(0)
    assert turns > 20


def test_a_thread_with_a_small_stack_is_refused() -> None:
    """A kernel that recurs would end the process there.

    In a program of its own: a thread of this one might get the stack of another that has ended, and is larger.
    """
    code = """
import threading
from hybrid_compute.errors import BackendUnavailable
from tests.kernels.test_running import spin
caught = []
def work():
    try:
        spin(1)
    except BaseException as error:
        caught.append(error)
spin(1)  # leaves an instance behind, which the thread could take
threading.stack_size(256 * 1024)
thread = threading.Thread(target=work)
thread.start()
thread.join()
assert isinstance(caught[0], BackendUnavailable), caught
"""
    subprocess.run([sys.executable, "-W", "ignore", "-c", code], check=True, timeout=30)


DEEP = """
import threading

from hybrid_compute.errors import BackendUnavailable
from hybrid_compute.kernels import kernel

@kernel
def deep(n: int) -> int:
    if n == 0:
        return 0
    return 1 + deep(n - 1)

def below(levels: int) -> None:
    if levels:
        list(map(below, [levels - 1]))  # by way of C, so that it takes stack
        return
    try:
        deep(10**9)
    except (BackendUnavailable, RecursionError) as error:
        print(type(error).__name__)

def work() -> None:
    deep(3)
    below(1)
    below(600)
    below(1)

threading.stack_size(512 << 10)
thread = threading.Thread(target=work)
thread.start()
thread.join()
"""


def test_a_thread_whose_stack_is_nearly_used_up_is_refused(tmp_path: Path) -> None:
    """Though it was fine before, and is again: what counts is what is left, not the size of all."""
    file = tmp_path / "deep.py"
    file.write_text(DEEP)
    ran = subprocess.run([sys.executable, str(file)], capture_output=True, text=True, timeout=60, check=False)
    assert ran.stdout.split() == ["RecursionError", "BackendUnavailable", "RecursionError"], ran.stderr


def test_a_child_process_goes_on_with_kernels() -> None:
    """One that was forked has copies of memory and instances, and threads of its own."""
    code = """
import os, sys
import numpy as np
from tests.kernels.test_running import fill, machine, spin
from hybrid_compute.kernels import empty, time_limit
x = empty(10); x[:] = 0
fill.parallel(10, 1.0, x, threads=2)
if os.fork() == 0:
    with time_limit(30):
        fill.parallel(10, 2.0, x, threads=2)
    os._exit(0 if x[9] == 11.0 and spin(3) == spin.__wrapped__(3) else 1)
assert os.wait()[1] == 0
assert x[9] == 10.0
"""
    subprocess.run([sys.executable, "-W", "ignore", "-c", code], check=True, timeout=30)


def test_a_kernel_is_still_the_function_that_it_was() -> None:
    """For those who look at it, and for pickle, which sends its name."""
    assert (fill.__name__, fill.__module__) == ("fill", __name__)
    assert pickle.loads(pickle.dumps(put)) is put
    assert repr(put) == f"<kernel {__name__}.put>"
    assert spin.__wrapped__(5) == spin(5)


def test_determinism_gives_every_nan_the_same_bits() -> None:
    text = "def f(a: float, b: float, x: Array[f64]) -> None:\n    x[0] = a - b\n    x[1] = a * 0.0\n"
    x = np.zeros(2)
    compiled(text, deterministic=True)(float("inf"), float("inf"), x)
    assert [hex(each) for each in x.view(np.uint64)] == ["0x7ff8000000000000"] * 2


WITHOUT = """
import sys
sys.modules["wasmtime"] = None
import numpy as np
from hybrid_compute.errors import TaskTimeout
from hybrid_compute.kernels import Array, KernelError, empty, f32, f64, i32, kernel, time_limit

@kernel
def double(start: int, stop: int, x: Array[f64]) -> float:
    for i in range(start, stop):
        x[i] *= 2
    return x[0]

x = empty(4); x[:] = 1
@kernel
def wrapping(n: i32, y: f32) -> float:
    return (n + 1) * y

try:
    with time_limit(0):
        print(wrapping(2**31 - 1, 0.1))
except TaskTimeout:
    print(wrapping(2**31 - 1, 0.1))
print(double.compiled, double(0, 3, x), x.tolist(), double.parallel(2, x))
try:
    double(0, 3, [1.0])
except KernelError as error:
    print(error)
try:
    double(0, 9, x)
except IndexError:
    print("IndexError")
try:
    kernel(lambda: 1)
except KernelError as error:
    print("KernelError")
"""


def test_without_wasmtime_it_is_python(tmp_path: Any) -> None:
    """With the same refusals, and the same results."""
    file = tmp_path / "without.py"
    file.write_text(WITHOUT)
    ran = subprocess.run([sys.executable, str(file)], capture_output=True, text=True, check=True)
    assert ran.stdout.splitlines() == [
        str(float(np.float32(-(2**31)) * np.float32(0.1))),
        "False 2.0 [2.0, 2.0, 2.0, 1.0] [4.0, 4.0]",
        "double: x is an Array[float], and not a list: an array of numpy will do, or of the module array",
        "IndexError",
        "KernelError",
    ]


TAKEN = """
import faulthandler
from hybrid_compute.kernels import kernel

@kernel
def inverse(n: int) -> float:
    return 1 / n

def outcome(n):
    try:
        return inverse(n)
    except Exception as error:
        return type(error).__name__

print(outcome(2), outcome(0))
faulthandler.enable()
print(outcome(2), outcome(0))
faulthandler.disable()
"""


def test_a_kernel_does_not_run_where_its_failure_would_end_the_process(tmp_path: Any) -> None:
    """Nor does it come to that: what it raises begins as a signal, which somebody else has taken."""
    file = tmp_path / "taken.py"
    file.write_text(TAKEN)
    ran = subprocess.run([sys.executable, str(file)], capture_output=True, text=True, check=False)
    assert (ran.returncode, ran.stdout) == (0, "0.5 ZeroDivisionError\nBackendUnavailable BackendUnavailable\n")


USELESS = """
import resource, sys, warnings
resource.setrlimit(resource.RLIMIT_AS, (3 << 30, 3 << 30))  # less than the addresses that kernels want
from hybrid_compute.kernels import empty, kernel

@kernel
def double(n: int) -> int:
    return 2 * n

with warnings.catch_warnings(record=True) as told:
    print(double(3), double.compiled, empty(2).shape, double(4))
print(len(told), told[0].category.__name__, told[0].message)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere there is no such limit")
def test_where_wasmtime_is_of_no_use_it_is_python_and_says_so(tmp_path: Any) -> None:
    """Once, for all kernels of the process."""
    file = tmp_path / "useless.py"
    file.write_text(USELESS)
    ran = subprocess.run([sys.executable, str(file)], capture_output=True, text=True, check=True)
    ran_as, warned = ran.stdout.splitlines()
    assert ran_as == "6 False (2,) 8"
    assert warned.startswith("1 RuntimeWarning kernels run as Python here, which is slow: wasmtime is installed, but")
    assert "no 4 GiB of addresses (not of memory) for kernels" in warned


def test_a_bool_is_a_bool() -> None:
    """One of Python's or numpy's: the truth of anything else is for the caller to say."""
    negate = compiled("def f(a: int, x: Array[f64], yes: bool) -> bool:\n    return not yes\n")
    x = np.ones(1)
    assert negate(1, x, True) is False
    assert negate(1, x, np.bool_(False)) is True
    for other in (1, 0, 1.0, None, "yes", np.ones(1)):
        with pytest.raises(KernelError, match=r"f: yes is of type bool, which .* is not"):
            negate(1, x, other)
        with pytest.raises(KernelError, match=r"f: yes is of type bool, which .* is not"):
            negate._signature.check((1, x, other))  # where it runs as Python


def test_importing_it_loads_neither_wasmtime_nor_numpy() -> None:
    code = "import sys, hybrid_compute.kernels; print({'wasmtime', 'numpy'} & set(sys.modules))"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "set()\n"


@pytest.fixture(autouse=True)
def _nothing_is_left() -> Iterator[None]:
    """Every call gives back the memory that it used."""
    there = machine()
    assert there is not None
    assert isinstance(there.memory, LinearMemory)
    before = there.memory.used
    yield
    assert there.memory.used == before
