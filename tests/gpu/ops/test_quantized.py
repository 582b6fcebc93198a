"""Products with weights of 8 and 4 bits."""

from typing import Any, Literal

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from hybrid_compute.errors import InvalidInput
from hybrid_compute.gpu import ops
from tests.gpu.ops.device import FEW, KINDS, Computer, floats, normal

BITS = pytest.mark.parametrize("bits", [4, 8])


@BITS
@pytest.mark.parametrize("scales", ["float16", "float32"])
def test_weights_are_off_by_little(bits: Literal[4, 8], scales: str) -> None:
    """What `quantize` promises, also of a block of zeros."""
    weights = normal(1, 20, 96)
    weights[3, 32:64] = 0
    found = ops.dequantize(*ops.quantize(weights, bits, scales))
    largest = np.abs(weights).reshape(20, 3, 32).max(-1).repeat(32, 1)
    assert np.all(np.abs(found - weights) <= largest * (1 / 8 if bits == 4 else 1 / 254) * 1.02 + largest * 1e-3)
    assert np.all(found[3, 32:64] == 0)


def test_the_layout_is_as_documented() -> None:
    """The first weight of a block is in the lowest bits of its first word."""
    weights = np.zeros((1, 32), "float32")
    weights[0, :3] = [-8, 1, 3]
    words, scales = ops.quantize(weights, 4, "float32")
    assert scales.tolist() == [[1.0]]
    assert hex(words[0, 0]) == "0x88888b90"
    weights[0, :3] = [127, -1, 3]
    words, scales = ops.quantize(weights, 8, "float32")
    assert (scales.tolist(), hex(words[0, 0])) == ([[1.0]], "0x3ff7f")


@BITS
@pytest.mark.parametrize("dtype", ["float32", "float16"])
@FEW
@given(
    rows=st.integers(0, 70),
    blocks=st.integers(0, 9),
    before=st.sampled_from([(), (0,), (1,), (3,), (8,), (9,), (40,), (2, 33)]),
    half=st.booleans(),
)
def test_products_are_those_of_the_floats(
    gpu: Computer, bits: Literal[4, 8], dtype: str, rows: int, blocks: int, before: tuple[int, ...], half: bool
) -> None:
    """Of one vector, of a few, and of many, in tiles."""
    words, scales = ops.quantize(normal(1, rows, blocks * 32), bits, "float16" if half else "float32")
    x = normal(2, *before, blocks * 32, dtype=dtype)
    close(gpu, x, words, scales)


@BITS
@pytest.mark.parametrize("kind", KINDS)
def test_long_rows(gpu: Computer, bits: Literal[4, 8], kind: str) -> None:
    words, scales = ops.quantize(floats(kind, 1, 33, 4096), bits)
    close(gpu, floats(kind, 2, 4096), words, scales)
    close(gpu, floats(kind, 2, 20, 4096), words, scales)


def close(gpu: Computer, x: Any, words: Any, scales: Any) -> None:
    """Within what the docstring promises."""
    found = gpu(ops.matmul_quantized, x, words, scales)
    assert found.dtype == x.dtype
    weights = ops.dequantize(words, scales).astype("float64")
    exact, scale = x.astype("float64") @ weights.T, np.abs(x.astype("float64")) @ np.abs(weights.T)
    assert found.shape == exact.shape
    rounding = 1e-3 if x.dtype == "float16" else 0.0
    assert np.all(np.abs(found.astype("float64") - exact) <= x.shape[-1] * 6e-8 * scale + rounding * np.abs(exact))
    np.testing.assert_allclose(
        ops.matmul_quantized(x, words, scales), exact, rtol=2e-3, atol=1e-3 * scale.max(initial=1)
    )


def test_what_does_not_fit_is_refused(gpu: Computer) -> None:
    words, scales = ops.quantize(normal(1, 5, 64), 8)
    for run in (ops.matmul_quantized, lambda *args: gpu(ops.matmul_quantized, *args)):
        with pytest.raises(InvalidInput, match=r"float32\[96\] does not fit weights of uint32\[5, 16\] with scales of"):
            run(normal(1, 96), words, scales)
        with pytest.raises(InvalidInput, match=r"scales of float16\[4, 2\]"):
            run(normal(1, 64), words, scales[:4])
    with pytest.raises(InvalidInput, match=r"divisible by 32, not 4 bits of \(3, 33\)"):
        ops.quantize(normal(1, 3, 33), 4)
