"""A worker's main loop: read calls, run them, write replies.

Plain functions run one after the other, straight from the frames; that path is the one everybody waits for, so it is
one flat loop. Generators are advanced in turns while they have credit, coroutines run on an event loop that exists
only from the first coroutine on (`coroutines.py`). Replies are held back while quick calls follow each other, at most
`HOLD` seconds, and never behind a call that is slow or not yet known.

The ledger is a few words shared with the parent, which outlive this process: the last call started here; a count of
cancellations, which says that a CANCEL frame is waiting behind the calls already read; how far the worker came; and how
far the call came, if it says so.
"""

from __future__ import annotations

import importlib
import os
import pickle
import select
import site
import socket
import struct
import sys
from collections import deque
from collections.abc import Callable, Generator, Iterable
from functools import partial
from threading import get_ident
from time import perf_counter
from typing import TYPE_CHECKING, Any, Protocol

from hybrid_compute.arrays import allocate_with
from hybrid_compute.errors import NotTransferable
from hybrid_compute.links import frames
from hybrid_compute.links.arena import Arena, NoMemory, Segment, open_segment
from hybrid_compute.links.codec import CannotCross, Loan, decode, descriptors_in, dumps, encode, encode_failure
from hybrid_compute.links.frames import CALL, KEYWORDS, KIND, MANY, PICKLES, READ_SIZE, RESULT, SIZE
from hybrid_compute.links.layouts import ATOMS
from hybrid_compute.links.loans import Loans
from hybrid_compute.reporting import reporter, stepper

if TYPE_CHECKING:
    import asyncio

PLAIN_CALL = CALL << 56

HOLD = 300e-6
SLOW = 100e-6

STARTED, CANCELS, STAGE, STEP = 0, 1, 3, 4  # words of the ledger; word 2 is `spawned_child.MADE`
STEP_BITS = 24  # of the word STEP; above them is the call whose step it is
LISTENING, SET_UP = 1, 2  # stages

_ANNOUNCEMENT = struct.Struct("<QQ")


class Channel(Protocol):
    """The worker's end of a link."""

    def read(self) -> bytes:
        """Wait for bytes; empty when the parent has closed its end."""
        ...

    def ready(self) -> bool:
        """Whether `read` would return at once."""
        ...

    def write(self, data: bytes) -> None: ...

    def announce(self, segment: Segment) -> None: ...

    def fetch(self, key: int) -> Segment: ...

    def wake(self, loop: asyncio.AbstractEventLoop) -> None:
        """From now on stop this loop whenever there is input."""
        ...


class PipeChannel:
    """Two pipes and a control socket."""

    def __init__(self, calls: int, replies: int, control: int) -> None:
        self.read = partial(os.read, calls, READ_SIZE)
        self._calls = calls
        self._replies = replies
        self._control = socket.socket(fileno=control)
        self._poll = select.poll()
        self._poll.register(calls, select.POLLIN)
        os.register_at_fork(after_in_child=self._let_go)

    def _let_go(self) -> None:
        """In a process that a task has forked: it must neither hide this one's death nor answer in its place."""
        nowhere = os.open(os.devnull, os.O_RDWR)
        for fd in (self._calls, self._replies, self._control.fileno()):
            os.dup2(nowhere, fd, inheritable=False)
        os.close(nowhere)

    def ready(self) -> bool:
        return bool(self._poll.poll(0))

    def write(self, data: bytes) -> None:
        written = os.write(self._replies, data)
        if written < len(data):
            rest = memoryview(data)
            while written < len(data):
                written += os.write(self._replies, rest[written:])

    def announce(self, segment: Segment) -> None:
        # Never wait: the parent takes in segments only when it reads of them, and that is not yet written.
        message = _ANNOUNCEMENT.pack(segment.key, segment.size)
        try:
            socket.send_fds(self._control, [message], [segment.fd], socket.MSG_DONTWAIT)
        except OSError as error:
            raise NoMemory(f"the parent does not take in shared memory: {error}") from error

    def fetch(self, key: int) -> Segment:  # segments arrive in the order announced
        flags = socket.MSG_CMSG_CLOEXEC | socket.MSG_DONTWAIT
        try:
            message, fds, _, _ = socket.recv_fds(self._control, _ANNOUNCEMENT.size, 1, flags)
        except BlockingIOError:
            raise NoMemory("it came when this process had too many open files, and is lost: see `ulimit -n`") from None
        key, size = _ANNOUNCEMENT.unpack(message)
        return open_segment(key, size, fds)

    def wake(self, loop: asyncio.AbstractEventLoop) -> None:
        loop.add_reader(self._calls, loop.stop)


class Function:
    """A function this worker knows by number, and how long it takes on average."""

    __slots__ = ("fn", "kind", "mean", "plain")

    def __init__(self, fn: Callable[..., Any], kind: str) -> None:
        self.fn = fn
        self.kind = kind
        self.plain = kind == "function"
        self.mean = 1.0


class Stream:
    """A generator in progress: it may produce `credit` more items before the reader must ask again."""

    __slots__ = ("call", "credit", "generator", "mean", "ran")

    def __init__(self, call: int, generator: Generator[Any]) -> None:
        self.call = call
        self.credit = 0
        self.generator = generator
        self.ran = 0.0
        self.mean = 1.0


def main(number: int, ledger: memoryview, segments: int, calls: int, replies: int, control: int) -> None:
    """A worker's whole life, once its process exists."""
    channel = PipeChannel(calls, replies, control)
    Worker(number, channel, ledger.cast("Q"), Arena(number, most=segments)).run()
    for stream in (sys.stdout, sys.stderr):
        if stream is not None:
            stream.flush()


class Worker:
    """The state of one worker."""

    def __init__(self, number: int, channel: Channel, ledger: memoryview, arena: Arena) -> None:
        self.channel = channel
        self.ledger = ledger
        self.arena = arena
        self.loans = Loans(arena, 0, channel.announce, channel.fetch)
        self.functions: dict[int, Function] = {}
        self.frames = frames.Frames()
        self.backlog: deque[frames.Frame] = deque()
        self.streams: dict[int, Stream] = {}
        self.cancelled: set[int] = set()
        self.out: list[bytes] = []
        self.held_since = 0.0
        self._cancels_seen = 0
        self._thread = get_ident()
        self._aside: Any = None
        allocate_with(self.allocate)
        reporter.set(self.report)
        stepper.set(self.step)
        _reseed()

    def run(self) -> None:
        """Serve until the parent closes its end."""
        out, ledger, functions, streams = self.out, self.ledger, self.functions, self.streams
        pack, unpack, feed, write = frames.REPLY.pack, frames.HEADER.unpack_from, self.frames.feed, self.channel.write
        loads, dumps, clock, read = pickle.loads, pickle.dumps, perf_counter, self.channel.read

        def run_plain(call: int, function: Function, body: bytes) -> bytes:
            """Run one plain call; its reply, or nothing if the answer has been put in line already."""
            ledger[STARTED] = call
            try:
                args = loads(body)
                began = clock()
                value = function.fn(*args)
                ran = clock() - began
                function.mean += (ran - function.mean) * 0.2
                if type(value) in ATOMS:
                    answer = dumps(value, 5)
                    return pack(len(answer) | RESULT << 56, call, ran) + answer
            except BaseException as error:
                self.fail(call, 0.0, error)
                return b""
            del args
            self.answer(call, ran, value)
            return b""

        ledger[STAGE] = LISTENING
        while data := self.next_input() if streams or self._aside else read():
            # Nearly always one plain call and nothing else; whoever sent it is waiting for this one. What a stream has
            # left in `out` is not to wait for the call after it.
            if len(data) >= SIZE and not out and not self.frames.partial and ledger[CANCELS] == self._cancels_seen:
                head, call, number = unpack(data)
                if head == len(data) - SIZE | PLAIN_CALL and (function := functions[number]).plain:
                    if reply := run_plain(call, function, data[SIZE:]):
                        write(reply)
                    else:
                        self.flush()
                    continue
            self.held_since = clock()
            self.backlog.extend(feed(data))
            while self.backlog:
                kind, call, number, body = self.backlog.popleft()
                if kind != CALL or not (function := functions[number]).plain or ledger[CANCELS] != self._cancels_seen:
                    self.handle(kind, call, number, body)
                    continue
                if call in self.cancelled:
                    self.decline(kind, call, body)
                    continue
                if out and (function.mean > SLOW or clock() - self.held_since > HOLD):
                    self.flush()
                    self.held_since = clock()
                if reply := run_plain(call, function, body):
                    out.append(reply)
            self.flush()

    def next_input(self) -> bytes:
        """Wait for bytes from the parent; meanwhile let every generator with credit produce."""
        while any(stream.credit for stream in self.streams.values()):
            self.advance_streams()
            if self._aside is not None:
                self._aside.turn()
            if self.channel.ready():
                return self.channel.read()
        if self.out:
            self.flush()
        if self._aside is not None:
            self._aside.run_until_input()
        return self.channel.read()

    def handle(self, kind: int, call: int, number: int, body: bytes) -> None:
        """Everything that is not a plain call of a known function, and any call while cancellations are waiting."""
        if self.ledger[CANCELS] != self._cancels_seen:
            self._collect_cancels()
        base = kind & KIND
        if base in (CALL, MANY):
            if call in self.cancelled:
                self.decline(kind, call, body)
            else:
                self.start(kind, call, number, body)
        elif base == frames.DEFINE:
            self.functions[number] = _define(body)
        elif base == frames.FORGET:
            self.functions.pop(number, None)
        elif base == frames.CREDIT:
            self.grant(call, number)
        elif base == frames.CANCEL:
            self.cancelled.discard(call)
            self.cancel(call)
        elif base == frames.RELEASE:
            self.loans.returned(body)
        elif base == frames.DROP:
            self.loans.dropped(body)
        elif base == frames.SETUP:
            self.set_up(body)
        else:
            raise AssertionError(f"a frame of unknown kind {kind:#x} arrived")

    def start(self, kind: int, call: int, number: int, body: bytes) -> None:
        """Start one call of any sort."""
        function = self.functions[number]
        if self.out and (function.mean > SLOW or perf_counter() - self.held_since > HOLD):
            self.flush()
        self.ledger[STARTED] = call
        try:
            if kind & KIND == MANY:
                self.run_many(kind, call, function, body)
                return
            decoded = decode(kind, body, self.loans.borrow)
            inputs = list(decoded) if kind & KEYWORDS else [decoded, {}]
            del decoded
            if function.plain:
                self.run_plain(call, function, inputs)
            elif function.kind == "generator":
                self.streams[call] = Stream(call, function.fn(*inputs[0], **inputs[1]))
            else:
                self.aside.start(call, function, *inputs)
        except BaseException as error:
            self.fail(call, 0.0, error)

    def decline(self, kind: int, call: int, body: bytes) -> None:
        """Do not start a call that was cancelled in time; memory lent with it goes back untouched."""
        if kind & frames.BUFFERS:
            self.loans.decline(descriptors_in(kind & frames.BUFFERS, body))
            self.give_back()
        self.send(frames.CANCELLED, call)

    def run_plain(self, call: int, function: Function, inputs: list[Any]) -> None:
        """Run a plain function on `inputs`, which is emptied: the last reference to the arguments must be here."""
        args, kwargs = inputs
        inputs.clear()
        began = perf_counter()
        value = function.fn(*args, **kwargs)
        ran = perf_counter() - began
        function.mean += (ran - function.mean) * 0.2
        del args, kwargs  # memory that they borrowed returns with this very reply
        self.answer(call, ran, value)

    def set_up(self, body: bytes) -> None:
        """Run the user's initializer; a worker whose initializer fails serves nobody."""
        definition, args = pickle.loads(body)
        try:
            _define(definition).fn(*args)
        except BaseException as error:
            self.fail(0, 0.0, error)
            self.flush()
            raise SystemExit(1) from None
        self.ledger[STAGE] = SET_UP

    def run_many(self, kind: int, call: int, function: Function, body: bytes) -> None:
        """One frame, many calls: one reply with all their results, or the first failure."""
        inputs: Iterable[Any] = pickle.loads(body)
        if kind & PICKLES:
            inputs = map(pickle.loads, inputs)
        fn = function.fn
        values: list[Any] = []
        apart: list[tuple[int, bytes]] = []
        loans: list[Loan] = []
        began = perf_counter()
        try:
            for args in inputs:
                value = fn(*args)
                if not apart and type(value) in ATOMS:
                    values.append(value)
                    continue
                # The next call may change what this one has given, so that is encoded before.
                stopped = perf_counter()
                apart += [self.encoded(each, loans) for each in (*values, value)]
                values.clear()
                began += perf_counter() - stopped
        except BaseException:
            self.loans.recall(loans)
            raise
        ran = perf_counter() - began
        count = len(values) + len(apart)
        function.mean += (ran / count - function.mean) * 0.2
        if apart:
            if self.loans.due:
                self.give_back()
            self.out.append(frames.reply(RESULT | PICKLES, call, ran, pickle.dumps(apart, 5)))
        else:
            self.answer(call, ran, values)

    def answer(self, call: int, ran: float, value: Any) -> None:
        """Queue a result; if it cannot cross, the failure that says so."""
        try:
            self.deliver(RESULT, call, ran, value)
        except BaseException as error:  # pickling runs the user's code as well
            self.fail(call, ran, error)

    def deliver(self, kind: int, call: int, ran: float, value: Any) -> None:
        """Queue a result or an item. Raises `CannotCross`."""
        flags, body = self.encoded(value, [], "an item" if kind == frames.ITEM else "the result")
        del value
        if self.loans.due:
            self.give_back()
        self.out.append(frames.reply(kind | flags, call, ran, body))

    def encoded(self, value: Any, held: list[Loan], what: str = "the result") -> tuple[int, bytes]:
        """`(flags, body)` for the parent; what it borrows with them is added to `held`. Raises `CannotCross`."""
        try:
            flags, body, loans = encode(value, self.arena)
            try:
                self.loans.hold(loans)
            except NoMemory:  # the parent has not yet taken in the segments it was shown
                return 0, dumps(value, None)
        except NotTransferable as error:
            raise CannotCross(f"{what} cannot cross to another process: {error}") from None
        held += loans
        return flags, body

    def fail(self, call: int, ran: float, error: BaseException, *, skip: int = 1) -> None:
        self.out.append(frames.reply(frames.FAILURE, call, ran, encode_failure(error, frames_to_skip=skip)))
        error.__traceback__ = None  # its frames hold the arguments
        if self.loans.due:
            self.give_back()

    def send(self, kind: int, call: int, body: bytes = b"") -> None:
        self.out.append(frames.reply(kind, call, 0.0, body))

    def flush(self) -> None:
        out = self.out
        if out:
            count = len(out)
            data = b"".join(out[:count])
            del out[:count]  # not more: another thread may have reported progress meanwhile
            self.channel.write(data)

    def give_back(self) -> None:
        """Tell the parent which of its loans are no longer in use here."""
        if returns := self.loans.take_returns():  # frames of either direction have one header, but for its last word
            self.out.append(returns)

    def report(self, done: float, total: float | None, note: str, call: int | None = None) -> None:
        """`progress()` from inside a task: goes out at once, with whatever waits before it."""
        body = pickle.dumps((done, total, note), 5)
        self.send(frames.PROGRESS, int(self.ledger[STARTED]) if call is None else call, body)
        if get_ident() == self._thread:  # any other thread would write into the middle of something
            self.flush()

    def step(self, number: int) -> None:
        """The call that runs begins another part of its work."""
        self.ledger[STEP] = self.ledger[STARTED] << STEP_BITS | number

    def allocate(self, size: int) -> memoryview | None:
        """Shared memory for an array that a task makes; None when it is short."""
        try:
            return self.arena.allocate(size)[0]
        except NoMemory:
            return None

    # Streams.

    def grant(self, call: int, credit: int) -> None:
        stream = self.streams.get(call)
        if stream is not None:
            stream.credit += credit
        elif self._aside is not None:
            self._aside.grant(call, credit)

    def advance_streams(self) -> None:
        """One turn: each generator with credit produces one item."""
        for stream in list(self.streams.values()):
            if stream.credit:
                self._advance(stream)

    def _advance(self, stream: Stream) -> None:
        began = perf_counter()
        if self.out and (stream.mean > SLOW or began - self.held_since > HOLD):
            self.flush()
            self.held_since = began
        token = reporter.set(partial(self.report, call=stream.call))
        try:
            item = next(stream.generator)
            took = perf_counter() - began
            if not self.out:
                self.held_since = began
            self.deliver(frames.ITEM, stream.call, took, item)
        except StopIteration:
            del self.streams[stream.call]
            self.answer(stream.call, stream.ran + perf_counter() - began, None)
            return
        except BaseException as error:
            del self.streams[stream.call]
            self.fail(stream.call, stream.ran + perf_counter() - began, error)
            return
        finally:
            reporter.reset(token)
        stream.ran += took
        stream.mean += (took - stream.mean) * 0.2
        stream.credit -= 1

    def cancel(self, call: int) -> None:
        stream = self.streams.pop(call, None)
        if stream is not None:
            try:
                stream.generator.close()
            except BaseException as error:
                self.fail(call, stream.ran, error)
                return
            self.send(frames.CANCELLED, call)
        elif self._aside is not None:
            self._aside.cancel(call)

    def _collect_cancels(self) -> None:
        """Read ahead for CANCEL frames: a call that waits in the backlog must not start once it is cancelled."""
        self._cancels_seen = self.ledger[CANCELS]
        while self.channel.ready():
            data = self.channel.read()
            if not data:
                break
            self.backlog.extend(self.frames.feed(data))
        self.cancelled.update(call for kind, call, _, _ in self.backlog if kind == frames.CANCEL)

    @property
    def aside(self) -> Any:
        """The event loop beside the main loop, made when the first coroutine arrives."""
        if self._aside is None:
            from hybrid_compute.links.coroutines import Aside

            self._aside = Aside(self)
        return self._aside


def _define(body: bytes) -> Function:
    """The function a DEFINE frame describes; one that raises the reason when it cannot be had."""
    kind, how, what, path = pickle.loads(body)
    try:
        if how == "value":
            return Function(pickle.loads(what), kind)
        return Function(_find(what, path), kind)
    except BaseException as error:
        return Function(partial(_raise, error), "function")


def _find(reference: tuple[str, str], path: list[str]) -> Callable[..., Any]:
    module, qualname = reference
    sys.path[:] = path
    try:
        found: Any = importlib.import_module(module)
    except ModuleNotFoundError:
        site.main()  # workers start without it; editable installs may need its path hooks
        found = importlib.import_module(module)
    for part in qualname.split("."):
        found = getattr(found, part)
    return getattr(found, "fn", found) if type(found).__name__ == "Task" else found  # type: ignore[no-any-return]


def _raise(error: BaseException, *_args: Any, **_kwargs: Any) -> None:
    raise CannotCross(f"the function cannot be loaded in the worker: {type(error).__name__}: {error}") from error


def _reseed() -> None:
    """Forked siblings must not draw the same numbers. `random` reseeds itself; numpy's global generator does not."""
    random = sys.modules.get("numpy.random")
    if random is not None:
        random.seed()
