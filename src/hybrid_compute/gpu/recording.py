"""`Recording`: tasks that follow one another, written down once, and done in one go each time.

with recording:                       symbols go through tasks, and each adds its steps
    y = second(first(x), weights)
recording.returns(y)
await recording(x=...)                the same steps on new arrays: one submission, one wait
"""

from __future__ import annotations

import asyncio
import math
import operator
import threading
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, Self, SupportsIndex

import numpy as np

from hybrid_compute.errors import InvalidInput, LimitExceeded
from hybrid_compute.gpu.arguments import not_an_array
from hybrid_compute.gpu.array import GpuArray, OnDevice
from hybrid_compute.gpu.computable import Computable
from hybrid_compute.gpu.facts import Facts
from hybrid_compute.gpu.replies import Asked, Mailbox
from hybrid_compute.gpu.shapes import DTYPES, Shape
from hybrid_compute.gpu.sharing import Between
from hybrid_compute.gpu.work import (
    Constant,
    Fetch,
    Kept,
    Output,
    Place,
    Reply,
    Resident,
    Scratch,
    Shared,
    Step,
    Uniform,
    Upload,
    Work,
)

_ABSENT = "this array is not there yet: it only stands for one, in a recording: call tasks with it, without a runtime"


class Symbol(OnDevice):
    """Stands for an array that there will be when the recording is played."""

    __slots__ = ("dtype", "nbytes", "place", "recording", "shape")

    def __init__(self, recording: Recording, place: Place, shape: tuple[int, ...], dtype: str) -> None:
        self.recording = recording
        self.shape = shape
        self.dtype = np.dtype(dtype)
        self.nbytes = place.nbytes
        self.place = place

    def resident(self, nbytes: int = 0) -> Place:
        if not self.recording.adds:
            raise InvalidInput(_ABSENT)
        self.place.nbytes = max(self.place.nbytes, nbytes)
        return self.place

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> Any:
        raise InvalidInput(_ABSENT)

    def __reduce__(self) -> tuple[Any, ...]:
        raise InvalidInput(_ABSENT)

    def __repr__(self) -> str:
        return f"<Symbol {self.dtype.name}{list(self.shape)}>"


class Recording:
    """Tasks in the order in which they were called in its block. Made by `GpuBackend.record`.

    Play it as often as you like, with arrays of this process or of the device; all of it goes to the device at once.
    """

    def __init__(self, facts: Facts, submit: Callable[[Work], None]) -> None:
        self._facts = facts
        self._submit = submit
        self._inputs: dict[str, Symbol] = {}
        self._outputs: list[Symbol] = []
        self._stay = False
        self._steps: list[Step] = []
        self._places: dict[int, Place] = {}
        self._open = False
        self._thread = 0
        self._between: Between | None = None
        self.adds = False
        """Whether a task is being added: nothing else may look at what its arrays stand for."""

    def __enter__(self) -> Self:
        if self._steps:
            raise RuntimeError("this was recorded already: make another with record()")
        self._open = True
        self._thread = threading.get_ident()
        return self

    def __exit__(self, *_: object) -> None:
        self._open = False

    def input(self, name: str, shape: SupportsIndex | Sequence[SupportsIndex], dtype: str = "float32") -> Symbol:
        """An array that is given each time it is played, under this name.

        Raises `InvalidInput` for a shape or a dtype that no array has, `LimitExceeded` for more than the device binds.
        """
        if name in self._inputs:
            raise ValueError(f"there is an input {name!r} already")
        if dtype not in DTYPES.values():
            raise InvalidInput(f"a gpu has no {dtype}, but {', '.join(DTYPES.values())}")
        size = _shape(name, shape)
        nbytes = math.prod(size) * np.dtype(dtype).itemsize
        if nbytes > self._facts.binding:
            raise LimitExceeded(
                f"the input {name!r} would have {nbytes:,} bytes, and the device binds {self._facts.binding:,} at once "
                f"(max-storage-buffer-binding-size): split it",
                backend="gpu",
            )
        place = Place(nbytes)
        self._places[id(place)] = place
        self._inputs[name] = Symbol(self, place, size, dtype)
        return self._inputs[name]

    def add(self, function: Computable, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> Any:
        """What a task gives when it is played. Called by the tasks themselves."""
        if not self._open:
            raise RuntimeError("nothing is recorded outside of its block")
        if threading.get_ident() != self._thread:  # that of a place which the task was sent to
            raise InvalidInput(_ABSENT)
        self.adds = True
        try:
            work = function.work(function.positional(args, kwargs), self._facts, Reply())
        finally:
            self.adds = False
        self._steps += work.steps
        self._between = None
        for place in work.places:
            self._places.setdefault(id(place), place)
        made = [Symbol(self, place, place.shape, place.dtype) for place in work.results]
        return made[0] if len(made) == 1 else tuple(made)

    def returns(self, *results: Symbol | tuple[Symbol, ...], stay: bool = False) -> None:
        """Say what comes out: results of tasks, of which some have several. `stay`, that it remains on the device."""
        symbols = [each for result in results for each in (result if isinstance(result, tuple) else (result,))]
        for symbol in symbols:
            if not isinstance(symbol, Symbol):
                raise TypeError(f"only what a recorded task gave can come out, and not {type(symbol).__name__}")
            if symbol.recording is not self:
                raise ValueError(f"{symbol!r} was made by another recording")
            if symbol in self._inputs.values():
                raise ValueError(f"{symbol!r} is an input: it would come out as it was given")
        self._outputs = symbols
        self._stay = stay
        self._between = None

    async def __call__(self, **arrays: Any) -> Any:
        """What comes out for these inputs: an array, or a tuple of them. Raises `InvalidInput` if they do not fit."""
        asked = Asked((), Mailbox(asyncio.get_running_loop()))
        self._submit(self.work(arrays, asked))
        return await asked.answer

    def work(self, arrays: Mapping[str, Any], reply: Reply) -> Work:
        """One playing of it: the same steps, on places of its own."""
        if not self._outputs:
            raise RuntimeError("nothing comes out of this recording: say what with returns(...)")
        if arrays.keys() != self._inputs.keys():
            raise InvalidInput(f"the inputs are {', '.join(self._inputs)}, and not {', '.join(arrays) or 'none'}")
        if self._between is None:
            come_out = {id(symbol.place) for symbol in self._outputs}
            self._between = Between.of(self._steps, self._places.values(), come_out, stay=self._stay)
        between = self._between
        new = {id(symbol.place): _given(name, symbol, arrays[name]) for name, symbol in self._inputs.items()}
        scratches = [Scratch(nbytes) for nbytes in between.sharing.sizes]
        for place, piece in zip(between.places, between.sharing.piece, strict=True):
            new[id(place)] = Shared(scratches[piece], place.nbytes)
        for known, place in self._places.items():
            if known not in new:
                new[known] = self._anew(place)
        uploads: list[Upload] = []
        steps: list[Step] = []
        for step, fresh in zip(self._steps, between.fresh, strict=True):
            begun = [(new[id(place)], _source(place)) for place in fresh]
            uploads += [source for _, source in begun if source is not None]
            steps.append(Step(step.kernel, [new[id(place)] for place in step.places], step.groups, begun))
        results = [_fetched(new[id(symbol.place)], symbol) for symbol in self._outputs]
        places = {id(place): place for place in (*scratches, *new.values(), *uploads, *results)}
        return Work(steps, list(places.values()), results, reply)

    def _anew(self, place: Place) -> Place:
        """The same place, for one playing: where it lies is another matter each time."""
        match place:
            case Uniform():
                return Uniform(place.data)
            case Upload():
                return Upload(place.array, place.nbytes)
            case Constant():
                return Constant(place.array)
            case Resident():
                return place  # it lies where it lies
            case Kept():
                kind = Kept if self._stay else Output
                return kind(place.shape, place.dtype, place.nbytes, place.initial, written=place.written)
            case _:
                raise TypeError(f"a recording cannot have a {type(place).__name__}")


def _source(place: Kept) -> Upload | None:
    """What the host has for its beginning."""
    return None if place.initial is None else Upload(place.initial, place.nbytes)


def _fetched(place: Place, symbol: Symbol) -> Output:
    """What comes out, of a place that may be only between steps."""
    return place if isinstance(place, Output) else Fetch(place, symbol.shape, symbol.dtype.name)


def _shape(name: str, given: Any) -> Shape:
    """The shape of an input, which may be one number."""
    try:
        sizes = tuple(map(operator.index, given if isinstance(given, Iterable) else (given,)))
    except TypeError:
        sizes = (-1,)
    if any(size < 0 for size in sizes):
        raise InvalidInput(
            f"the input {name!r} cannot have the shape {given!r}: it is whole numbers, and none negative"
        )
    return sizes


def _given(name: str, symbol: Symbol, array: Any) -> Place:
    found = _instead(symbol, array)
    if found:
        raise InvalidInput(f"{name} must be {symbol.dtype}{list(symbol.shape)}, and is {found}")
    nbytes = symbol.place.nbytes
    return array.resident(nbytes) if isinstance(array, GpuArray) else Upload(array, nbytes)


def _instead(symbol: Symbol, array: Any) -> str:
    """What was given instead of what the symbol stands for; an empty text if that was given."""
    if isinstance(array, Symbol):
        return "a Symbol, which only stands for an array"
    found = not_an_array(array)
    if found or (array.dtype == symbol.dtype and array.shape == symbol.shape):
        return found
    return f"{array.dtype}{list(array.shape)}"
