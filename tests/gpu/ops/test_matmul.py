"""Products of matrices are numpy's, of any size, one or many at once."""

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from hybrid_compute.errors import InvalidInput
from hybrid_compute.gpu import ops
from hybrid_compute.tasks import AnyTask
from tests.gpu.ops.device import FEW, KINDS, Computer, floats, normal

SIZES = st.one_of(st.integers(0, 70), st.sampled_from([4, 16, 64, 128]))
BATCHES = [
    ((3,), ()),
    ((), (3,)),
    ((3,), (3,)),
    ((2, 3), (3,)),
    ((2, 1), (1, 3)),
    ((0,), ()),
    ((1,), (4,)),
    ((5, 1), (1,)),
]


def close(gpu: Computer, task: AnyTask, a: Any, b: Any) -> None:
    """Within what the docstrings promise; there, and here."""
    wide, other = a.astype("float64"), b.astype("float64")
    if task is ops.matvec:
        wide, other = other, wide.T
    exact, scale = np.matmul(wide, other), np.matmul(np.abs(wide), np.abs(other))
    rounding = 1e-3 if a.dtype == "float16" else 0.0
    inner = a.shape[-1]
    for found, additions in ((gpu(task, a, b), 16 + inner / 16), (task(a, b), inner)):
        promised = additions * 6e-8 * scale + rounding * np.abs(exact)
        if (a < 0).any() and (a > 0).any():
            promised = np.minimum(promised, 1e-6 * scale + rounding * np.abs(exact))
        assert (found.shape, found.dtype) == (exact.shape, a.dtype)
        assert np.all(np.abs(found.astype("float64") - exact) <= promised)


@pytest.mark.parametrize("dtype", ["float32", "float16"])
@FEW
@given(rows=SIZES, inner=SIZES, columns=SIZES, kind=st.sampled_from(KINDS))
def test_products_are_right(gpu: Computer, dtype: str, rows: int, inner: int, columns: int, kind: str) -> None:
    a, b = floats(kind, 1, rows, inner, dtype=dtype), floats(kind, 2, inner, columns, dtype=dtype)
    close(gpu, ops.matmul, a, b)


@pytest.mark.parametrize(("left", "right"), BATCHES, ids=str)
def test_many_at_once(gpu: Computer, left: tuple[int, ...], right: tuple[int, ...]) -> None:
    """Each with each that numpy would take."""
    close(gpu, ops.matmul, normal(1, *left, 5, 9), normal(2, *right, 9, 37))


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(("rows", "inner", "columns"), [(3, 5000, 7), (64, 1030, 64), (1, 70_000, 1)], ids=str)
def test_few_results_of_many_products_are_added_up_in_pieces(
    gpu: Computer, rows: int, inner: int, columns: int, kind: str
) -> None:
    for dtype in ("float32", "float16"):
        close(gpu, ops.matmul, floats(kind, 1, rows, inner, dtype=dtype), floats(kind, 2, inner, columns, dtype=dtype))


@pytest.mark.parametrize(("rows", "inner", "columns"), [(1500, 33, 1501), (1500, 32, 1540)], ids=str)
def test_large_ones_have_larger_tiles(full_gpu: Computer, rows: int, inner: int, columns: int) -> None:
    close(full_gpu, ops.matmul, normal(1, rows, inner), normal(2, inner, columns))


@pytest.mark.parametrize("kind", KINDS)
def test_a_large_one_with_many_products(full_gpu: Computer, kind: str) -> None:
    """In larger tiles, of which each adds them all."""
    close(full_gpu, ops.matmul, floats(kind, 1, 128, 1100), floats(kind, 2, 1100, 128 * 128))


def test_more_than_65535_tiles(full_gpu: Computer) -> None:
    """A workgroup for each of many small products."""
    close(full_gpu, ops.matmul, normal(1, 66_001, 1, 2), normal(2, 66_001, 2, 1))


@pytest.mark.parametrize("dtype", ["float32", "float16"])
@FEW
@given(
    rows=SIZES,
    inner=st.integers(0, 600),
    vectors=st.sampled_from([(), (0,), (1,), (3,), (2, 2)]),
    kind=st.sampled_from(KINDS),
)
def test_matrix_times_vector(
    any_gpu: Computer, dtype: str, rows: int, inner: int, vectors: tuple[int, ...], kind: str
) -> None:
    close(any_gpu, ops.matvec, floats(kind, 1, rows, inner, dtype=dtype), floats(kind, 2, *vectors, inner, dtype=dtype))


@pytest.mark.parametrize(
    ("task", "a", "b", "message"),
    [
        (ops.matmul, (2, 3), (4, 5), r"matmul: float32\[2, 3\] and float32\[4, 5\] do not fit"),
        (ops.matmul, (3,), (3, 5), r"float32\[3\] and float32\[3, 5\] do not fit"),
        (ops.matmul, (2, 2, 3), (3, 3, 5), r"matmul: the shapes \(2,\) and \(3,\) do not fit together"),
        (ops.matvec, (2, 3), (2,), r"matvec: float32\[2, 3\] and float32\[2\] do not fit"),
        (ops.matvec, (1, 2, 3), (3,), r"matvec: float32\[1, 2, 3\] and float32\[3\] do not fit"),
    ],
)
def test_what_does_not_fit_is_refused(
    gpu: Computer, task: AnyTask, a: tuple[int, ...], b: tuple[int, ...], message: str
) -> None:
    for run in (task, lambda *args: gpu(task, *args)):
        with pytest.raises(InvalidInput, match=message):
            run(normal(1, *a), normal(2, *b))


def test_different_dtypes_are_refused(gpu: Computer) -> None:
    with pytest.raises(InvalidInput, match=r"float16\[2, 2\] and float32\[2, 2\] do not fit"):
        gpu(ops.matmul, normal(1, 2, 2, dtype="float16"), normal(1, 2, 2))


def test_of_nothing_is_nothing(gpu: Computer) -> None:
    """Where no product is added up there are zeros, in memory that was used before as well."""
    for _ in range(3):
        gpu(ops.add, gpu.put(np.full((8, 8), 7, "float16")), 1)
        for a, b in [
            (normal(1, 8, 0), normal(2, 0, 8)),
            (normal(1, 8, 0, dtype="float16"), normal(2, 0, 8, dtype="float16")),
        ]:
            np.testing.assert_array_equal(np.asarray(gpu(ops.matmul, gpu.put(a), b)), np.zeros((8, 8)))


@pytest.mark.parametrize("size", [3, 20, 65])
def test_an_infinity_spoils_its_own_row_and_column_alone(gpu: Computer, size: int) -> None:
    """What tiles are padded with is nothing, not what comes next in memory."""
    a, b = normal(1, size, size), normal(2, size, size)
    a[1, 0] = b[0, 2] = np.inf
    with np.errstate(invalid="ignore"):
        wanted = np.isfinite(a @ b)
        np.testing.assert_array_equal(np.isfinite(gpu(ops.matmul, a, b)), wanted)
        np.testing.assert_array_equal(np.isfinite(gpu(ops.matvec, a, b.T)), wanted.T)
