"""The newest frame, whole: by three processes at once, and by whatever order of steps there can be."""

from __future__ import annotations

import pickle
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hybrid_compute import BlockingRuntime, WorkerBackend
from hybrid_compute.errors import InvalidInput, LeaseHeld, StaleHandle, WorkerLost
from hybrid_compute.shared import TripleBuffer, words
from hybrid_compute.shared.frames import HELD, LATEST, MOST, Consumer, Producer
from tests.shared import places

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="memory shared by all places needs Linux")


@pytest.fixture(scope="module")
def rt() -> Iterator[BlockingRuntime]:
    """Two workers, which with this process are three."""
    with BlockingRuntime([WorkerBackend(2)], strategy="worker") as runtime:
        yield runtime


def in_background(function: Callable[[], Any]) -> tuple[threading.Thread, list[Any]]:
    """A thread, and what it gave."""
    found: list[Any] = []
    thread = threading.Thread(target=lambda: found.append(function()))
    thread.start()
    return thread, found


def all_whole(buffer: TripleBuffer, last: int) -> int:
    """Look at frames until the last has come: each whole, and newer than the one before. How many there were."""
    seen = number = 0
    with buffer.reading() as reader:
        while number < last:
            frame = reader.latest()
            if frame is not None:
                assert number < frame.number <= last
                number = frame.number
                assert places.number_in(frame.values) > 0
                seen += 1
    return seen


# Three processes


@pytest.mark.parametrize(("size", "frames"), [(4, 20_000), (1 << 18, 300)], ids=["small", "large"])
def test_no_frame_is_torn_on_its_way_through_three_processes(rt: BlockingRuntime, size: int, frames: int) -> None:
    """A worker makes frames, another one passes them on, this process looks at what comes: all at full speed."""
    with TripleBuffer(size, "uint64") as first, TripleBuffer(size, "uint64") as second:
        maker, made = in_background(lambda: rt.run(places.produce, first, frames))
        filter, passed = in_background(lambda: rt.run(places.pass_on, first, second, frames))
        seen = number = 0
        with second.reading() as reader:
            while number < frames:
                frame = reader.latest()
                if frame is not None:
                    assert number < places.number_in(frame.values) <= frames
                    number = places.number_in(frame.values)
                    seen += 1
        maker.join()
        filter.join()
        assert made == [frames]
        assert 0 < seen <= passed[0] <= frames


@pytest.mark.parametrize(("size", "frames"), [(4, 20_000), (1 << 18, 300)], ids=["small", "large"])
def test_several_readers_see_whole_frames(rt: BlockingRuntime, size: int, frames: int) -> None:
    """One in a worker, one in this process."""
    with TripleBuffer(size, "uint64", readers=2) as buffer, TripleBuffer(size, "uint64") as nowhere:
        other, theirs = in_background(lambda: rt.run(places.pass_on, buffer, nowhere, frames))
        maker, _ = in_background(lambda: rt.run(places.produce, buffer, frames))
        assert all_whole(buffer, frames) > 0
        maker.join()
        other.join()
        assert theirs[0] > 0


def test_a_producer_that_is_killed_leaves_whole_frames(rt: BlockingRuntime) -> None:
    """The last one that it has published stays, and the next producer goes on where it has stopped."""
    with TripleBuffer(1000, "uint64") as buffer, buffer.reading() as reader:
        with pytest.raises(WorkerLost):
            rt.run(places.produce_and_die, buffer, 5)
        assert not buffer.has_writer
        frame = reader.latest()
        assert frame is not None
        assert (frame.number, places.number_in(frame.values)) == (5, 5)
        assert rt.run(places.produce, buffer, 3) == 8
        newer = reader.latest()
        assert newer is not None
        assert (newer.number, places.number_in(newer.values)) == (8, 8)


# One process


def test_a_reader_gets_the_newest_frame_once() -> None:
    """None before the first, and while there is no newer one: then the one that it has is still good."""
    with TripleBuffer((2, 2), "int32") as buffer, buffer.reading() as reader, buffer.writing() as writer:
        assert reader.latest() is None
        for number in (1, 2, 3):
            with writer.frame() as values:
                values[:] = number
        frame = reader.latest()
        assert frame is not None
        assert frame.number == writer.number == 3
        assert reader.latest() is None
        assert frame.values.tolist() == [[3, 3], [3, 3]]
        assert np.shares_memory(np.asarray(frame), frame.values)
        assert repr(frame) == "<Frame 3 int32[2, 2]>"


def test_a_frame_is_no_longer_given_once_it_was_replaced() -> None:
    """Nor once its reader was left. Nobody writes to it."""
    with TripleBuffer(4) as buffer, buffer.writing() as writer:
        with buffer.reading() as reader:
            with writer.frame() as values:
                values[:] = 1
            old = reader.latest()
            assert old is not None
            for array in (old.values, values):
                with pytest.raises(ValueError, match="read-only"):
                    array[0] = 2
            with writer.frame():
                pass
            new = reader.latest()
            assert new is not None
            with pytest.raises(StaleHandle, match="frame 1 was replaced by frame 2"):
                _ = old.values
        with pytest.raises(StaleHandle, match="was left"):
            _ = new.values


def test_a_frame_whose_block_is_left_by_an_error_is_not_published() -> None:
    """And there is one at a time."""
    with TripleBuffer(4) as buffer, buffer.reading() as reader, buffer.writing() as writer:
        with pytest.raises(ZeroDivisionError), writer.frame() as values:
            values[0] = 1 // 0
        with writer.frame(), pytest.raises(RuntimeError, match="one at a time"), writer.frame():
            pass
        frame = reader.latest()
        assert frame is not None
        assert frame.number == 1


@pytest.mark.parametrize("readers", [1, 3])
def test_each_end_is_for_one(readers: int) -> None:
    """Who comes too late is refused at once; when an end was left, the next may have it."""
    with TripleBuffer(4, readers=readers) as buffer:
        assert not buffer.has_writer
        with buffer.writing():
            assert buffer.has_writer
            with pytest.raises(LeaseHeld, match="has a writer already"), buffer.writing():
                pass
        ends = [buffer.reading().__enter__() for _ in range(readers)]
        with pytest.raises(LeaseHeld, match=r"has (a reader|3 readers) already"), buffer.reading():
            pass
        ends[0].__exit__()
        with buffer.reading(), buffer.writing():
            pass
        for end in ends:
            end.__exit__()


def test_a_buffer_that_was_given_back_is_stale_at_both_ends() -> None:
    """Whoever is at work there is told with the next frame."""
    with TripleBuffer(4) as buffer, buffer.reading() as reader, buffer.writing() as writer:
        with writer.frame():
            pass
        frame = reader.latest()
        assert frame is not None
        there = pickle.loads(pickle.dumps(buffer))
        buffer.close()
        for use in (reader.latest, writer.frame().__enter__, lambda: frame.values, lambda: there.has_writer):
            with pytest.raises(StaleHandle, match="TripleBuffer"):
                use()


def test_there_are_as_many_readers_as_there_can_be() -> None:
    """Their words all fit on the page; more are refused."""
    with TripleBuffer(8, "uint64", readers=MOST) as buffer, buffer.writing() as writer, ExitStack() as stack:
        held = []
        for number in range(1, MOST + 1):
            with writer.frame() as values:
                places.stamp(values, number)
            held.append(stack.enter_context(buffer.reading()).latest())
        for _ in range(3):
            with writer.frame() as values:
                places.stamp(values, 99)
        assert [places.number_in(frame.values) for frame in held if frame] == list(range(1, MOST + 1))
    for readers in (0, MOST + 1):
        with pytest.raises(InvalidInput, match="1 to 32 readers"):
            TripleBuffer(1, readers=readers)


def test_words_are_used_in_the_order_of_the_program(monkeypatch: pytest.MonkeyPatch) -> None:
    """Before and after each store, and after each load, there is a fence: no test could see for sure that one lacks."""
    memory = memoryview(bytearray(2 * words.LINE))
    seen: list[int] = []
    monkeypatch.setattr(words, "fence", lambda: seen.append(memory.cast("Q")[words.LINE // 8]))
    shared = words.Words(memory)
    shared[1] = 7
    assert shared[1] == 7
    assert seen == [0, 7, 7]


# Every order of steps


class Stepped:
    """Words, before each use of which a thread waits until it is told to go on."""

    def __init__(self) -> None:
        self.words = dict.fromkeys(range(LATEST, HELD + MOST), 0)
        self.turns: dict[int, threading.Semaphore] = {}
        self.rested = threading.Semaphore(0)

    def wait(self) -> None:
        self.rested.release()
        self.turns[threading.get_ident()].acquire()

    def __getitem__(self, number: int) -> int:
        self.wait()
        return self.words[number]

    def __setitem__(self, number: int, value: int) -> None:
        self.wait()
        self.words[number] = value


class Model:
    """A producer and its consumers, one step of one of them at a time. Slots are marked while somebody is in them."""

    def __init__(self, consumers: int, frames: int, looks: int) -> None:
        self.words = Stepped()
        self.slots = [0] * (consumers + 2)
        self.reads: dict[int, int] = {}
        self.wrong: list[str] = []
        self.over: set[int] = set()
        self.threads = [threading.Thread(target=self._run, args=(0, self._produce, consumers, frames))]
        for index in range(consumers):
            self.threads.append(threading.Thread(target=self._run, args=(index + 1, self._consume, index, looks)))

    def _run(self, name: int, part: Callable[..., None], *args: int) -> None:
        self.words.turns[threading.get_ident()] = self.starts[name]
        try:
            self.words.wait()
            part(*args)
        except BaseException as error:
            self.wrong.append(repr(error))
        self.over.add(name)
        self.words.rested.release()

    def _produce(self, consumers: int, frames: int) -> None:
        producer = Producer(self.words, consumers)
        for number in range(1, frames + 1):
            slot = producer.vacant()
            if slot in self.reads.values():
                self.wrong.append(f"slot {slot} is written while {self.reads} are read")
            self.slots[slot] = -number
            self.words.wait()  # in the middle of writing
            self.slots[slot] = number
            producer.publish(slot)

    def _consume(self, index: int, looks: int) -> None:
        consumer = Consumer(self.words, index)
        held = None
        for _ in range(looks):
            before = consumer.number
            self.reads.pop(index, None)  # it may let go of it now
            slot = consumer.newest()
            if slot is not None and consumer.number <= before:
                self.wrong.append(f"frame {consumer.number} comes after {before}")
            held = held if slot is None else slot
            if held is not None:
                self.reads[index] = held
                self._look(held, consumer.number)
                self.words.wait()  # in the middle of reading
                self._look(held, consumer.number)
        self.reads.pop(index, None)
        consumer.leave()

    def _look(self, slot: int, number: int) -> None:
        if self.slots[slot] != number:
            self.wrong.append(f"slot {slot} is to show frame {number}, and shows {self.slots[slot]}")

    def play(self, order: Iterator[int]) -> list[str]:
        """Let them go on in this order, then to their end. What went wrong."""
        self.starts = {name: threading.Semaphore(0) for name in range(len(self.threads))}
        for thread in self.threads:
            thread.start()
        for _ in self.threads:
            self.words.rested.acquire()
        while len(self.over) < len(self.threads):
            waiting = [name for name in self.starts if name not in self.over]
            self.starts[waiting[next(order, 0) % len(waiting)]].release()
            self.words.rested.acquire()
        for thread in self.threads:
            thread.join()
        return self.wrong


@settings(max_examples=300)
@given(st.integers(1, 2), st.lists(st.integers(0, 5), max_size=120))
def test_no_order_of_steps_gives_a_slot_to_both(consumers: int, order: list[int]) -> None:
    """Whoever is interrupted, wherever, for however long: nobody writes what somebody looks at."""
    assert Model(consumers, frames=6, looks=5).play(iter(order)) == []


class Rash(Consumer):
    """One that does not look again: what the model has to find."""

    def newest(self) -> int | None:
        seen = self._words[LATEST]
        if seen // 256 == self.number:
            return None
        self.number, slot = divmod(seen, 256)
        self._words[self._held] = slot + 1
        return slot


def test_the_model_finds_what_is_wrong(monkeypatch: pytest.MonkeyPatch) -> None:
    """A test that could not fail would show nothing."""
    monkeypatch.setattr(sys.modules[__name__], "Consumer", Rash)
    orders = ([1] * 2 + [0] * late + [1] * 3 for late in range(30))
    begun = [0] * 5
    assert any(Model(1, frames=6, looks=5).play(iter(begun + order)) for order in orders)
