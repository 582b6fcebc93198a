"""A frame: all the works that go to the device together, in one list of commands with one wait at its end.

    host arrays ──> up ──copy──> ins ──┐                      ┌──> outs ──copy──> down ──> host arrays
                                       ├── step, step, ... ───┤
                     arrays of the device                  arrays of the device

Up and down are mapped: the host writes and reads right there, and they are used again by the next frame. Where a device
lets the host map what its shaders use, up is ins and outs is down, and two copies fall away.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from hybrid_compute.gpu import native
from hybrid_compute.gpu.faults import DeviceLost
from hybrid_compute.gpu.window import Window
from hybrid_compute.gpu.work import (
    Constant,
    Fetch,
    Kept,
    Output,
    Place,
    Scratch,
    Series,
    Shared,
    Step,
    Uniform,
    Upload,
    Work,
    words,
)

if TYPE_CHECKING:
    from hybrid_compute.gpu.constants import Constants
    from hybrid_compute.gpu.memory import Buffer, Memory
    from hybrid_compute.gpu.pipelines import Pipelines

LARGE = 1 << 18
"""Bytes from which on an array that the host can map is written and read where it lies: mapping takes 0.1 ms."""

LARGE_PART = 1 << 12
"""Bytes from which on what one of many calls gets is an array by itself."""

NOTHING = 16
"""Bytes that a shader is bound to, at most, for an array that has none: a vector."""


class Frame:
    """Encodes works, and gives their results when the device has done them. Used again and again."""

    def __init__(self, device: Any, memory: Memory, constants: Constants, pipelines: Pipelines, alignment: int) -> None:
        self._device = device._internal
        self._queue = device.queue._internal
        self._memory = memory
        self._constants = constants
        self._pipelines = pipelines
        self._alignment = alignment
        self._mappings = native.Mappings()
        self._up = Window(memory, native.WRITE)
        self._down = Window(memory, native.READ)
        self._scratch: list[Buffer] = []
        self._sent: list[Constant] = []
        self._kept: list[Buffer] = []
        self._asked: list[int] = []
        self._submission: Any = native.NULL
        self.works: Sequence[Work] = ()
        self.is_given_up = False
        """Whether somebody else goes on with what it was about: nothing of that may be touched any more."""

    # To the device.

    def launch(self, works: Sequence[Work]) -> None:
        """Have the device begin with these."""
        self.works = works
        try:
            with native.raising():
                self._lay_out(works)
                self._fill(works)
                commands = self._encoded(works)
            with native.raising():
                self._submission = native.submit(self._queue, commands)
                self._ask_for_mappings()
        except BaseException:
            self._constants.settle(written=False)
            self.drop()  # in whatever state they are
            raise
        self._constants.settle(written=True)

    def drop(self) -> None:
        """Give all buffers up, and forget what it was about."""
        self.works = ()
        self._pipelines.forget_groups()
        self._up.drop()
        self._down.drop()
        for buffer in (*self._scratch, *self._kept):
            self._memory.give_back(buffer)
        self._scratch.clear()
        self._kept.clear()

    def _encoded(self, works: Sequence[Work]) -> Any:
        encoder = native.encoder(self._device)
        self._encode_inputs(encoder, works)
        self._encode_steps(encoder, (step for work in works for step in work.steps))
        self._encode_outputs(encoder, works)
        return native.finish(encoder)

    def _lay_out(self, works: Iterable[Work]) -> None:
        """Give every place its buffer and its offset."""
        up, down, alignment = self._up, self._down, self._alignment
        up.size = down.size = 0
        self._sent.clear()
        uploads, outputs, passing, fetched = list[Place](), list[Output](), list[Output](), list[Fetch]()
        for work in works:
            for place in work.places:
                kind = type(place)
                if kind is Upload or kind is Uniform:
                    place.offset = up.reserve(alignment, place.nbytes)
                    uploads.append(place)
                elif kind is Output:
                    place.offset = down.reserve(alignment, place.nbytes)
                    outputs.append(place)  # type: ignore[arg-type]
                elif kind is Kept:
                    place.buffer = self._memory.take(place.nbytes)
                    self._kept.append(place.buffer)
                elif kind is Scratch:
                    place.buffer = self._memory.take(place.nbytes)
                    self._scratch.append(place.buffer)
                elif kind is Shared:
                    place.buffer = place.scratch.buffer  # type: ignore[attr-defined]  # which comes before it
                elif kind is Constant:
                    self._find(place)  # type: ignore[arg-type]
                elif kind is Fetch and not self._is_near(place):
                    fetched.append(place)  # type: ignore[arg-type]
                if isinstance(place, Output) and place.initial is not None and not self._is_near(place):
                    passing.append(place)
        up.seen, down.seen = up.size, down.size
        staged: list[Output | Constant] = [*passing, *self._sent]
        for each in staged:
            each.staged = up.reserve(alignment, each.nbytes)
        for fetch in fetched:
            fetch.offset = down.reserve(alignment, fetch.nbytes)
        self._make_room()
        assert up.device is not None
        assert down.device is not None
        for place in uploads:
            place.buffer = up.device
        for output in outputs:
            output.buffer = down.device

    def _find(self, place: Constant) -> None:
        place.buffer, new = self._constants.find(place.array, place.nbytes)
        if new:
            self._sent.append(place)

    def _make_room(self) -> None:
        if self._up.ensure():
            assert self._up.host is not None
            self._wait([self._mappings.ask(self._up.host.raw, native.WRITE, self._up.host.size)])
            self._pipelines.forget_groups()
        if self._down.ensure():
            self._pipelines.forget_groups()

    def _fill(self, works: Iterable[Work]) -> None:
        """Write what the host has into what the device will see."""
        up = self._up
        view = up.open(up.size) if up.size else memoryview(b"")
        for work in works:
            for place in work.places:
                kind = type(place)
                if kind is Upload:
                    self._write(view, place.offset, place, place.array, place.stride)  # type: ignore[attr-defined]
                elif kind is Uniform:
                    view[place.offset : place.offset + place.nbytes] = place.data  # type: ignore[attr-defined]
                elif isinstance(place, Output) and place.initial is not None:
                    if self._is_near(place):
                        self._write_there(place)
                    else:
                        self._write(view, place.staged, place, place.initial, place.stride)
        for constant in self._sent:
            self._write(view, constant.staged, constant, constant.array)
        if up.size:
            up.close()

    def _is_near(self, place: Place) -> bool:
        """Whether the host writes, or reads, this array where it lies."""
        return self._memory.direct and place.nbytes >= LARGE and type(place) in (Kept, Fetch)

    def _write_there(self, place: Output) -> None:
        raw, size = place.buffer.raw, place.nbytes
        self._wait([self._mappings.ask(raw, native.WRITE, size)])
        self._write(native.mapped(self._device, raw, size), 0, place, place.initial, place.stride)
        native.unmap(raw)

    def _read_there(self, place: Fetch) -> Any:
        """In one go, here: commands must not be submitted while a buffer that they use is mapped."""
        raw, size = place.source.buffer.raw, place.nbytes
        self._wait([self._mappings.ask(raw, native.READ, size)])
        try:
            return self._read(native.mapped(self._device, raw, size), place)
        finally:
            native.unmap(raw)

    def _encode_inputs(self, encoder: Any, works: Iterable[Work]) -> None:
        up, down = self._up, self._down
        assert up.host is not None
        assert up.device is not None
        assert down.device is not None
        if up.seen and up.host is not up.device:
            self._copy(encoder, up.host.raw, 0, up.device.raw, 0, words(up.seen))
        for constant in self._sent:
            self._copy(encoder, up.host.raw, constant.staged, constant.buffer.raw, 0, constant.nbytes)
        if down.seen:
            native.clear(encoder, down.device.raw, 0, words(down.seen))
        for work in works:
            for place in work.places:
                if not isinstance(place, Output):
                    continue
                if type(place) is Kept and (place.nbytes < NOTHING or (place.initial is None and not place.written)):
                    native.clear(encoder, place.buffer.raw, 0, max(place.nbytes, NOTHING))
                if place.initial is not None and not self._is_near(place):
                    self._copy(encoder, up.host.raw, place.staged, place.buffer.raw, place.offset, place.nbytes)

    def _encode_steps(self, encoder: Any, steps: Iterable[Step]) -> None:
        """The loop that decides what a dispatch costs the host: nothing is set that is set already."""
        compute: Any = None
        kernel = pipeline = group = None
        group_of = self._pipelines.group
        set_pipeline, set_group, dispatch, nothing = native.set_pipeline, native.set_group, native.dispatch, native.NULL
        for step in steps:
            if step.fresh:
                if compute is not None:
                    native.end_pass(compute)
                    compute = None
                self._begin(encoder, step.fresh)
            if compute is None:
                compute, kernel, group = native.begin_pass(encoder), None, None
            if step.kernel is not kernel or pipeline is None:
                kernel = step.kernel
                pipeline = self._pipelines[kernel]
                set_pipeline(compute, pipeline.raw)
            if type(step) is Series:
                for group in self._pipelines.series(pipeline, step):
                    set_group(compute, 0, group, 0, nothing)
                    dispatch(compute, *step.groups)
                continue
            needed = group_of(pipeline, step.places)
            if needed is not group:
                group = needed
                set_group(compute, 0, group, 0, nothing)
            dispatch(compute, *step.groups)
        if compute is not None:
            native.end_pass(compute)

    def _begin(self, encoder: Any, fresh: Iterable[tuple[Place, Upload | None]]) -> None:
        for place, source in fresh:
            if source is None:
                native.clear(encoder, place.buffer.raw, place.offset, place.nbytes)
            else:
                self._copy(encoder, source.buffer.raw, source.offset, place.buffer.raw, place.offset, place.nbytes)

    def _encode_outputs(self, encoder: Any, works: Iterable[Work]) -> None:
        down = self._down
        assert down.host is not None
        assert down.device is not None
        if down.seen and down.host is not down.device:
            self._copy(encoder, down.device.raw, 0, down.host.raw, 0, words(down.seen))
        for work in works:
            for place in work.places:
                if type(place) is Fetch and not self._is_near(place):
                    source = place.source
                    self._copy(encoder, source.buffer.raw, source.offset, down.host.raw, place.offset, place.nbytes)

    def _ask_for_mappings(self) -> None:
        up, down = self._up, self._down
        assert up.host is not None
        assert down.host is not None
        self._asked = []
        if up.size:
            self._asked.append(self._mappings.ask(up.host.raw, native.WRITE, up.host.size))
        # There is always something to wait for: what is mapped is done.
        self._asked.append(self._mappings.ask(down.host.raw, native.READ, words(down.size)))

    # From the device.

    def finish(self) -> list[list[Any]]:
        """Wait until the device has done its part. The results of each work."""
        works, self.works = self.works, ()  # what was sent is not kept until there is more to send
        try:
            self._wait(self._asked, self._submission)
            view = self._down.open(words(self._down.size))
            try:
                results = [[self._result(view, place) for place in work.results] for work in works]
            finally:
                self._down.close()
            self._kept.clear()  # whoever gets the results has them
            return results
        finally:
            for buffer in (*self._scratch, *self._kept):
                self._memory.give_back(buffer)
            self._scratch.clear()
            self._kept.clear()

    def _result(self, view: memoryview, place: Output) -> Any:
        """What the host gets; for an array that stays on the device, its place."""
        if type(place) is Kept:
            return place
        if type(place) is Fetch and self._is_near(place):
            return self._read_there(place)
        return self._read(view, place)

    # What is copied, and counted.

    def _write(self, view: memoryview, offset: int, place: Place, array: Any, stride: int = 0) -> None:
        self._memory.by_host += place.nbytes
        room = view[offset : offset + place.nbytes]
        end = _write_apart(room, array, stride) if stride else _write(room, array)
        if end < place.nbytes:  # shaders see whole words, and nobody else's data
            room[end:] = bytes(place.nbytes - end)

    def _read(self, view: memoryview, place: Output) -> Any:
        self._memory.by_host += place.nbytes
        return _result(view, place)

    def _copy(self, encoder: Any, source: Any, start: int, target: Any, offset: int, nbytes: int) -> None:
        self._memory.by_device += nbytes
        native.copy(encoder, source, start, target, offset, nbytes)

    def _wait(self, asked: list[int], submission: Any = native.NULL) -> None:
        """Until these are mapped, which they are when a submission is done; or all are."""
        while not self._mappings.are_done(asked):
            native.poll(self._device, submission)  # for ever, if the driver is stuck
            submission = native.NULL
            if self.is_given_up:
                raise DeviceLost("the device was given up", backend="gpu")


def _write(room: memoryview, array: Any) -> int:
    """How many bytes it has, or they have together."""
    if isinstance(array, np.ndarray):
        there = np.frombuffer(room, array.dtype.newbyteorder("="), array.size)
        np.copyto(there.reshape(array.shape), array)
        return there.nbytes
    first = array[0]
    there = np.frombuffer(room, first.dtype.newbyteorder("="), first.size * len(array))
    np.concatenate(array, out=there.reshape(-1, *first.shape[1:]))
    return there.nbytes


def _write_apart(room: memoryview, arrays: Sequence[Any], stride: int) -> int:
    """The same, where each begins so many bytes after the last; there are zeros between them."""
    nbytes = arrays[0].nbytes
    if nbytes == stride:
        return _write(room, arrays)
    rows = np.frombuffer(room, np.uint8).reshape(len(arrays), stride)
    rows[:, :nbytes] = np.stack(arrays).reshape(len(arrays), -1).view(np.uint8)
    rows[:, nbytes:] = 0
    return rows.nbytes


def _result(view: memoryview, place: Output) -> Any:
    """A copy of an array that the host sees; of many large ones in a row a list of copies: none keeps the others."""
    seen = _seen(view, place)
    if place.parts > 1 and seen[0].nbytes >= LARGE_PART:
        return [part.copy() for part in seen]
    return seen.copy()


def _seen(view: memoryview, place: Output) -> Any:
    whole = np.ndarray(place.shape, place.dtype, view, place.offset)
    if not place.stride or place.parts == 1:
        return whole
    return np.ndarray(place.shape, place.dtype, view, place.offset, (place.stride, *whole.strides[1:]))
