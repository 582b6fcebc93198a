"""What a kernel may say, and that it means there what it means in Python."""

import math
from array import array

import numpy as np
import pytest

from hybrid_compute.kernels import Array, Kernel, f32, i32, kernel, u8
from tests.kernels.oracle import compiled, outcome

pytest.importorskip("wasmtime")


def check(function: Kernel[..., object], *arguments: object) -> object:
    """What it gives, which is what the plain function gives."""
    got = function(*arguments)
    expected = function.__wrapped__(*arguments)
    assert got == expected or (got != got and expected != expected)
    assert type(got) is type(expected)
    return got


@kernel
def collatz(n: int) -> int:
    """How many steps it takes to come to 1."""
    steps = 0
    while n != 1:
        n = n // 2 if n % 2 == 0 else 3 * n + 1
        steps += 1
    return steps


@kernel
def fibonacci(n: int) -> int:
    return n if n < 2 else fibonacci(n - 1) + fibonacci(n - 2)


@kernel
def swaps(n: int) -> int:
    a, b = 0, 1
    for _ in range(n):
        a, b = b, a + b
    return a


@kernel
def average(x: Array[float]) -> float:
    total = 0.0
    for i in range(len(x)):
        total += x[i]
    return total / len(x)


@kernel
def spread(x: Array[float]) -> float:
    middle = average(x)
    total = 0.0
    for i in range(x.shape[0]):
        total += (x[i] - middle) ** 2
    return math.sqrt(total / len(x))


@kernel
def reverse(x: Array[int]) -> None:
    for i in range(len(x) // 2):
        x[i], x[-1 - i] = x[-1 - i], x[i]


def test_a_while_loop_with_conditions() -> None:
    assert check(collatz, 27) == 111


def test_a_kernel_calls_itself_and_others() -> None:
    assert check(fibonacci, 20) == 6765
    assert check(spread, np.array([1.0, 2.0, 4.0, 9.0])) == pytest.approx(3.082, abs=1e-3)


def test_tuples_are_swapped_at_once() -> None:
    assert check(swaps, 90) == 2880067194370816120
    numbers = array("q", range(7))
    reverse(numbers)
    assert list(numbers) == [6, 5, 4, 3, 2, 1, 0]


def test_names_outside_are_constants() -> None:
    """They have the value that they had when the kernel was defined."""
    text = "LIMIT = 3\nNAME = 0.5\ndef f(n: int) -> float:\n    return n * LIMIT + NAME + math.pi\n"
    assert compiled(text)(2) == 6.5 + math.pi


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        ("n if n > 2 else -n", 5),
        ("min(n, 3, 4)", 3),
        ("max(n, 7)", 7),
        ("abs(-n)", 5),
        ("n ** 3", 125),
        ("n ** 0", 1),
        ("1 < n < 9 < 10", True),
        ("n and 7", 7),
        ("0 or n", 5),
        ("not n", False),
        ("-n // 2", -3),
        ("-n % 3", 1),
        ("n % -3", -1),
        ("n << 70", 0),
        ("-n >> 70", -1),
        ("~n", -6),
        ("True + n", 6),
        ("int(2.9) + int(-2.9) + round(2.5) + math.floor(-0.5)", 1),
        ("n == 5 and not n > 5", True),
        ("int(n / 2)", 2),
        ("bool(n)", True),
    ],
)
def test_expressions(body: str, expected: object) -> None:
    result = "bool" if isinstance(expected, bool) else "int"
    assert compiled(f"def f(n: int) -> {result}:\n    return {body}\n")(5) == expected


@pytest.mark.parametrize(
    "body",
    [
        "math.sin(x)",
        "math.exp(x)",
        "math.atan2(x, 2.0)",
        "math.pow(x, 0.3)",
        "x ** 2",
        "x ** -1.5",
        "math.hypot(x, 1.0)",
        "x % 0.7",
        "-x // 0.7",
        "x / 3",
        "7 / (x + 1)",
        "math.log(x)",
        "math.copysign(x, -1.0)",
        "float(int(x * 10))",
        "1e308 * x",
        "x if math.isnan(x) else 0.5",
        "math.inf - x",
    ],
)
def test_functions_of_math_give_what_python_gives(body: str) -> None:
    """To the last bit: Python itself is asked where WASM has no instruction."""
    function = compiled(f"def f(x: float) -> float:\n    return {body}\n")
    for x in (0.1, 1.0, 2.7182, 1e-300, 123456.789):
        assert outcome(function, x) == outcome(function.__wrapped__, x)


def test_large_integers_are_divided_exactly() -> None:
    """The quotient of two integers is rounded once, also when they are no floats themselves."""
    divide = compiled("def f(a: int, b: int) -> float:\n    return a / b\n")
    for a, b in ((2**53 + 1, 1), (2**62 + 2**9 + 1, 3), (2**63 - 1, 2**54 - 1), (-(2**63), 7), (10**18 + 1, 10**17)):
        assert divide(a, b) == a / b


def test_large_integers_and_floats_are_compared_exactly() -> None:
    less = compiled(
        "def f(a: int, x: float) -> int:\n    return (a < x) + 2 * (a == x) + 4 * (x <= a) + 8 * (a != x)\n"
    )
    for a in (2**53, 2**53 + 1, 2**63 - 1, -(2**63), 0):
        for x in (2.0**53, 2.0**53 + 2, 2.0**63, -(2.0**63), math.inf, -math.inf, math.nan, 0.5, -0.0):
            assert less(a, x) == (a < x) + 2 * (a == x) + 4 * (x <= a) + 8 * (a != x)


def test_integers_wrap_around() -> None:
    """The one thing in which they are not Python's."""
    square = compiled("def f(a: int) -> int:\n    return a * a\n")
    assert square(2**40) == 0
    assert compiled("def f(a: i32) -> i32:\n    return a + 1\n")(2**31 - 1) == -(2**31)
    assert compiled("def f(a: int) -> int:\n    return a // -1\n")(-(2**63)) == -(2**63)
    assert compiled("def f(a: int) -> int:\n    return i32(a)\n")(2**31) == -(2**31)


@pytest.mark.parametrize(
    "bounds", ["5", "2, 5", "5, 2", "0, 10, 3", "10, 0, -3", "0, 0", "3, -1, -1", "n, 2 * n, n", "9, n, -n"]
)
def test_ranges(bounds: str) -> None:
    """In any direction; the name keeps the last number, and the body may change it."""
    text = f"def f(n: int) -> int:\n    last = total = -1\n    for i in range({bounds}):\n"
    text += "        total = total * 31 + i\n        last = i\n        i = 7\n    return total * 100 + last\n"
    function = compiled(text)
    for n in (4, 1):
        assert function(n) == function.__wrapped__(n)


def test_a_range_that_ends_at_the_last_integer() -> None:
    """The step beyond the end does not wrap around to the beginning."""
    text = "def f(start: int, stop: int, step: int) -> int:\n    n = 0\n"
    count = compiled(text + "    for i in range(start, stop, step):\n        n += 1\n    return n\n")
    top = 2**63 - 1
    assert [count(top - 5, top, 2), count(top - 5, top, 4), count(-top, -top - 1, -3), count(-top, top, top)] == [
        3,
        2,
        1,
        2,
    ]
    ones = compiled(
        "def f(stop: int) -> int:\n    n = 0\n    for i in range(stop - 9, stop):\n        n += i % 2\n    return n\n"
    )
    assert ones(top) == 4
    with pytest.raises(ValueError, match=r"arg 3 must not be zero"):
        count(0, 1, 0)


def test_loops_are_left_and_continued() -> None:
    text = """\
def f(x: Array[i64]) -> int:
    total = 0
    for i in range(len(x)):
        if x[i] == 3:
            continue
        if x[i] > 5:
            break
        for j in range(3):
            if j == 2:
                break
            total += x[i] * j
    return total
"""
    function = compiled(text)
    numbers = np.arange(10)
    assert function(numbers) == function.__wrapped__(numbers) == 12


def test_arrays_of_all_kinds() -> None:
    """Elements of one, four and eight bytes; rows and columns; indexes from the end."""
    text = (
        "def f(x: Array[{0}], y: Array2[{0}]) -> None:\n    x[-1] = x[0] + y[1, -1] + y.shape[1]\n    y[-2, 1] = x[1]\n"
    )
    for name, dtype in (("u8", "u1"), ("i32", "i4"), ("i64", "i8"), ("f32", "f4"), ("f64", "f8")):
        x, y = np.arange(5).astype(dtype), np.arange(6).astype(dtype).reshape(2, 3)
        compiled(text.format(name))(x, y)
        assert x.tolist() == [0, 1, 2, 3, 8]
        assert y.tolist() == [[0, 1, 2], [3, 4, 5]]


def test_single_precision_is_rounded_as_numpy_does() -> None:
    text = "def f(x: Array[f32], y: Array[f32]) -> None:\n    for i in range(len(x)):\n"
    text += "        y[i] = x[i] * 1.1 + y[i] / 3.0\n"
    rng = np.random.default_rng(1)
    x, y = rng.random(101, "f4"), rng.random(101, "f4")
    expected = x * np.float32(1.1) + y / np.float32(3.0)
    compiled(text)(x, y)
    assert (y == expected).all()


@pytest.mark.parametrize(
    ("body", "error", "text"),
    [
        ("n // (n - n)", ZeroDivisionError, "division by zero"),
        ("n % (n - n)", ZeroDivisionError, "division by zero"),
        ("int(1.0 / (n - n))", ZeroDivisionError, "division by zero"),
        ("n << -n", ValueError, "negative shift count"),
        ("n >> -n", ValueError, "negative shift count"),
        ("int(math.sqrt(-n))", ValueError, "math domain error"),
        ("int(math.log(-n))", ValueError, "math domain"),
        ("int(math.exp(n * 1e9))", OverflowError, "range"),
        ("int(math.nan)", ValueError, "NaN"),
        ("int(1e30 * n)", OverflowError, "64 bits"),
        ("int((-1.0 * n) ** 0.5)", ValueError, "complex"),
    ],
)
def test_errors_are_those_of_python(body: str, error: type[Exception], text: str) -> None:
    """With a note of the line of the source that is to blame."""
    with pytest.raises(error, match=text) as caught:
        compiled(f"def f(n: int) -> int:\n    return {body}\n")(5)
    assert "in " in caught.value.__notes__[0]


def test_an_error_tells_its_line() -> None:
    with pytest.raises(IndexError) as caught:
        compiled("def f(x: Array[f64]) -> float:\n    a = 1\n    return x[a + 9]\n")(np.zeros(4))
    assert str(caught.value) == "index 10 is out of range: x has 4 there"
    assert caught.value.__notes__[0].endswith(":3, in f: return x[a + 9]")


def test_a_kernel_raises_on_purpose() -> None:
    text = 'def f(n: int) -> int:\n    assert n != 3, "three {n}"\n'
    text += '    if n < 0:\n        raise KeyError("below")\n    return n\n'
    function = compiled(text)
    assert function(1) == 1
    with pytest.raises(KeyError, match="below"):
        function(-1)
    with pytest.raises(AssertionError, match=r"three \{n\}"):
        function(3)
    assert function(2) == 2


def test_endless_recursion_is_an_error() -> None:
    with pytest.raises(RecursionError, match="calls itself too deeply"):
        compiled("def f(n: int) -> int:\n    return f(n + 1) + 1\n")(0)


def test_fast_may_regroup_sums() -> None:
    """Only when asked: otherwise a sum of floats is made from left to right."""
    text = "def f(x: Array[f64]) -> float:\n    s = 0.0\n    for i in range(len(x)):\n"
    text += "        s += x[i] * x[i]\n    return s\n"
    numbers = np.random.default_rng(2).random(1000)
    exact, fast = compiled(text), compiled(text, fast=True)
    assert exact(numbers) == exact.__wrapped__(numbers.tolist())
    assert fast(numbers) == pytest.approx(exact(numbers), rel=1e-12)
    assert "f64x2.add" in fast.wat
    assert "f64x2" not in exact.wat


def test_the_types_that_may_be_used_outside() -> None:
    """They round as a kernel does."""
    assert (i32(2**31), i32(1.9), u8(-1), f32(0.1), f32(1e300)) == (-(2**31), 1, 255, 0.10000000149011612, math.inf)


VECTORS = {
    "f64x2.mul": ("a: float, x: Array[f64], y: Array[f64]", "y[i] += a * x[i]"),
    "f32x4.mul": ("a: f32, x: Array[f32], y: Array[f32]", "y[i] += a * x[i]"),
    "i32x4.shl": ("x: Array[i32]", "x[i] ^= x[i] << 3"),
    "i64x2.add": ("x: Array[i64], y: Array[i64]", "y[i] = x[i] + i"),
    "f32x4.add": ("x: Array2[f32], y: Array2[f32], k: int", "x[k, i] += y[k, i]"),
    "f64x2.sqrt": ("x: Array[f64]", "x[i] = 1.0 / math.sqrt(x[i])"),
    "v128.bitselect": ("x: Array[f64]", "x[i] = x[i] if x[i] > 0.0 else 0.0"),
}


@pytest.mark.parametrize(("instruction", "parameters", "body"), [(name, *loop) for name, loop in VECTORS.items()])
def test_simple_loops_are_vectors(instruction: str, parameters: str, body: str) -> None:
    """Where the elements follow one another, and no turn needs what another one has done."""
    assert instruction in compiled(f"def f({parameters}) -> None:\n    for i in range(len(x)):\n        {body}\n").wat


def test_sums_of_integers_are_vectors() -> None:
    """They are the same in any order."""
    text = "def f(x: Array[i64]) -> int:\n    s = 5\n    for i in range(len(x)):\n        s += x[i]\n    return s\n"
    function = compiled(text)
    assert "i64x2.add" in function.wat
    assert function(np.arange(101)) == 5055


@pytest.mark.parametrize(
    "text",
    [
        "(x: Array[f64]) -> None:\n    for i in range(1, len(x)):\n        x[i] = x[i - 1] + 1.0",
        "(x: Array[f64]) -> float:\n    s = 0.0\n    for i in range(len(x)):\n        s += x[i]\n    return s",
        "(x: Array[f64], y: Array[i64]) -> None:\n    for i in range(len(x)):\n        x[y[i]] = 1.0",
    ],
)
def test_loops_in_which_order_matters_are_not(text: str) -> None:
    assert "x2." not in compiled(f"def f{text}\n").wat
