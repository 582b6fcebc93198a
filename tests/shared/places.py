"""What other processes do with shared memory in these tests."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator

import numpy as np

from hybrid_compute.shared import SharedArray, TripleBuffer


def fill(array: SharedArray, value: float) -> int:
    with array.writing() as values:
        values[...] = value
    return os.getpid()


def total(array: SharedArray) -> float:
    with array.reading() as values:
        return float(values.sum())


def count_up(array: SharedArray, times: int) -> None:
    """Add one, so often, in two steps that somebody else could come between."""
    for _ in range(times):
        with array.writing() as values:
            before = int(values[0])
            values[-1] = before  # takes as long as it takes
            values[0] = before + 1


def die_writing(array: SharedArray) -> None:
    with array.writing() as values:
        values[: len(values) // 2] = 7
        os.kill(os.getpid(), signal.SIGKILL)


def hold(array: SharedArray) -> Iterator[int]:
    """Have the lease until the reader of this stream goes away."""
    with array.writing():
        while True:
            yield os.getpid()


def look(array: SharedArray) -> bool:
    """Whether it is stale over here."""
    return array.stale


def produce(buffer: TripleBuffer, frames: int) -> int:
    """Each frame is full of its number, but for the last element, which is what comes of it."""
    with buffer.writing() as writer:
        for _ in range(frames):
            with writer.frame() as values:
                stamp(values, writer.number + 1)
        return writer.number


def pass_on(source: TripleBuffer, target: TripleBuffer, last: int) -> int:
    """Every frame that is seen goes on, until the last has come. How many were seen."""
    with source.reading() as reader, target.writing() as writer:
        seen = number = 0
        while number < last:
            frame = reader.latest()
            if frame is not None:
                number = number_in(frame.values)
                assert number == frame.number
                with writer.frame() as values:
                    values[:] = frame.values
                seen += 1
        return seen


def produce_and_die(buffer: TripleBuffer, frames: int) -> None:
    with buffer.writing() as writer:
        for _ in range(frames):
            with writer.frame() as values:
                stamp(values, writer.number + 1)
        with writer.frame() as values:
            values[: len(values) // 2] = 99
            os.kill(os.getpid(), signal.SIGKILL)


def stamp(values: np.ndarray, number: int) -> None:
    values[:-1] = number
    values[-1] = check(number)


def number_in(values: np.ndarray) -> int:
    """The number that a whole frame is full of; -1 for one of two numbers."""
    number = int(values[0])
    return number if (values[:-1] == number).all() and int(values[-1]) == check(number) else -1


def check(number: int) -> int:
    return number * 0x9E3779B97F4A7C15 % (1 << 64)
