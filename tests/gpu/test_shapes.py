"""How arrays are declared, and what follows from those of a call."""

import pickle

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hybrid_compute.errors import InvalidInput
from hybrid_compute.gpu.shapes import Declared, Expression, bind, ceil_div


def test_a_name_is_the_same_number_wherever_it_stands() -> None:
    arrays = [("x", Declared.parse("f32[m, k]"), (2, 3)), ("w", Declared.parse("f16[k, n * 2]"), (3, 8))]
    assert bind([*arrays, ("b", Declared.parse("u32[n]"), (4,))], {}) == {"m": 2, "k": 3, "n": 4}
    assert bind(arrays, {"n": 4}) == {"m": 2, "k": 3, "n": 4}


@pytest.mark.parametrize(
    ("declared", "shape", "why"),
    [
        ("f32[n]", (2, 3), r"x has the shape \(2, 3\), and was declared f32\[n\]"),
        ("f32[n, n]", (2, 3), "n is 2 in x, and 3 in x"),
        ("f32[n, 4]", (2, 3), "so 4 is 4, and not 3"),
        ("f32[n, n // 2]", (4, 3), "so n // 2 is 2, and not 3"),
    ],
)
def test_arrays_that_do_not_fit_are_refused(declared: str, shape: tuple[int, ...], why: str) -> None:
    with pytest.raises(InvalidInput, match=why):
        bind([("x", Declared.parse(declared), shape)], {})


@pytest.mark.parametrize("text", ["f64[n]", "f32", "f32[n", "f32[n]]", "f32[n.m]", "f32[a if b else c]", "f32[1.5]"])
def test_what_is_no_declaration_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match=r"is no array|is not understood|may use"):
        Declared.parse(text)


@pytest.mark.parametrize(
    "text",
    ["__import__('os')", "n.__class__", "[n]", "lambda: 1", "n ** 9", "'a'", "True", "(n := 1)", "open(n)", "min(*n)"],
)
def test_an_expression_is_whole_numbers_and_nothing_else(text: str) -> None:
    """It comes with a task, but it is evaluated: nothing may be reached from it."""
    with pytest.raises(ValueError, match="may use whole numbers"):
        Expression(text)


@given(st.integers(0, 50), st.integers(1, 9))
def test_expressions_reckon_as_python_does(n: int, m: int) -> None:
    names = {"n": n, "m": m}
    assert Expression("(n + m - 1) // m * 2 - n % m").value(names) == (n + m - 1) // m * 2 - n % m
    assert Expression("max(ceil_div(n, m), min(n, m))").value(names) == max(-(-n // m), min(n, m))
    assert ceil_div(n, m) * m - n in range(m)


def test_division_by_zero_is_of_the_call() -> None:
    with pytest.raises(InvalidInput, match="divides by zero"):
        Expression("1 // n").value({"n": 0})


def test_it_travels() -> None:
    """As a task does."""
    declared = Declared.parse("f32[(n + 1) // 2, 3]")
    assert pickle.loads(pickle.dumps(declared)).shape({"n": 4}) == (2, 3)
    assert str(declared) == "f32[(n + 1) // 2, 3]"
    assert declared.nbytes((2, 3)) == 24
