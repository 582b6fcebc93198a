"""What a shader reckons before it runs."""

import math
from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hybrid_compute.gpu.const_expressions import Consts

Reckoned = tuple[str, int | None]


def reckoned(left: Reckoned, sign: str, right: Reckoned) -> Reckoned:
    """A text and what it comes to; None where it divides by zero."""
    (one, a), (other, b) = left, right
    text = f"({one} {sign} {other})"
    if a is None or b is None or (sign in "/%" and b == 0):
        return text, None
    quotient = math.trunc(Fraction(a, b or 1))
    return text, {"+": a + b, "-": a - b, "*": a * b, "/": quotient, "%": a - b * quotient}[sign]


numbers = st.integers(-99, 99).map(lambda number: (str(number), number))


@given(st.recursive(numbers, lambda each: st.builds(reckoned, each, st.sampled_from("+-*/%"), each)))
def test_division_is_rounded_towards_zero(expression: Reckoned) -> None:
    """And a remainder has the sign of what was divided, as shaders have it and Python has not."""
    text, meant = expression
    if meant is None:
        with pytest.raises(ValueError, match="divides by zero"):
            Consts({}).value(text)
    else:
        assert Consts({}).value(text) == meant


@pytest.mark.parametrize(
    "text",
    [
        "",
        "1.5",
        "1 +",
        "f(1)",
        "1, 2",
        "1 << 2",
        "1 ** 2",
        "1 // 2",
        "+1",
        "017",
        "0x",
        "12a",
        "true",
        "()",
        "1 (2)",
        "é",
    ],
)
def test_what_is_not_understood_is_refused(text: str) -> None:
    consts = Consts({"half": "0.5"})
    for each in (text, f"half + {text}", "half"):
        with pytest.raises(ValueError, match=r"is no |invalid literal"):
            consts.value(each)
    assert consts.plain(f" {text} ") == text


def test_a_const_is_what_its_own_text_comes_to() -> None:
    consts = Consts({"a": "b - 1", "b": "2", "c": "a", "é": "7u"})
    assert [consts.value(text) for text in ("c * 5", "-a", "10 - a", "é", "b\n+ b")] == [5, -1, 9, 7, 4]
    assert consts.plain("a + b") == "3"
