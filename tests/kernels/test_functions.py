"""Functions within kernels: what they read of the names around them, and when."""

from array import array
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.kernels.oracle import Numbers, compiled, outcome, python, wrap

pytest.importorskip("wasmtime")
SETTINGS = settings(max_examples=150, deadline=None, suppress_health_check=list(HealthCheck))

SCOPE = """\
STEP = 3
def f(a: int, p: Array[i64]) -> int:
    b = 2
    def add(n: int) -> int:
        return n + a * STEP
    def put(n: int, at: int) -> None:
        p[at] = add(n) + b
    def down(n: int) -> int:
        def half(m: int) -> int:
            put(m, n % 3)
            return m // 2 + b % 3
        a = 5
        if n <= 0:
            return a
        return down(half(n) - 4) + a
"""


@st.composite
def calls(draw: Any, depth: int = 2) -> str:
    kind = draw(st.integers(0, 6 if depth else 2))
    if kind <= 2:
        return str(draw(st.sampled_from(["a", "b", "p[0]", "p[-1]", "4"])))
    inner = draw(calls(depth - 1))
    if kind == 3:
        return f"add({inner})"
    if kind == 4:
        return f"down({inner} % 50)"
    return f"({inner} {draw(st.sampled_from('+-*'))} {draw(calls(depth - 1))})"


@st.composite
def bodies(draw: Any) -> str:
    lines = draw(
        st.lists(
            st.one_of(
                st.builds("{} = {}".format, st.sampled_from(["a", "b", "p[1]", "p[a % 3]"]), calls()),
                st.builds("{} += {}".format, st.sampled_from(["a", "b", "p[b % 3]"]), calls()),
                st.builds("put({}, ({}) % 4)".format, calls(), calls()),
                st.builds("for b in range({} % 4): put(b, a % 3)".format, calls()),
            ),
            max_size=5,
        )
    )
    return "".join(f"    {line}\n" for line in lines) + f"    return {draw(calls())}\n"


@SETTINGS
@given(body=bodies(), a=st.integers(-60, 60), drawn=st.lists(st.integers(-9, 9), min_size=3, max_size=3))
def test_they_do_what_they_do_in_python(body: str, a: int, drawn: list[int]) -> None:
    """They read names around them as these are when they are called, also by way of each other, and call themselves."""
    kernel = compiled(SCOPE + body)
    ended = [
        (*outcome(function, number(a), wrapper(numbers))[:-1], numbers.tolist())
        for function, number, wrapper in (
            (python(SCOPE + body), wrap, Numbers),
            (kernel, int, lambda each: each),
            (lambda *given: kernel._plain().call(given), int, lambda each: each),
        )
        if (numbers := array("q", drawn)) is not None
    ]
    assert ended[0] == ended[1] == ended[2]


def test_they_have_all_types_and_know_what_is_outside() -> None:
    """Scalars of all types, both kinds of arrays, constants and kernels of modules and of functions around."""
    text = """\
@kernel
def twice(n: int) -> int:
    return 2 * n

def make():
    K = 7
    def f(x: f32, yes: bool, g: Array2[u8], c: Array[i32]) -> float:
        m: i32 = 3
        def inner(s: f32) -> f32:
            g[1, -1] = twice(K) if yes else len(c)
            c[0] += m
            return s * x
        return inner(0.1) + g.shape[1]
    return f

f = make()
"""
    results = []
    for function in (compiled(text), lambda *given: compiled(text)._plain().call(given)):
        g, c = bytearray(6), array("i", [1, 2])
        results.append((function(0.3, True, memoryview(g).cast("B", (2, 3)), c), list(g), c.tolist()))
    assert results[0] == results[1] == (3.0 + results[0][0] % 1, [0, 0, 0, 0, 0, 14], [4, 2])


def test_an_error_tells_where_in_which_function() -> None:
    text = "def f(p: Array[i64]) -> int:\n    def g(n: int) -> int:\n        return p[n]\n    return g(9)\n"
    with pytest.raises(IndexError, match="index 9 is out of range: p has 1 there") as caught:
        compiled(text)(array("q", [0]))
    assert caught.value.__notes__[0].endswith(":3, in f.g: return p[n]")
