"""Values and exceptions to bytes, and back.

One pickle per value. Buffers of 64 KiB and more stay in shared memory and travel as descriptors; a very large pickle
travels there whole; plain arrays do without pickle (`layouts.py`). What pickle cannot do by reference (lambdas, things
of `__main__`) cloudpickle does by value. Nothing here is for data from a network: unpickling runs code.
"""

from __future__ import annotations

import pickle
import struct
import traceback
from collections.abc import Callable, Iterator
from typing import Any, Final, Literal, NamedTuple, TypeAlias

from hybrid_compute.errors import NotTransferable, TaskFailed
from hybrid_compute.links.arena import LARGE, Arena, Descriptor, NoMemory, Segment
from hybrid_compute.links.frames import BUFFERS, PICKLES
from hybrid_compute.links.layouts import ATOMS, Layout, put_together, take_apart

HUGE = 1 << 18
"""A pickle from this size on goes through shared memory: a pipe takes it only 64 KiB at a time."""

PICKLED: Final = "pickled"
PARKED: Final = "parked"
"""Where the pickle is that belongs to buffers: behind their descriptors, or in the first of them."""

_LENGTH = struct.Struct("<I")

READING_FAILED = (Exception, SystemExit)
"""What to catch where a value is unpickled: that runs its author's code, and a `sys.exit` there is not meant for us."""


class CannotCross(NotTransferable):
    """`NotTransferable` of a worker's own: a task that raises that error for reasons of its own has failed."""


class Loan(NamedTuple):
    """A buffer lent to a peer: hold it until the peer gives `number` back."""

    number: int
    segment: Segment
    anchor: Any
    copied: int  # bytes: none, when it lay in shared memory already


def copied_for(loans: list[Loan]) -> int:
    """Bytes that had to be copied into shared memory."""
    return sum(loan.copied for loan in loans)


Encoded: TypeAlias = tuple[int, bytes, list[Loan]]
Borrow: TypeAlias = Callable[[Descriptor], memoryview]

NOTHING: list[Loan] = []


def are_atoms(values: tuple[Any, ...]) -> bool:
    """Whether all values are atoms: those pickle without any of the care that `encode` takes."""
    for value in values:  # noqa: SIM110  # `all` with a generator takes three times as long
        if type(value) not in ATOMS:
            return False
    return True


def encode(value: Any, arena: Arena | None) -> Encoded:
    """`(flags, body, loans)` for a value. Raises `NotTransferable`, naming the path to what cannot go."""
    if arena is not None and (parts := take_apart(value)) is not None:
        layout, arrays = parts
        try:
            return _lend(layout, arrays, b"", arena)
        except NoMemory:
            return 0, dumps(value, None), NOTHING
    buffers: list[memoryview] = []
    body = dumps(value, None if arena is None else buffers)
    if not buffers and (len(body) < HUGE or arena is None):
        return 0, body, NOTHING
    assert arena is not None
    try:
        if len(body) < HUGE:
            return _lend(PICKLED, buffers, body, arena)
        return _lend(PARKED, [memoryview(body), *buffers], b"", arena)
    except NoMemory:
        return 0, dumps(value, None), NOTHING


def dumps(value: Any, buffers: list[memoryview] | None) -> bytes:
    """Pickle `value`; its large buffers are appended to `buffers` instead, unless that is None."""
    try:
        body = pickle.dumps(value, 5, buffer_callback=None if buffers is None else _keeper(buffers))
        if b"__main__" not in body:  # the name of another program over there
            return body
    except Exception:  # of pickle, or of anybody's `__reduce__`: told below, unless it goes by value
        pass
    if buffers is not None:
        buffers.clear()
    return _dumps_by_value(value, buffers)


def _keeper(buffers: list[memoryview]) -> Callable[[pickle.PickleBuffer], bool]:
    """What pickle asks of each buffer: whether it is to stay in the pickle. Large ones go to `buffers`."""

    def keep(buffer: pickle.PickleBuffer) -> bool:
        raw = buffer.raw()
        if raw.nbytes < LARGE:
            return True
        buffers.append(raw)
        return False

    return keep


def decode(flags: int, body: bytes, borrow: Borrow | None) -> Any:
    """The value of an encoded body. `borrow` turns descriptors into views."""
    if flags & PICKLES:
        return [decode(flags, body, borrow) for flags, body in pickle.loads(body)]
    if not flags & BUFFERS:
        return pickle.loads(body)
    if borrow is None:
        raise AssertionError("buffers arrived on a link that has no shared memory")
    layout, descriptors, rest = _head(body)
    views = [borrow(each) for each in descriptors]
    if layout == PICKLED:
        return pickle.loads(rest, buffers=views)
    if layout == PARKED:
        return pickle.loads(views[0], buffers=views[1:])
    return put_together(layout, views)


def descriptors_in(flags: int, body: bytes) -> list[Descriptor]:
    """What an encoded body has lent, for those who will not decode it."""
    if flags & PICKLES:
        return [each for flags, body in pickle.loads(body) for each in descriptors_in(flags, body)]
    return _head(body)[1] if flags & BUFFERS else []


def _head(body: bytes) -> tuple[Layout | Literal["pickled", "parked"], list[Descriptor], memoryview]:
    (length,) = _LENGTH.unpack_from(body)
    layout, descriptors = pickle.loads(body[4 : 4 + length])
    return layout, descriptors, memoryview(body)[4 + length :]


def _lend(layout: Layout | Literal["pickled", "parked"], buffers: list[Any], rest: bytes, arena: Arena) -> Encoded:
    loans: list[Loan] = []
    descriptors: list[Descriptor] = []
    for each in buffers:
        descriptor, segment, anchor = arena.lend(each)
        descriptors.append(descriptor)
        number, _, _, size, exclusive = descriptor
        loans.append(Loan(number, segment, anchor, size if exclusive else 0))
    head = pickle.dumps((layout, descriptors), 5)
    return BUFFERS, _LENGTH.pack(len(head)) + head + rest, loans


def _dumps_by_value(value: Any, buffers: list[memoryview] | None) -> bytes:
    import cloudpickle

    callback = None if buffers is None else _keeper(buffers)
    try:
        body: bytes = cloudpickle.dumps(value, 5, buffer_callback=callback)
        return body
    except Exception as error:
        path, culprit = find_culprit(value)
        where = f"{path or 'the value'} is of type {type(culprit).__name__} and cannot be pickled"
        raise NotTransferable(f"{where}: {_headline(error)}") from error


def find_culprit(value: Any, path: str = "", depth: int = 0) -> tuple[str, Any]:
    """The path to the innermost value that does not pickle, and that value."""
    if depth < 20:
        for step, child in _children(value):
            if not _pickles(child):
                return find_culprit(child, path + step, depth + 1)
    return path, value


def _children(value: Any) -> Iterator[tuple[str, Any]]:
    if isinstance(value, dict):
        for key, each in value.items():
            yield f"[{key!r}]", each
    elif isinstance(value, list | tuple):
        for index, each in enumerate(value):
            yield f"[{index}]", each
    elif hasattr(value, "__dict__") and not isinstance(value, type):
        for name, each in vars(value).items():
            yield f".{name}", each


def _pickles(value: Any) -> bool:
    import cloudpickle

    try:
        cloudpickle.dumps(value, 5)
    except Exception:
        return False
    return True


# Failures.

OF_THE_TASK = (Exception, SystemExit)
"""What a task may raise in this process without it being meant for anybody else, as an interrupt would be."""


def encode_failure(error: BaseException, *, frames_to_skip: int = 1) -> bytes:
    """An exception as bytes that always decode: the text for sure, the exception itself if it can travel.

    `frames_to_skip` leaves our own frames out of the traceback.
    """
    trace = error.__traceback__
    for _ in range(frames_to_skip):
        trace = trace.tb_next if trace else None
    text = "".join(traceback.format_exception(type(error), error, trace))
    return pickle.dumps((_headline(error), text, _chain(error), isinstance(error, CannotCross)), 5)


def decode_failure(body: bytes, task: str) -> TaskFailed | NotTransferable:
    """The error to raise here for a failure over there; its `__cause__` is the original where it could travel."""
    headline, text, chain, transfer = pickle.loads(body)
    if transfer:
        return NotTransferable(f"task {task!r}: {headline.partition(': ')[2]}")
    failed = TaskFailed(f"task {task!r} raised {headline}", remote_traceback=text)
    failed.__cause__ = _unchain(chain)
    failed.add_note(f"\nThe traceback at the place where it ran:\n\n{text}")
    return failed


def failure_of(error: BaseException, task: str) -> TaskFailed:
    """`TaskFailed` for an exception raised in this process."""
    text = "".join(traceback.format_exception(error))
    failed = TaskFailed(f"task {task!r} raised {_headline(error)}", remote_traceback=text)
    failed.__cause__ = error
    return failed


def _headline(error: BaseException) -> str:
    try:
        text = str(error)
    except BaseException as broken:
        text = f"<its __str__ raised {type(broken).__name__}>"
    first_line = text.partition("\n")[0]
    return f"{type(error).__name__}: {first_line}" if first_line else type(error).__name__


_Chain: TypeAlias = tuple[bytes | None, Any, Any, bool] | None


def _chain(error: BaseException | None, depth: int = 8) -> _Chain:
    """The exception with its cause and context, which pickle alone would drop."""
    if error is None or depth == 0:
        return None
    cause, context = _chain(error.__cause__, depth - 1), None
    if error.__context__ is not error.__cause__:
        context = _chain(error.__context__, depth - 1)
    return _picklable(error), cause, context, error.__suppress_context__


def _picklable(error: BaseException) -> bytes | None:
    """The pickle of an exception, proven to load again: many exceptions only fail on that second step."""
    try:
        import cloudpickle  # here: it may be open files that there are none of

        body = cloudpickle.dumps(error, 5)
        return body if isinstance(pickle.loads(body), BaseException) else None
    except BaseException:
        # Code of the exception's author, which may do anything; the text of it travels in any case.
        return None


def _unchain(chain: _Chain) -> BaseException | None:
    if chain is None:
        return None
    body, cause, context, suppress = chain
    if body is None:
        return None
    try:
        error = pickle.loads(body)
    except READING_FAILED:  # its module is not importable here: the text has already travelled
        return None
    error.__cause__, error.__context__ = _unchain(cause), _unchain(context)
    error.__suppress_context__ = suppress
    return error  # type: ignore[no-any-return]
