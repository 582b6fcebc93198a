"""Random kernels give what CPython gives: values, exceptions, and what is left in arrays."""

from array import array
from typing import Any

import pytest
from hypothesis import HealthCheck, example, given, reject, settings
from hypothesis import strategies as st

from hybrid_compute.kernels import KernelError
from tests.kernels.oracle import Numbers, Outcome, bits, compiled, outcome, python, wrap

pytest.importorskip("wasmtime")
SETTINGS = settings(max_examples=150, deadline=None, suppress_health_check=list(HealthCheck))

EDGES = [0, 1, -1, 2, 3, 7, -8, 63, 64, 65, 2**31, -(2**31), 2**53 + 1, 2**62, 2**63 - 1, -(2**63) + 1, -(2**63)]
INTS = st.one_of(st.sampled_from(EDGES), st.integers(-20, 20), st.integers(-(2**63), 2**63 - 1))
FLOATS = st.one_of(
    st.sampled_from([0.0, -0.0, 1.0, -1.5, 0.5, 2.5, 1e308, 5e-324, 2.0**53, 2.0**63, -(2.0**63)]),
    st.floats(-100, 100),
    st.floats(-3e-308, 3e-308),
    st.floats(),
)

INT_NAMES = ["a", "b", "c"]
FLOAT_NAMES = ["x", "y", "z"]


@st.composite
def ints(draw: Any, depth: int = 3) -> str:
    kind = draw(st.integers(0, 10 if depth else 1))
    if kind == 0:
        return str(draw(st.one_of(st.integers(0, 9), st.sampled_from([255, 2**31, 2**40]))))
    if kind == 1:
        return str(draw(st.sampled_from(INT_NAMES)))
    left, right = draw(ints(depth=depth - 1)), draw(ints(depth=depth - 1))
    if kind <= 4:
        return f"({left} {draw(st.sampled_from(['+', '-', '*', '&', '|', '^']))} {right})"
    if kind == 5:
        return f"({left} {draw(st.sampled_from(['//', '%', '<<', '>>']))} {right})"
    if kind == 6:
        return f"({draw(st.sampled_from(['-', '~', 'abs', '+']))}({left}))"
    if kind == 7:
        return f"{draw(st.sampled_from(['min', 'max']))}({left}, {right})"
    if kind == 8:
        return f"({left} if {draw(conditions(depth=depth - 1))} else {right})"
    if kind == 9:
        return f"p[{draw(st.sampled_from([f'({left}) % 5', left, 'a % len(p)', '-1']))}]"
    name = draw(st.sampled_from(["int", "math.floor", "math.ceil", "round", "math.trunc"]))
    return f"{name}({draw(floats(depth=depth - 1))})"


@st.composite
def floats(draw: Any, depth: int = 3) -> str:
    kind = draw(st.integers(0, 9 if depth else 1))
    if kind == 0:
        return str(draw(st.sampled_from(["0.5", "2.0", "-1.25", "1e10", "0.1"])))
    if kind == 1:
        return str(draw(st.sampled_from(FLOAT_NAMES)))
    left, right = draw(floats(depth=depth - 1)), draw(floats(depth=depth - 1))
    whole = draw(ints(depth=depth - 1))
    if kind <= 3:
        return f"({left} {draw(st.sampled_from(['+', '-', '*']))} {right})"
    if kind == 4:
        return f"({left} {draw(st.sampled_from(['/', '//', '%']))} {right})"
    if kind == 5:
        return f"({left} {draw(st.sampled_from(['+', '-', '*', '/']))} {whole})"
    if kind == 6:
        return draw(
            st.sampled_from(
                [
                    f"abs({left})",
                    f"(-{left})",
                    f"math.sqrt({left})",
                    f"float({whole})",
                    f"({whole} / {draw(ints(depth=0))})",
                ]
            )
        )
    if kind == 7:
        return f"{draw(st.sampled_from(['min', 'max']))}({left}, {right})"
    if kind == 8:
        return f"({left} if {draw(conditions(depth=depth - 1))} else {right})"
    return f"q[{draw(st.sampled_from([f'({whole}) % 5', whole, 'b % len(q)', '-2']))}]"


@st.composite
def conditions(draw: Any, depth: int = 2) -> str:
    kind = draw(st.integers(0, 6 if depth > 0 else 1))
    op, other = (draw(st.sampled_from(["<", "<=", ">", ">=", "==", "!="])) for _ in range(2))
    depth = max(depth, 0)
    if kind == 0:
        return f"({draw(ints(depth=0))} {op} {draw(ints(depth=0))})"
    if kind == 1:
        return f"({draw(floats(depth=0))} {op} {draw(floats(depth=0))})"
    if kind == 2:
        return f"({draw(ints(depth=depth - 1))} {op} {draw(floats(depth=depth - 1))})"
    if kind == 3:
        return f"({draw(ints(depth=0))} {op} {draw(ints(depth=depth - 1))} {other} {draw(ints(depth=0))})"
    if kind == 4:
        return f"(not {draw(conditions(depth=depth - 1))})"
    if kind == 5:
        left, right = draw(conditions(depth=depth - 1)), draw(conditions(depth=depth - 1))
        return f"({left} {draw(st.sampled_from(['and', 'or']))} {right})"
    return f"bool({draw(ints(depth=0))})"


@st.composite
def statements(draw: Any, depth: int = 2, loop: bool = False) -> list[str]:
    lines: list[str] = []
    for _ in range(draw(st.integers(1, 4))):
        kind = draw(st.integers(0, 9 if depth else 5))
        if kind <= 1:
            name, op = draw(st.sampled_from(INT_NAMES)), draw(st.sampled_from(["=", "+=", "^=", "-=", "*="]))
            lines.append(f"{name} {op} {draw(ints())}")
        elif kind <= 3:
            name, op = draw(st.sampled_from(FLOAT_NAMES)), draw(st.sampled_from(["=", "+=", "*=", "-="]))
            lines.append(f"{name} {op} {draw(floats())}")
        elif kind == 4:
            lines.append(f"p[{draw(ints(depth=1))}] {draw(st.sampled_from(['=', '+=']))} {draw(ints(depth=2))}")
        elif kind == 5:
            lines.append(
                f"q[({draw(ints(depth=1))}) % 5] {draw(st.sampled_from(['=', '+=', '*=']))} {draw(floats(depth=2))}"
            )
        elif kind == 6:
            lines.append(f"if {draw(conditions())}:")
            lines += indented(draw(statements(depth=depth - 1, loop=loop)))
            if draw(st.booleans()):
                lines += ["else:", *indented(draw(statements(depth=depth - 1, loop=loop)))]
        elif kind == 7:
            name = f"i{depth}"
            bounds = draw(
                st.sampled_from(
                    [
                        "len(q)",
                        f"({draw(ints(depth=1))}) % 6",
                        "1, 5",
                        "4, -1, -1",
                        "-3, 9, 2",
                        "5, -5, -3",
                        "a % 5, b % 7",
                    ]
                )
            )
            lines.append(f"for {name} in range({bounds}):")
            body = draw(statements(depth=depth - 1, loop=True))
            if draw(st.booleans()):
                body += [f"q[{name}] += x * {name}", f"p[{name} - 1] ^= a"]
            lines += indented(body)
        elif kind == 8:
            name = f"w{depth}"
            lines += [f"{name} = 0", f"while {name} < 4 and {draw(conditions())}:"]
            lines += indented([f"{name} += 1", *draw(statements(depth=depth - 1, loop=True))])
        elif loop:
            lines += [f"if {draw(conditions())}:", f"    {draw(st.sampled_from(['break', 'continue']))}"]
        else:
            lines.append("a, b = b, a")
    return lines


def indented(lines: list[str]) -> list[str]:
    return [f"    {line}" for line in lines]


HEAD = "def f(a: int, b: int, x: float, y: float, p: Array[i64], q: Array[f64]) -> {}:\n    c = 1\n    z = 0.5\n"


def both(text: str, numbers: tuple[Any, ...]) -> tuple[Outcome, Outcome]:
    """What CPython makes of it, and what the kernel does."""
    a, b, x, y, p, q = numbers
    try:
        kernel = compiled(text)
    except KernelError as error:
        if "does not fit in 64 bits" in str(error):  # what two literals give is known at once
            reject()
        raise
    try:
        expected = outcome(python(text), wrap(a), wrap(b), x, y, Numbers(array("q", p)), Numbers(array("d", q)))
    except MemoryError:  # 1 << 2**40: literals do not wrap around in CPython
        reject()
    return expected, outcome(kernel, a, b, x, y, array("q", p), array("d", q))


ARGUMENTS = st.tuples(
    INTS, INTS, FLOATS, FLOATS, st.lists(INTS, min_size=5, max_size=5), st.lists(FLOATS, min_size=5, max_size=5)
)


@SETTINGS
@given(expression=ints(), numbers=ARGUMENTS)
def test_integer_expressions(expression: str, numbers: tuple[Any, ...]) -> None:
    """Division and remainders round down, shifts go any distance, and what overflows wraps around."""
    expected, got = both(HEAD.format("int") + f"    return {expression}\n", numbers)
    assert got == expected


@SETTINGS
@given(expression=floats(), numbers=ARGUMENTS)
def test_float_expressions(expression: str, numbers: tuple[Any, ...]) -> None:
    """To the last bit, with NaN, infinities, and both zeros."""
    expected, got = both(HEAD.format("float") + f"    return {expression}\n", numbers)
    assert got == expected


@SETTINGS
@given(x=FLOATS, y=FLOATS)
@example(x=1e300, y=5e-324)
@example(x=5.0, y=1e-310)
@example(x=1e-308, y=-3e-310)
@example(x=-1e-310, y=3e-310)
def test_remainders_of_floats(x: float, y: float) -> None:
    """Down to the smallest divisors there are."""
    for text in ("x % y", "x // y"):
        expected, got = both(HEAD.format("float") + f"    return {text}\n", (1, 1, x, y, [0] * 5, [0.0] * 5))
        assert got == expected


@SETTINGS
@given(expression=conditions(), numbers=ARGUMENTS)
def test_comparisons(expression: str, numbers: tuple[Any, ...]) -> None:
    """Also between integers and floats that are not the same only beyond 2**53."""
    expected, got = both(HEAD.format("bool") + f"    return {expression}\n", numbers)
    assert got == expected


@SETTINGS
@given(body=statements(), numbers=ARGUMENTS)
def test_programs(body: list[str], numbers: tuple[Any, ...]) -> None:
    """Loops, branches and stores, up to the place where one fails."""
    text = HEAD.format("float") + "\n".join(indented(body)) + "\n    return x + y * 0.5 + z + a + b + c\n"
    expected, got = both(text, numbers)
    assert got == expected


# Loops that may be done in vectors.

ELEMENT = st.sampled_from(["x[i]", "y[i]", "z[i]", "x[i]", "t", "a", "2", "3", "x[i + 1]", "x[i - 1]", "m"])


@st.composite
def elementwise(draw: Any, whole: bool, depth: int = 3) -> str:
    kind = draw(st.integers(0, 6 if depth else 0))
    if kind == 0:
        term = str(draw(ELEMENT))
        return term if whole or not term.isdigit() else f"{term}.0"
    left, right = draw(elementwise(whole, depth=depth - 1)), draw(elementwise(whole, depth=depth - 1))
    if kind <= 3:
        return f"({left} {draw(st.sampled_from(['+', '-', '*']))} {right})"
    if kind == 4:
        return f"({left} {'^' if whole else '/'} {right})"
    if kind == 5:
        return f"({left} if {left} {draw(st.sampled_from(['<', '==', '>=']))} {right} else {right})"
    if whole:
        return f"({left} {draw(st.sampled_from(['>>', '<<']))} 3)"
    return draw(
        st.sampled_from(
            [
                f"abs({left})",
                f"math.sqrt({left})",
                f"min({left}, {right})",
                f"max({left}, {right})",
                "i * 0.5",
                f"(-{left})",
            ]
        )
    )


LENGTHS = st.tuples(st.integers(0, 40), st.integers(-2, 2), st.integers(-2, 3))


@SETTINGS
@given(data=st.data(), whole=st.booleans(), sizes=LENGTHS, alias=st.sampled_from(["none", "same", "overlap"]))
def test_loops_over_arrays(data: st.DataObject, whole: bool, sizes: tuple[int, int, int], alias: str) -> None:
    """Whether in vectors or not; with arrays that are one, overlap, or are too short; failing at the right element."""
    scalar, letter = ("int", "q") if whole else ("float", "d")
    lines = [f"t = {data.draw(elementwise(whole, 2))}"] if data.draw(st.booleans()) else []
    lines.append(f"y[i] {data.draw(st.sampled_from(['=', '+=', '-=']))} {data.draw(elementwise(whole))}")
    if data.draw(st.booleans()):
        lines.append(f"z[i] = {data.draw(elementwise(whole))}")
    if data.draw(st.booleans()):
        lines.append(f"s += {data.draw(elementwise(whole, 1))}")
    size, less, start = sizes
    span = data.draw(st.sampled_from(["len(x)", f"{start}, len(y)", "len(z)"]))
    zero = "0" if whole else "0.0"
    text = (
        f"def f(a: {scalar}, m: {scalar}, x: Array[{scalar}], y: Array[{scalar}], z: Array[{scalar}]) -> {scalar}:\n"
        f"    s = {zero}\n    t = a\n    for i in range({span}):\n"
        + "\n".join(indented(indented(lines)))
        + "\n    return s + t\n"
    )
    values = st.integers(-9, 9) if whole else st.one_of(st.floats(-9, 9), st.sampled_from([0.0, -0.0, 1.0]))
    drawn = data.draw(st.lists(values, min_size=3 * size + 8, max_size=3 * size + 8))

    def arguments(number: Any, wrapper: Any) -> list[Any]:
        pool = array(letter, drawn)
        x, y, z = pool[:size], pool[size : 2 * size], pool[2 * size : 3 * size + less if less > 0 else 3 * size]
        if alias == "same":
            y = x
        views: list[Any] = [x, y, z]
        if alias == "overlap":
            view = memoryview(pool)
            views = [view[2 : size + 2], view[3 : size + 3], view[size : 2 * size]]
        return [number(drawn[-1]), number(drawn[-2]), *map(wrapper, views), pool]

    def run(function: Any, wrapped: bool) -> Outcome:
        *given, pool = arguments(
            wrap if wrapped and whole else (int if whole else float), Numbers if wrapped else (lambda each: each)
        )
        ended = outcome(function, *given)
        return (*ended, [bits(each) for each in pool])

    assert run(compiled(text), False) == run(python(text), True)
