"""What is more than a kernel can be is refused when it is defined, with the place, the reason, and what to write."""

import re
import subprocess
import sys
from array import array
from typing import Any

import numpy as np
import pytest

from hybrid_compute.errors import InvalidInput
from hybrid_compute.kernels import KernelError, kernel
from tests.kernels.oracle import compiled

REFUSED = {
    "no annotation": ("def f(n):\n    pass", 1, "the parameter n has no annotation"),
    "an unknown type": ("def f(n: str) -> None:\n    pass", 1, "n: str is no type of a kernel"),
    "a default": ("def f(n: int = 3) -> None:\n    pass", 1, "without defaults"),
    "an array as the result": ("def f(x: Array[f64]) -> Array[f64]:\n    return x", 1, "arrays are parameters"),
    "a string": ('def f(n: int) -> int:\n    n += "a"\n    return n', 2, "'a' is no value of a kernel"),
    "a list": ("def f(n: int) -> int:\n    x = [1, 2]\n    return n", 2, "List is no expression of a kernel"),
    "a big integer": ("def f(n: int) -> int:\n    return n & 0xFFFFFFFFFFFFFFFF", 2, "does not fit in 64 bits"),
    "a call of Python": ("def f(n: int) -> None:\n    print(n)", 2, "print is no kernel: make it one with @kernel"),
    "an unknown function": ("def f(n: int) -> None:\n    gone(n)", 2, "gone cannot be called here"),
    "keywords": ("def f(n: int) -> int:\n    return min(n, 2, key=n)", 2, "by position"),
    "a loop over an array": (
        "def f(x: Array[f64]) -> None:\n    for v in x:\n        pass",
        2,
        "for i in range(len(a))",
    ),
    "a float as an index": ("def f(x: Array[f64]) -> float:\n    return x[0.5]", 2, "an index is an integer"),
    "too few indexes": (
        "def f(x: Array2[f64]) -> float:\n    return x[0]",
        2,
        "an Array2[float] takes 2 indexes, not 1",
    ),
    "a slice": ("def f(x: Array[f64]) -> float:\n    return x[0:1]", 2, "no slices"),
    "an array as a value": ("def f(x: Array[f64]) -> float:\n    return x + 1", 2, "x is an array"),
    "another name for an array": ("def f(x: Array[f64]) -> None:\n    y = x", 2, "x is an array"),
    "another type for a name": ("def f(n: int) -> int:\n    n = 0.5\n    return n", 2, "write int(...) if meant"),
    "a float in an array of integers": (
        "def f(x: Array[i64]) -> None:\n    x[0] = 1.5",
        2,
        "an element of x is of type int",
    ),
    "no value yet": ("def f(n: int) -> int:\n    if n:\n        k = 1\n    return k", 4, "k may have no value here"),
    "a loop that may not run": (
        "def f(n: int) -> int:\n    for i in range(n):\n        pass\n    return i",
        4,
        "i may have no value here",
    ),
    "a local of the name of something outside": (
        "k = 1\ndef f(n: int) -> int:\n    n += k\n    k = 2\n    return n",
        3,
        "k may have no value here",
    ),
    "a function that is a local later": (
        "def f(n: int) -> int:\n    n = abs(n)\n    abs = 2\n    return n",
        2,
        "abs cannot be called here",
    ),
    "no return": ("def f(n: int) -> int:\n    if n:\n        return 1", 1, "can end without a `return`"),
    "a return too many": ("def f(n: int) -> None:\n    return n", 2, "f gives nothing"),
    "try": (
        "def f(n: int) -> None:\n    try:\n        pass\n    finally:\n        pass",
        2,
        "Try is no statement of a kernel",
    ),
    "else of a loop": (
        "def f(n: int) -> None:\n    for i in range(n):\n        pass\n    else:\n        pass",
        5,
        "has no else",
    ),
    "a name that a function within changes": (
        "def f(n: int) -> int:\n    def g() -> None:\n        nonlocal n\n        n = 1\n    g()\n    return n",
        3,
        "a function in a kernel changes only names of its own",
    ),
    "a function within that reads what is not there yet": (
        "def f(n: int) -> int:\n    def g() -> int:\n        return k\n    k = 1\n    return g()",
        2,
        "k, which g reads, may have no value here",
    ),
    "a function within that may not be defined": (
        "def f(n: int) -> int:\n    if n:\n        def g() -> int:\n            return 1\n    return g()",
        5,
        "g may not be defined here",
    ),
    "a function within that is decorated": (
        "def f(n: int) -> int:\n    @kernel\n    def g() -> int:\n        return 1\n    return g()",
        2,
        "leave out what decorates it",
    ),
    "a function within as a value": (
        "def f(n: int) -> int:\n    def g() -> int:\n        return 1\n    return n + g",
        4,
        "g is a function, which can only be called",
    ),
    "another value for a function within": (
        "def f(n: int) -> int:\n    def g() -> int:\n        return 1\n    g = n\n    return g",
        4,
        "g is a function here, and stays one",
    ),
    "a function within twice": (
        "def f(n: int) -> int:\n    def g() -> int:\n        return 1\n    def g() -> int:\n        pass\n    g()",
        4,
        "g has a meaning already",
    ),
    "a wrong call of a function within": (
        "def f(n: int) -> int:\n    def g(k: int) -> int:\n        return n + k\n    return g()",
        4,
        "g takes 1 arguments, and is given 0",
    ),
    "no annotation within": (
        "def f(n: int) -> int:\n    def g(k) -> int:\n        return n + k\n    return g(1)",
        2,
        "the parameter k has no annotation",
    ),
    "a function within that cannot be": (
        "def f(n: int) -> int:\n    def g(k: int) -> int:\n        print(k)\n        return k\n    return g(1)",
        3,
        "print is no kernel",
    ),
    "a function that nothing comes to": (
        "def f(n: int) -> int:\n    return n\n    def g() -> int:\n        return 1",
        3,
        "g is never defined: nothing comes here",
    ),
    "bits of a float": ("def f(x: float) -> float:\n    return x << 1", 2, "a float has no bits"),
    "any power": ("def f(n: int) -> int:\n    return n ** n", 2, "float(x) ** y"),
    "a name outside": ("def f(n: int) -> int:\n    return n + math", 2, "math is a module"),
    "an attribute": ("def f(x: Array[f64]) -> int:\n    return x.size", 2, "a kernel knows len(a) and a.shape[0]"),
    "an axis too many": ("def f(x: Array[f64]) -> int:\n    return x.shape[1]", 2, "x has 1 axes"),
    "a formatted error": ("def f(n: int) -> None:\n    raise ValueError(n)", 2, "with a fixed text"),
    "unpacking": ("def f(n: int) -> None:\n    a, b = n", 2, "as it is written"),
    "membership": ("def f(n: int) -> bool:\n    return n in n", 2, "a kernel compares numbers"),
}


@pytest.mark.parametrize(("text", "line", "reason"), REFUSED.values(), ids=REFUSED)
def test_a_refusal_says_where_and_why(text: str, line: int, reason: str) -> None:
    with pytest.raises(KernelError, match=re.escape(reason)) as caught:
        compiled(text + "\n")
    assert re.search(rf":{line}, in f(\.g)?: ", str(caught.value))
    assert f": `{text.splitlines()[line - 1].strip()}`: " in str(caught.value)
    assert "\n" not in str(caught.value)
    assert isinstance(caught.value, InvalidInput)


def test_what_is_no_function_of_python_is_refused() -> None:
    with pytest.raises(KernelError, match="is not written in Python"):
        kernel(len)
    with pytest.raises(KernelError, match="is not an ordinary `def`"):
        kernel(lambda: None)
    with pytest.raises(KernelError, match="has to stand in a file"):
        scope: dict[str, Any] = {}
        exec("def f() -> None: pass", scope)
        kernel(scope["f"])


@pytest.mark.parametrize("first", ["", "def g() -> int: return 1", "import sys"])
def test_what_a_text_makes_has_no_source_in_the_text_around_it(first: str) -> None:
    """Both are of the file <string>, and Python 3.13 knows what stands in one of them."""
    text = (
        f"{first}\nfrom hybrid_compute.kernels import KernelError, kernel\nscope = {{}}\n"
        "exec('def f() -> int: return 2', scope)\n"
        "try: kernel(scope['f'])\nexcept KernelError as error: print(error)\n"
    )
    done = subprocess.run([sys.executable, "-c", text], capture_output=True, text=True, timeout=50, check=False)
    assert "has to stand in a file" in done.stdout, done.stderr


SUM = "def f(n: int, x: Array[f64]) -> float:\n    x[0] += n\n    return x[0]\n"


@pytest.mark.parametrize(
    ("arguments", "reason"),
    [
        ((1, [1.0]), "x is an Array[float], and not a list"),
        ((1, np.zeros(3, "f4")), "x is an Array[float], and was given elements of type float32"),
        ((1, np.zeros(3, ">f8")), "x is an Array[float], and was given elements of type >f8"),
        ((1, array("q", [1])), "x is an Array[float], and was given elements of type 'q'"),
        ((1, np.zeros((3, 3))), "was given an array with 2 axes"),
        ((1, np.zeros(8)[::2]), "x does not lie in one piece"),
        ((1, memoryview(np.zeros(3)).toreadonly()), "x can only be read"),
        ((1.5, np.zeros(3)), "n is of type int, which 1.5 is not"),
        ((2**63, np.zeros(3)), "n is of type int, which 9223372036854775808 is not"),
        (("1", np.zeros(3)), "n is of type int, which '1' is not"),
    ],
)
@pytest.mark.parametrize("plain", [False, True], ids=["compiled", "plain"])
def test_arguments_of_other_types_are_refused(arguments: tuple[Any, ...], reason: str, plain: bool) -> None:
    function = compiled(SUM)
    if plain:
        function._way = function._plain()
    with pytest.raises(KernelError, match=re.escape(f"f: {reason}" if reason[0] != "w" else reason)):
        function(*arguments)


def test_a_wrong_number_of_arguments_is_a_type_error() -> None:
    for arguments in ((), (1,), (1, np.zeros(1), 2)):
        with pytest.raises(TypeError, match=r"f takes \(n, x\)"):
            compiled(SUM)(*arguments)
    with pytest.raises(TypeError, match=r"was given \(..., n\)"):
        compiled(SUM)(1, n=2)
    assert compiled(SUM)(x=np.ones(1), n=2) == 3.0
