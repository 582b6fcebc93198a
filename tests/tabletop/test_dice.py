"""Seeds: the same order as in JavaScript, for every seed and every length."""

import hashlib
import json
from collections.abc import Iterator
from itertools import islice
from math import floor, inf, nan
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hybrid_compute.engine.turn import Turn, turn
from hybrid_compute.errors import ActionFailed
from hybrid_compute.tabletop.dice import shuffled, text_seed, uint32
from hybrid_compute.tabletop.numbers import shown, whole
from tests.tabletop.replay import VECTORS

RECORDED = json.loads((VECTORS / "random.json").read_text()) if VECTORS.is_dir() else {}
recorded = pytest.mark.skipif(not RECORDED, reason="there are no recorded vectors here")


def mulberry32(state: int) -> Iterator[int]:
    """The generator as it is written down, a step at a time."""

    def imul(a: int, b: int) -> int:
        return a * b % 2**32

    while True:
        state = (state + 0x6D2B79F5) % 2**32
        t = imul(state ^ state >> 15, state | 1)
        t ^= (t + imul(t ^ t >> 7, t | 61)) % 2**32
        yield t ^ t >> 14


def by_the_book(items: list[Any], seed: int) -> list[Any]:
    """The shuffle with the floating point of JavaScript."""
    order = list(items)
    for i, out in zip(range(len(order) - 1, 0, -1), mulberry32(seed), strict=False):
        j = floor(out / 2**32 * (i + 1))
        order[i], order[j] = order[j], order[i]
    return order


@recorded
def test_the_generator_gives_the_recorded_numbers() -> None:
    for row in RECORDED["mulberry32"]:
        assert uint32(row["seed"]) == row["uint32"]
        assert list(islice(mulberry32(row["uint32"]), len(row["first"]))) == row["first"]


@recorded
def test_the_recorded_orders() -> None:
    for row in RECORDED["shuffle"]:
        assert shuffled(range(row["n"]), row["seed"]) == row["order"]


@recorded
def test_the_recorded_digests() -> None:
    for row in RECORDED["digests"]:
        order = json.dumps(shuffled(range(row["n"]), row["seed"]), separators=(",", ":"))
        assert hashlib.sha256(order.encode()).hexdigest() == row["sha256"]


def test_a_known_order() -> None:
    assert shuffled("abcde", 7) == ["d", "b", "c", "e", "a"]


@given(st.integers(0, 2**32 - 1), st.integers(0, 300))
def test_any_seed_gives_the_order_of_the_book(seed: int, length: int) -> None:
    assert shuffled(range(length), seed) == by_the_book(list(range(length)), seed)


@given(st.lists(st.integers()), st.floats(allow_nan=False, allow_infinity=False))
def test_nothing_is_lost_and_the_order_is_the_same_again(items: list[int], seed: float) -> None:
    once = shuffled(items, seed)
    assert sorted(once) == sorted(items)
    assert once == shuffled(items, seed)


def test_the_items_given_stay_in_their_order() -> None:
    items = [1, 2, 3, 4]
    shuffled(items, 1)
    assert items == [1, 2, 3, 4]


def test_without_a_seed_it_is_the_engines_chance() -> None:
    before = turn.set(Turn(1, 1, 0))
    try:
        first, second = shuffled(range(52), None), shuffled(range(52), None)
    finally:
        turn.reset(before)
    assert first != second
    assert sorted(first) == sorted(second) == list(range(52))


@pytest.mark.parametrize(
    ("seed", "expected"),
    [
        (-1, 2**32 - 1),
        (-1.5, 2**32 - 1),
        (1.9, 1),
        (2**32, 0),
        (2**53 + 1, 0),  # as a float it is 2**53
        (10**300, 0),
        (1e300, 0),
        (-0.0, 0),
    ],
)
def test_a_seed_is_what_javascript_makes_of_it(seed: float, expected: int) -> None:
    assert uint32(seed) == expected


@pytest.mark.parametrize(
    ("seed", "name"),
    [("42", "42"), (True, "true"), (nan, "NaN"), (inf, "Infinity"), (-(10**400), "-Infinity"), ([], "a list")],
)
def test_what_is_no_finite_number_is_no_seed(seed: Any, name: str) -> None:
    with pytest.raises(ActionFailed) as refused:
        shuffled([1, 2], seed)
    assert str(refused.value) == f"Invalid seed: {name}. Must be a finite number."


@pytest.mark.parametrize(("text", "seed"), [("", 0), ("a", 97), ("ab", 97 * 31 + 98), ("😀", 0xD83D * 31 + 0xDE00)])
def test_a_text_is_a_seed_by_its_utf16(text: str, seed: int) -> None:
    assert text_seed(text) == seed


@given(st.text())
def test_every_text_is_a_seed_of_32_bits(text: str) -> None:
    assert 0 <= text_seed(text) < 2**32


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (None, "null"),
        (False, "false"),
        ("2", "2"),
        (1.0, "1"),
        (-1.5, "-1.5"),
        (-0.0, "0"),
        (1e20, "100000000000000000000"),
        (2**60, "1152921504606847000"),
        (1e21, "1e+21"),
        (1.5e300, "1.5e+300"),
        (1e-6, "0.000001"),
        (1.5e-7, "1.5e-7"),
        (1e-10, "1e-10"),
        (0.1, "0.1"),
        (-inf, "-Infinity"),
        (10**400, "Infinity"),
        ([1], "a list"),
        ({}, "an object"),
    ],
)
def test_messages_show_values_as_javascript_does(value: Any, text: str) -> None:
    assert shown(value) == text


@pytest.mark.parametrize(
    ("value", "number"), [(2, 2), (2.0, 2), (1.5, None), (True, None), ("2", None), (nan, None), (inf, None)]
)
def test_a_whole_number_is_whole_in_either_type(value: Any, number: int | None) -> None:
    assert whole(value) == number
