"""What is evaluated when, and how often: as in Python, where functions change what is read next to their call."""

from array import array
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.kernels.oracle import Grid, Numbers, Outcome, compiled, outcome, python, wrap

pytest.importorskip("wasmtime")
SETTINGS = settings(max_examples=100, deadline=None, suppress_health_check=list(HealthCheck))

HELPERS = """\
@kernel
def bump(p: Array[i64], by: int) -> int:
    p[0] += by
    p[1] ^= p[0]
    return p[0] % 5

@kernel
def stir(p: Array[i64], m: Array2[i64], k: int) -> int:
    m[k % 2, p[2] % 3] -= k
    p[2] = p[2] * 3 + m[1, 1]
    return p[2] % 3

"""
HEAD = HELPERS + "def f(a: int, p: Array[i64], m: Array2[i64]) -> int:\n    b = 1\n"


@st.composite
def values(draw: Any, depth: int = 3) -> str:
    kind = draw(st.integers(0, 9 if depth else 2))
    if kind == 0:
        return str(draw(st.integers(0, 6)))
    if kind == 1:
        return draw(st.sampled_from(["a", "b"])) + ""
    if kind == 2:
        return str(draw(st.sampled_from(["p[0]", "p[1]", "p[2]", "m[0, 1]", "m[1, 1]"])))
    left, right = draw(values(depth=depth - 1)), draw(values(depth=depth - 1))
    if kind <= 4:
        return f"bump(p, {left})"
    if kind == 5:
        return f"stir(p, m, {left})"
    if kind == 6:
        return f"({left} {draw(st.sampled_from(['+', '-', '*', '%', '//', '<<']))} {right})"
    if kind == 7:
        return draw(places(depth - 1)) + ""
    if kind == 8:
        return f"({left} if {right} < {left} <= {right} else {right})"
    return f"{draw(st.sampled_from(['min', 'max']))}({left}, {right}, {left})"


@st.composite
def places(draw: Any, depth: int = 2) -> str:
    """An element, at times one that is not there."""
    first, second = draw(values(depth=max(depth, 0))), draw(values(depth=max(depth, 0)))
    if draw(st.booleans()):
        return f"p[{first}]" if draw(st.booleans()) else f"p[({first}) % 4]"
    return f"m[{first}, {second}]" if draw(st.booleans()) else f"m[({first}) % 2, ({second}) % 3]"


@st.composite
def statements(draw: Any) -> str:
    first, second = draw(places()), draw(places())
    one, other = draw(values(depth=2)), draw(values(depth=2))
    op = draw(st.sampled_from(["+", "-", "*", "^", "//"]))
    return str(
        draw(
            st.sampled_from(
                [
                    f"{first} = {one}",
                    f"{first} {op}= {one}",
                    f"{first} {op}= {one}",
                    f"{first}, {second} = {one}, {other}",
                    f"a = {first} = {second} = {one}",
                    f"a, b = {one}, {other}",
                    f"a {op}= {one}",
                    f"for i in range(({one}) % 3, ({other}) % 5): {first} += i",
                    f"if {one} <= {other} and {other} != {one}: b = {one}",
                ]
            )
        )
    )


@SETTINGS
@given(body=st.lists(statements(), min_size=1, max_size=4), a=st.integers(-9, 9), drawn=st.integers(-9, 9))
def test_everything_is_evaluated_once_and_in_order(body: list[str], a: int, drawn: int) -> None:
    """Indexes, operands, arguments and bounds; up to the place where one of them fails."""
    text = HEAD + "".join(f"    {line}\n" for line in body) + "    return a * 31 + b\n"
    assert run(compiled(text), a, drawn, wrapped=False) == run(python(text), a, drawn, wrapped=True)


def run(function: Any, a: int, drawn: int, *, wrapped: bool) -> Outcome:
    p, m = array("q", [drawn, 2, 3, -1]), array("q", [1, 2, drawn, 4, 0, -3])
    if wrapped:
        ended = outcome(function, wrap(a), Numbers(p), Grid(m, 3))
    else:
        ended = outcome(function, a, p, memoryview(m).cast("B").cast("q", (2, 3)))
    return (*ended[:-1], p.tolist(), m.tolist())


@pytest.mark.parametrize(
    ("statement", "left"),
    [
        ("p[q[0]] += change(q)", [0, 15, 0]),
        ("p[change(q)] += q[0]", [0, 0, 2]),
        ("p[q[0]] = change(q)", [0, 0, 15]),
        ("p[q[0]], p[q[1]] = change(q), 7", [7, 0, 15]),
    ],
)
def test_an_index_is_evaluated_once(statement: str, left: list[int]) -> None:
    """Also where what is added changes it. What is assigned comes before the index, what is added after it."""
    text = "@kernel\ndef change(q: Array[i64]) -> int:\n    q[0] += 1\n    return {}\n"
    text = text.format("2" if "[change" in statement else "15")
    text += f"def f(p: Array[i64], q: Array[i64]) -> None:\n    {statement}\n"
    for function, kind in ((compiled(text), array), (python(text), array)):
        p, q = kind("q", [0, 0, 0]), kind("q", [1, 0])
        function(p, q)
        assert p.tolist() == left
