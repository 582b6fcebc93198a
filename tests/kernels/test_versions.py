"""A loop over arrays is written twice or thrice: all versions do the same, to the last bit."""

import re
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from hybrid_compute.kernels import KernelError, loops
from tests.kernels.oracle import compiled

pytest.importorskip("wasmtime")
SETTINGS = settings(max_examples=150, deadline=None, suppress_health_check=list(HealthCheck))
DTYPES = {"i32": "i4", "i64": "i8", "f32": "f4", "f64": "f8", "u8": "u1"}
PLACES = [
    "[k, i]",
    "[k, i]",
    "[k, i]",
    "[k + 1, i]",
    "[i, k]",
    "[k, i + 1]",
    "[k, k]",
    "[i, i]",
    "[k, i - 1]",
    "[0, i]",
]


@st.composite
def terms(draw: Any, floating: bool, depth: int = 3) -> str:
    kind = draw(st.integers(0, 6 if depth else 1))
    if kind == 0:
        return draw(st.sampled_from(["s", "t", "2", "s * s"])) + ""
    if kind == 1:
        return f"{draw(st.sampled_from('xyz'))}{draw(st.sampled_from(PLACES))}"
    left, right = draw(terms(floating, depth - 1)), draw(terms(floating, depth - 1))
    if kind <= 3:
        return f"({left} {draw(st.sampled_from('+-*'))} {right})"
    if kind == 4:
        return f"({left} if {left} < {right} and not {right} == {left} else {right})"
    if kind == 5:
        return f"{draw(st.sampled_from(['min', 'max']))}({left}, {right})"
    return f"({left} / {right})" if floating else f"({left} {draw(st.sampled_from('&|^'))} {right})"


@st.composite
def branches(draw: Any, floating: bool, indent: str = " " * 12) -> str:
    """An `if`, perhaps with an `else`, perhaps with one in it."""
    test = f"{draw(terms(floating, 1))} {draw(st.sampled_from(['<', '==', '>=']))} {draw(terms(floating, 1))}"
    text = f"if {test}:\n{draw(branch(floating, indent))}"
    if draw(st.booleans()):
        text += f"\n{indent[4:]}else:\n{draw(branch(floating, indent))}"
    return text


@st.composite
def branch(draw: Any, floating: bool, indent: str) -> str:
    lines: list[str] = []
    for _ in range(draw(st.integers(1, 2))):
        target = draw(st.sampled_from(["y[k, i]", "y[k, i]", "x[k, i]", "t"]))
        lines.append(f"{target} {draw(st.sampled_from(['=', '+=', '*=']))} {draw(terms(floating, 2))}")
    if len(indent) < 20 and draw(st.integers(0, 2)) == 0:
        lines.append(draw(branches(floating, indent + "    ")))
    return "\n".join(indent + line for line in lines)


@st.composite
def programs(draw: Any) -> tuple[str, str]:
    name = draw(st.sampled_from(sorted(DTYPES)))
    floating = name[0] == "f"
    scalar = "i64" if name == "u8" else name
    lines = [f"t = {draw(terms(floating))}"] if draw(st.booleans()) else []
    for _ in range(draw(st.integers(1, 2))):
        place = draw(st.sampled_from(["y[k, i]", "y[k, i]", "z[k, i]", "z[i, k]", "y[k, i + 1]"]))
        lines.append(f"{place} {draw(st.sampled_from(['=', '+=', '-=', '*=']))} {draw(terms(floating))}")
    if draw(st.booleans()):
        lines += [draw(branches(floating)) for _ in range(draw(st.integers(1, 2)))]
    if draw(st.booleans()):
        lines.append(f"total += {draw(terms(floating, 1))}")
    if draw(st.integers(0, 3)) == 0:
        lines.insert(
            0, f"if x[k, i] < {draw(terms(floating, 0))}:\n            {draw(st.sampled_from(['break', 'continue']))}"
        )
    span = draw(st.sampled_from(["x.shape[1]", "y.shape[0]", "k, y.shape[1]", "1, x.shape[1] - 1"]))
    body = "\n".join(f"        {line}" for line in lines)
    arrays = ", ".join(f"{each}: Array2[{name}]" for each in "xyz")
    text = f"def f(k: int, s: {scalar}, {arrays}) -> {scalar}:\n    t: {scalar} = s\n    total: {scalar} = s\n"
    return name, f"{text}    for i in range({span}):\n{body}\n    return total + t\n"


SIZES = st.tuples(st.integers(0, 4), st.integers(0, 37))


@SETTINGS
@given(
    program=programs(),
    sizes=st.tuples(SIZES, SIZES),
    k=st.integers(-2, 4),
    seed=st.integers(0, 99),
    alias=st.booleans(),
)
def test_the_quick_version_does_what_the_careful_one_does(
    program: tuple[str, str], sizes: tuple[tuple[int, int], tuple[int, int]], k: int, seed: int, alias: bool
) -> None:
    """In single and double precision, on integers of all sizes, on rows and on columns, and when it fails."""
    compare(*program, sizes, k, seed, alias)


def compare(
    name: str, text: str, sizes: tuple[tuple[int, int], tuple[int, int]], k: int, seed: int, alias: bool
) -> str:
    """Run both versions of this program on the same arrays. The text of the quick one; none, if it is no kernel."""
    try:
        quick = compiled(text)
    except KernelError:
        return ""  # an i32 has met an int, say
    assert quick.compiled
    careful = compiled(text)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(loops, "planned", lambda _loop: {})
        patch.setattr(loops, "_unrolls", lambda _loop: False)
        assert careful.compiled
    ended = []
    for function in (quick, careful):
        rng = np.random.default_rng(seed)
        x, y, z = (
            (rng.random(size) * 9 - (0 if name == "u8" else 3)).astype(DTYPES[name]) for size in (*sizes, sizes[0])
        )
        if alias:
            z = y
        try:
            result: object = function(k, 2, x, y, z)
        except (IndexError, ZeroDivisionError) as error:
            result = type(error)
        if isinstance(result, float) and result != result:
            result = "nan"
        ended.append((result, [np.where(each == each, each, 7).tobytes() for each in (x, y, z)]))
    assert ended[0] == ended[1]
    return quick.wat


def test_branches_are_done_in_vectors() -> None:
    """Many programs whose branches store numbers of one type, each at its own place; the results are the same."""
    vectors, others = 0, 0

    @SETTINGS
    @given(program=programs(), rows=st.integers(0, 40), seed=st.integers(0, 99), alias=st.booleans())
    def check(program: tuple[str, str], rows: int, seed: int, alias: bool) -> None:
        nonlocal vectors, others
        name, text = program
        text = (
            re.sub(r"\b([xyz])\[[^\]]*\]", r"\1[k, i]", text).replace("break", "t += 1").replace("continue", "t -= 1")
        )
        text = re.sub(r"\n +total [+]= .*", "", text)  # a sum of floats stays in order
        wat = compare(name, text, ((3, rows), (3, rows)), 1, seed, alias)
        if "if " in text and name != "u8" and wat:
            vectors, others = vectors + ("v128.store" in wat), others + ("v128.store" not in wat)

    check()
    assert vectors > others / 20
