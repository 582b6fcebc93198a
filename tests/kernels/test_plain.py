"""A kernel as Python gives what it gives as WebAssembly: to the last bit, for all types, also where it fails."""

import itertools
import math
import struct
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, reject, settings
from hypothesis import strategies as st

from hybrid_compute.kernels import KernelError
from tests.kernels.oracle import compiled

pytest.importorskip("wasmtime")
SETTINGS = settings(max_examples=120, deadline=None, suppress_health_check=list(HealthCheck))

DTYPES = {"u8": "u1", "i32": "i4", "int": "i8", "f32": "f4", "float": "f8"}
SCALARS = ["bool", "i32", "int", "f32", "float"]
NAMES = {"bool": ["b"], "i32": ["n", "m"], "int": ["a", "c", "i"], "f32": ["s", "t"], "float": ["x", "y"]}
ARRAYS = {"i32": ["p32"], "int": ["p64", "p8"], "f32": ["q32"], "float": ["q64"]}
HEAD = (
    "def f(b: bool, n: i32, a: int, s: f32, x: float, p8: Array[u8], p32: Array[i32], p64: Array[int], q32: Array[f32],"
    " q64: Array[float], g: Array2[{element}]) -> {result}:\n"
    "    m: i32 = 3\n    c = i = 1\n    t: f32 = 0.5\n    y = 2.0\n"
)


@st.composite
def of(draw: Any, type: str, depth: int = 3) -> str:
    """An expression of this type."""
    if type == "bool":
        return str(draw(conditions(depth)))
    kind = draw(st.integers(0, 12 if depth > 0 else 2))
    if kind == 0:
        return str(
            draw(st.sampled_from(["1", "3", "-7", "250"] if type in {"i32", "int"} else ["0.1", "-1.5", "1e30"]))
        )
    if kind == 1:
        return str(draw(st.sampled_from(NAMES[type])))
    if kind == 2:
        return f"{draw(st.sampled_from(ARRAYS[type]))}[{draw(st.sampled_from(['0', '-1', 'i', 'c', '2']))}]"
    one, other = draw(of(type, depth - 1)), draw(of(type, depth - 1))
    if kind <= 5:
        return f"({one} {draw(st.sampled_from(['+', '-', '*']))} {other})"
    if kind == 6:
        return f"({one} {draw(st.sampled_from(['//', '%']))} {other})"
    if kind == 7:
        return f"({one} if {draw(conditions(depth - 1))} else {other})"
    if kind == 8:
        return f"{draw(st.sampled_from(['min', 'max']))}({one}, {other})"
    if kind == 9:
        return f"{draw(st.sampled_from(['-', 'abs', '+']))}({one})"
    any_other = draw(of(draw(st.sampled_from(SCALARS)), depth - 1))
    if kind == 10:
        return f"{type}({any_other})"
    if type in {"i32", "int"}:
        whole = f"{draw(st.sampled_from(['math.floor', 'round', 'math.ceil']))}({draw(of('float', depth - 1))})"
        bits = f"({one} {draw(st.sampled_from(['&', '|', '^', '<<', '>>']))} {other})"
        return f"~{one}" if kind == 11 else bits if type == "i32" or draw(st.booleans()) else whole
    if kind == 11:
        return f"({one} / {other})" if draw(st.booleans()) else f"math.sqrt({one})"
    return f"({one} * {draw(of('int', depth - 1))})" if type == "f32" else f"math.sin({one}) ** {other}"


@st.composite
def conditions(draw: Any, depth: int) -> str:
    if depth <= 0:
        return str(draw(st.sampled_from(["b", "True", "(not b)"])))
    kind = draw(st.integers(0, 4))
    if kind <= 2:
        left, right = (
            draw(of(draw(st.sampled_from(SCALARS)), depth - 1)),
            draw(of(draw(st.sampled_from(SCALARS)), depth - 1)),
        )
        return f"({left} {draw(st.sampled_from(['<', '<=', '==', '!=', '>']))} {right})"
    if kind == 3:
        return (
            f"({draw(conditions(depth - 1))} {draw(st.sampled_from(['and', 'or', '^']))} {draw(conditions(depth - 1))})"
        )
    return f"bool({draw(of(draw(st.sampled_from(SCALARS)), depth - 1))})"


@st.composite
def statements(draw: Any, element: str, depth: int = 2) -> list[str]:
    lines: list[str] = []
    grid = "int" if element == "u8" else element
    for _ in range(draw(st.integers(1, 3))):
        kind = draw(st.integers(0, 7 if depth else 4))
        type = draw(st.sampled_from(SCALARS[1:]))
        op = draw(st.sampled_from(["=", "+=", "-=", "*=", "//=", "%="]))
        if kind <= 1:
            lines.append(f"{draw(st.sampled_from(ARRAYS[type]))}[{draw(of('int', 1))}] {op} {draw(of(type))}")
        elif kind == 2:
            lines.append(f"g[{draw(of('int', 1))}, {draw(st.sampled_from(['i', '-1', 'c']))}] {op} {draw(of(grid))}")
        elif kind == 3:
            lines.append(f"{draw(st.sampled_from(NAMES[type]))} {op} {draw(of(type))}")
        elif kind == 4:
            lines.append(f"b = {draw(conditions(2))}")
        elif kind == 5:
            lines += [f"if {draw(conditions(2))}:", *indented(draw(statements(element, depth - 1)))]
            lines += ["else:", *indented(draw(statements(element, depth - 1)))]
        elif kind == 6:
            span = draw(st.sampled_from(["len(q64)", "g.shape[1]", "5, -3, -2", "c % 4, 4", "1, 4, a"]))
            lines += [f"for i in range({span}):"]
            loop = [f"g[1, i] {op} {draw(of(grid, 1))}"] if draw(st.booleans()) else []
            lines += indented([*loop, *draw(statements(element, depth - 1))])
        else:
            name = f"w{depth}"
            lines += [f"{name} = 0", f"while {name} < 3 and {draw(conditions(1))}:", f"    {name} += 1"]
            lines += indented(draw(statements(element, depth - 1)))
    return lines


def indented(lines: list[str]) -> list[str]:
    return [f"    {line}" for line in lines]


WHOLE = st.one_of(st.sampled_from([0, 1, -1, 2, 255, 2**31 - 1, -(2**31), 2**63 - 1, -(2**63)]), st.integers(-9, 9))
FLOATS = st.one_of(
    st.sampled_from([0.0, -0.0, 1.0, -2.5, 1e300, 3.5e38, 1e-45, float("nan"), float("inf"), 2.0**31]),
    st.floats(-50, 50),
)
NUMBERS = st.tuples(
    st.booleans(), WHOLE, WHOLE, FLOATS, FLOATS, st.lists(WHOLE, min_size=9), st.lists(FLOATS, min_size=9)
)


@SETTINGS
@given(
    data=st.data(),
    element=st.sampled_from(sorted(DTYPES)),
    result=st.sampled_from(SCALARS),
    numbers=NUMBERS,
    deterministic=st.booleans(),
)
def test_as_python_it_gives_the_same(
    data: st.DataObject, element: str, result: str, numbers: tuple[Any, ...], deterministic: bool
) -> None:
    """Results, what is left in arrays, and which error where; the bits of NaN, too, where they are determined."""
    lines = [*data.draw(statements(element)), f"return {data.draw(of(result))}"]
    text = HEAD.format(element=element, result=result) + "\n".join(indented(lines)) + "\n"
    try:
        kernel = compiled(text, deterministic=deterministic)
    except KernelError as error:
        if any(reason in str(error) for reason in ("if meant", "does not fit", "one side is a bool")):
            reject()  # an i32 has met an int, say
        raise
    assert both(kernel, numbers, element, deterministic)


def both(kernel: Any, numbers: tuple[Any, ...], element: str, deterministic: bool) -> bool:
    """Whether it ends in the same way both ways."""
    ended = [
        ending(call, numbers, element, deterministic) for call in (kernel, lambda *given: kernel._plain().call(given))
    ]
    assert kernel.compiled
    assert ended[0] == ended[1]
    return True


def ending(call: Any, numbers: tuple[Any, ...], element: str, deterministic: bool) -> tuple[Any, ...]:
    b, n, a, s, x, whole, floats = numbers
    arrays = [np.array(whole[:5], "i8").astype(dtype) for dtype in ("u1", "i4", "i8")]
    with np.errstate(over="ignore"):
        arrays += [np.array(floats[:5], dtype) for dtype in ("f4", "f8")]
        grid = floats if element[0] == "f" else whole
        arrays.append(np.array(grid[1:9], "f8" if element[0] == "f" else "i8").astype(DTYPES[element]).reshape(2, 4))
        s = float(np.float32(s))
    try:
        value = call(b, (n + 2**31) % 2**32 - 2**31, a, s, x, *arrays)
        ended: tuple[Any, ...] = (type(value), "nan" if value != value else value, str(value))
    except (ArithmeticError, ValueError, IndexError) as error:
        ended = (type(error), str(error), *error.__notes__)
    with np.errstate(invalid="ignore"):
        left = [each if deterministic else np.where(each == each, each, 7) for each in arrays]
    return (*ended, *(each.tobytes() for each in left))


EDGES: dict[str, list[Any]] = {
    "bool": [False, True],
    "i32": [0, 1, -1, 2, 3, -7, 31, 32, 33, 65537, 2**31 - 1, -(2**31)],
    "int": [0, 1, -1, 2, 3, -7, 63, 64, 65, 2**32, 2**53 + 1, 2**63 - 1, -(2**63)],
    "f32": [0.0, -0.0, 1.0, -2.5, 0.75, 1e30, -1e30, 1e-40, math.inf, -math.inf, math.nan],
    "float": [0.0, -0.0, 1.0, -2.5, 0.1, 1e300, -1e300, 5e-324, 2.0**63, math.inf, -math.inf, math.nan],
}
OPERATIONS = [f"a {op} b" for op in ["+", "-", "*", "/", "//", "%", "<", "<=", "==", "!=", "and", "or"]]
OPERATIONS += ["min(a, b)", "max(a, b)", "-a", "abs(a)", "bool(a)", "i32(a)", "int(a)", "f32(a)", "float(a)", "a ** 3"]
OPERATIONS += [f"a {op} b" for op in ["&", "|", "^", "<<", ">>"]] + ["~a", "round(a)", "math.sqrt(a)", "math.floor(a)"]


@pytest.mark.parametrize("type", EDGES)
@pytest.mark.parametrize("operation", OPERATIONS)
def test_an_operation_gives_the_same(operation: str, type: str) -> None:
    """On all pairs of numbers at the edges; NaN has the same bits, too, where kernels are deterministic."""
    kernel = only_result(f"def f(a: {type}, b: {type}) -> {{}}:\n    return {operation}\n")
    if kernel is not None:
        plain = kernel._plain()
        for a, b in itertools.product(EDGES[type], repeat=2):
            assert whole_ending(kernel, a, b) == whole_ending(lambda *given: plain.call(given), a, b), (a, b)


def only_result(text: str) -> Any:
    """The kernel, with the type of result that it has to have; None if it is none."""
    for result in ("bool", "i32", "int", "f32", "float"):
        try:
            return compiled(text.format(result), deterministic=True)
        except KernelError:
            pass
    return None


def whole_ending(call: Any, a: Any, b: Any) -> tuple[Any, ...]:
    try:
        value = call(a, b)
    except (ArithmeticError, ValueError) as error:
        return type(error), str(error), *error.__notes__
    return type(value), struct.pack("d", value) if isinstance(value, float) else value


@given(number=st.one_of(st.integers(-(2**63), 2**63 - 1), st.integers(2**24, 2**25)), shift=st.integers(0, 38))
def test_an_integer_becomes_single_precision_by_rounding_once(number: int, shift: int) -> None:
    """Also where it is beside the middle of two such numbers, and not at all the middle as a double."""
    function = compiled("def f(a: int) -> f32:\n    return f32(a)\n")
    middle = (number % 2**24 | 2**23) * 2 + 1 << shift
    for each in (number, middle, middle + 1, middle - 1, -middle - 1):
        assert function(each) == function._plain().call((each,))


def test_a_range_is_split_in_the_same_parts() -> None:
    text = "def f(start: int, stop: int, x: Array[f64]) -> float:\n    s = 0.0\n    for i in range(start, stop):\n"
    function = compiled(text + "        s += x[i]\n    return s\n")
    x = np.random.default_rng(1).random(1000)
    parts = function.parallel(1000, x, threads=2)
    function._way = function._plain()
    assert function.parallel(1000, x) == parts
    assert not function.compiled


def test_branches_and_sums_of_any_length_are_python() -> None:
    """Each step is a statement of its own, so nothing nests deeper than Python's parser goes."""
    long = " + ".join(["a"] * 300)
    both = " and ".join(["a < 9"] * 200)
    text = f"def f(a: int) -> int:\n    return {long} if {both} else 0\n"
    assert compiled(text)._plain().call((2,)) == compiled(text)(2) == 600
    chain = "".join(f"    elif a == {n}:\n        return {n}\n" for n in range(150))
    text = "def f(a: int) -> int:\n    if a < 0:\n        return a\n" + chain + "    return 1\n"
    assert compiled(text)._plain().call((149,)) == compiled(text)(149) == 149
