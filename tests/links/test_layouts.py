"""Arrays that are described instead of pickled arrive as pickle would have brought them."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from hybrid_compute.links.arena import LARGE, Arena
from hybrid_compute.links.codec import decode, encode
from hybrid_compute.links.layouts import NUMBERS, take_apart
from hybrid_compute.links.loans import Loans

COUNT = LARGE // 2  # elements: of two bytes and more, enough to travel in shared memory


def there_and_back(value: Any) -> Any:
    """What a peer gets; both ends share this process and one arena."""
    arena = Arena()
    ends = Loans(arena, 1, lambda _: None, lambda _: pytest.fail("everything is known here"))
    flags, body, loans = encode(value, arena)
    ends.hold(loans)
    return decode(flags, body, ends.borrow)


@st.composite
def arrays(draw: st.DrawFn) -> np.ndarray[Any, Any]:
    """Arrays small and large, of every kind of number and some other, in every order."""
    kind = draw(st.sampled_from([*sorted(NUMBERS), "M8[s]", "g", "U3", "V2", ">f8", ">i4", "f8,i4"]))
    rows = draw(st.sampled_from([0, 1, 7]))
    numbers = np.arange(COUNT * rows) % 77
    made = np.zeros(len(numbers), kind) if kind in ("V2", "f8,i4") else numbers.astype(kind)
    if draw(st.booleans()):
        made = made.reshape(rows, COUNT) if rows else made.reshape(0, 3)
    if draw(st.booleans()):
        made = np.asfortranarray(made)
    if draw(st.booleans()):
        made = made[::-1]
    made.flags.writeable = draw(st.booleans())
    return made


ATOMS = st.one_of(st.integers(), st.text(), st.binary(), st.booleans(), st.none(), st.floats(allow_nan=False))


@given(st.lists(st.one_of(arrays(), ATOMS), max_size=3))
def test_a_tuple_of_arrays_and_atoms_arrives_whole(values: list[Any]) -> None:
    """In type, shape and content."""
    back = there_and_back(tuple(values))
    assert type(back) is tuple
    assert len(back) == len(values)
    for got, gave in zip(back, values, strict=True):
        assert type(got) is type(gave)
        if isinstance(gave, np.ndarray):
            equal(got, gave)
        else:
            assert got == gave


@given(arrays())
def test_an_array_alone_arrives_whole(array: np.ndarray[Any, Any]) -> None:
    """The same without a tuple around it."""
    equal(there_and_back(array), array)


def equal(got: np.ndarray[Any, Any], gave: np.ndarray[Any, Any]) -> None:
    """In all but the order of bytes, which numpy's own pickle turns to the machine's where it must copy."""
    assert got.dtype.newbyteorder("=") == gave.dtype.newbyteorder("=")
    assert got.shape == gave.shape
    np.testing.assert_array_equal(got, gave)


def test_one_array_given_twice_is_one_array_over_there() -> None:
    """As with pickle; a change of the one is seen in the other."""
    array = np.arange(COUNT)
    first, second = there_and_back((array, array))
    assert first is second


class Named(np.ndarray[Any, Any]):
    """A class of the user's own."""


@pytest.mark.parametrize(
    "value",
    [
        [np.zeros(COUNT)],
        (np.zeros(COUNT), [1]),
        np.zeros(COUNT).view(Named),
        np.zeros((COUNT, 2))[:, 0],
        np.zeros(COUNT, ">f8"),
        np.zeros(COUNT, "O"),
        np.zeros(10),
        (1, 2),
        1.5,
        (np.zeros(COUNT), *range(20)),
    ],
    ids=repr,
)
def test_anything_else_is_left_to_pickle(value: object) -> None:
    """Which knows how to do it."""
    assert take_apart(value) is None
    back = there_and_back(value)
    assert type(back) is type(value)
    np.testing.assert_equal(back, value)


def test_what_lies_in_shared_memory_is_not_copied() -> None:
    """An array and a slice of it; what arrives is read-only, because others see it as well."""
    arena = Arena()
    memory, _ = arena.allocate(8 * COUNT)
    array = np.frombuffer(memory, "f8")
    ends = Loans(arena, 1, lambda _: None, lambda _: pytest.fail("everything is known here"))
    flags, body, loans = encode((array, array[8:]), arena)
    ends.hold(loans)
    whole, rest = decode(flags, body, ends.borrow)
    assert not [loan for loan in loans if loan.copied]
    array[:] = 3.0
    assert whole.sum() == 3.0 * len(array)
    assert rest.sum() == 3.0 * (len(array) - 8)
    assert not whole.flags.writeable
    assert not rest.flags.writeable
