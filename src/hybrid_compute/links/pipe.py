"""A link over two private pipes, and the template that forks the workers behind it. Linux.

Nothing waits for anything here. A worker's pipes exist before the worker does, so its first call may be written at
once; the template reports the process when it is there, and its exit status when it has gone.
"""

from __future__ import annotations

import asyncio
import contextlib
import mmap
import os
import pickle
import select
import signal
import socket
import struct
import subprocess
import sys
import weakref
from collections import deque
from collections.abc import Callable, Iterable
from contextlib import ExitStack
from pathlib import Path

from hybrid_compute.errors import BackendUnavailable
from hybrid_compute.links.arena import Arena, NoMemory, Segment, open_segment, share_of_descriptors
from hybrid_compute.links.child import CANCELS, STAGE, STARTED, STEP
from hybrid_compute.links.frames import READ_SIZE
from hybrid_compute.links.link import Link
from hybrid_compute.links.loans import Loans
from hybrid_compute.links.template import EXITED, FORK, FORKED, LEDGER_SLOTS, REPORT, SLOT_SIZE

_SELECTABLE = 1024  # `select` knows no higher descriptors; nothing else waits for less than a millisecond

_ANNOUNCEMENT = struct.Struct("<QQ")

Received = Callable[[Link, bytes], None]
Exited = Callable[[Link, int | None], None]


class PipeLink(Link):
    """A worker behind two pipes: calls go out on one, replies come in on the other."""

    def __init__(
        self,
        nursery: PipeNursery,
        number: int,
        slot: int,
        fds: tuple[int, int],
        control: socket.socket,
        template: _Template,
    ) -> None:
        super().__init__(number)
        self.slot = slot
        self.calls, self.replies = fds
        self.control = control
        self.template = template
        self.pidfd = -1
        self.loans = Loans(nursery.arena, number, self._announce, self._fetch)
        self._pid: int | None = None
        self._nursery = nursery
        self.ledger = nursery.ledger[slot * SLOT_SIZE // 8 : (slot + 1) * SLOT_SIZE // 8]
        self.ledger[STARTED] = self.ledger[CANCELS] = self.ledger[STAGE] = self.ledger[STEP] = 0
        self._unsent: deque[memoryview] = deque()
        self._received: Received | None = None
        self._doomed = False
        self._closed = False

    @property
    def started(self) -> int:
        return int(self.ledger[STARTED])

    @property
    def pid(self) -> int | None:
        return self._pid

    def watch(self, received: Received) -> None:
        self._received = received
        self.watched = True
        # The pipe is blocking, and read once for each time the loop finds it readable: the same descriptor then
        # serves callers who wait for their reply in `read` itself.
        self._nursery.loop.add_reader(self.replies, self._readable)

    def unwatch(self) -> None:
        self.watched = False
        self._nursery.loop.remove_reader(self.replies)

    def wait(self, seconds: float) -> None:
        if self.replies < _SELECTABLE and select.select((self.replies,), (), (), seconds)[0]:
            self._readable()

    def hold(self, seconds: float) -> None:
        if self._closed:
            return
        watch = select.poll()
        watch.register(self.replies, select.POLLIN)
        if watch.poll(min(seconds, 3600.0) * 1000):
            self._readable()

    def drain(self) -> None:
        if self._received is None:  # nothing was ever asked of it
            return
        watch = select.poll()
        while not self._closed:
            watch.register(self.replies, select.POLLIN)
            if not watch.poll(0) or not self._readable():
                return

    def ignore(self) -> None:
        super().ignore()
        self.unwatch()
        self._received = None

    def send(self, data: bytes) -> None:
        if self._unsent:
            self._unsent.append(memoryview(data))
            return
        try:
            written = os.write(self.calls, data)
        except BlockingIOError:
            written = 0
        except BrokenPipeError:  # it died: the reply pipe says so too, and there it is dealt with
            return
        if written < len(data):
            self._unsent.append(memoryview(data)[written:])
            self._nursery.loop.add_writer(self.calls, self._writable)

    def ring(self) -> None:
        self.ledger[CANCELS] += 1

    def kill(self) -> None:
        self._doomed = True
        if self.pidfd >= 0:
            with contextlib.suppress(ProcessLookupError):
                signal.pidfd_send_signal(self.pidfd, signal.SIGKILL)

    def close(self) -> None:
        if self._closed:
            return
        self._closed = True
        if not self._nursery.loop.is_closed():
            self._nursery.loop.remove_reader(self.replies)
            self._nursery.loop.remove_writer(self.calls)
        self.close_fds()

    def close_fds(self) -> None:
        if self.calls >= 0:
            os.close(self.calls)
            os.close(self.replies)
            self.calls = self.replies = -1
            self.control.close()

    def hung_up(self, seconds: float) -> bool:
        """Whether nobody holds the other end any more; wait so long for it."""
        if self._closed:
            return True
        watch = select.poll()
        watch.register(self.replies, 0)
        return bool(watch.poll(seconds * 1000))

    def forked(self, pid: int, pidfd: int) -> None:
        """The template has made the process."""
        self._pid, self.pidfd = pid, pidfd
        if self._doomed:
            self.kill()

    def _readable(self) -> bool:
        assert self._received is not None
        data = os.read(self.replies, READ_SIZE)
        if not data:
            self._nursery.loop.remove_reader(self.replies)
            self.kill()  # it may have closed its end and live on, but nothing that it does can be told
        self._received(self, data)
        return bool(data)

    def _writable(self) -> None:
        try:
            while self._unsent:
                written = os.write(self.calls, self._unsent[0])
                if written < len(self._unsent[0]):
                    self._unsent[0] = self._unsent[0][written:]
                else:
                    self._unsent.popleft()
        except BlockingIOError:
            return
        except BrokenPipeError:
            self._unsent.clear()
        self._nursery.loop.remove_writer(self.calls)

    def _announce(self, segment: Segment) -> None:
        try:
            socket.send_fds(self.control, [_ANNOUNCEMENT.pack(segment.key, segment.size)], [segment.fd])
        except OSError as error:  # it is busy and has been shown much, it has died, or whoever made the segment has
            raise NoMemory(f"the worker does not take in shared memory: {error}") from error

    def _fetch(self, key: int) -> Segment:  # segments arrive in the order announced
        try:
            message, fds, _, _ = socket.recv_fds(self.control, _ANNOUNCEMENT.size, 1, socket.MSG_CMSG_CLOEXEC)
        except BlockingIOError:
            raise NoMemory("it came when this process had too many open files, and is lost: see `ulimit -n`") from None
        key, size = _ANNOUNCEMENT.unpack(message)
        return open_segment(key, size, fds)


class PipeNursery:
    """Makes workers by way of one template process, which starts with the first of them.

    If the template dies, workers live on without it, and the next one is made by a new template.
    """

    def __init__(
        self, loop: asyncio.AbstractEventLoop, arena: Arena, exited: Exited, preload: Iterable[str], size: int
    ) -> None:
        self.loop = loop
        self.arena = arena
        self._exited = exited
        self._preload = list(preload)
        self._segments = share_of_descriptors(size)
        self._links: dict[int, PipeLink] = {}
        self._slots = list(range(LEDGER_SLOTS))
        self._template: _Template | None = None
        self._templates: set[_Template] = set()  # those that died as well, while they have workers
        self._ledger_fd = os.memfd_create("hybrid-compute-ledger", os.MFD_CLOEXEC)
        os.ftruncate(self._ledger_fd, LEDGER_SLOTS * SLOT_SIZE)
        self.ledger = memoryview(mmap.mmap(self._ledger_fd, LEDGER_SLOTS * SLOT_SIZE)).cast("Q")

    def start(self, number: int) -> PipeLink:
        """A new worker. Returns at once; the process follows. Raises `BackendUnavailable`."""
        if not self._slots:
            raise BackendUnavailable(f"a pool can have {LEDGER_SLOTS} workers at most")
        try:
            try:
                return self._start(number)
            except (BrokenPipeError, ConnectionResetError):  # the template has just died; its end is yet to be read
                self._template = None
                return self._start(number)
        except OSError as error:
            raise BackendUnavailable(f"a worker process could not be started: {error}") from error

    def _start(self, number: int) -> PipeLink:
        if self._template is None:
            self._template = _Template(self, self._ledger_fd, self._preload, self._segments)
            self._templates.add(self._template)
        with ExitStack() as theirs, ExitStack() as ours:  # ours are closed only if something fails
            calls_out, calls_in = _pipe(theirs, ours)
            replies_out, replies_in = _pipe(ours, theirs)
            control, their_control = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
            ours.enter_context(control)
            theirs.enter_context(their_control)
            os.set_blocking(calls_in, False)
            control.setblocking(False)
            slot = self._slots[-1]
            link = PipeLink(self, number, slot, (calls_in, replies_out), control, self._template)
            self._template.fork(number, slot, [calls_out, replies_in, their_control.fileno()])
            ours.pop_all()
        self._slots.pop()
        self._links[number] = link
        return link

    @property
    def template_pid(self) -> int | None:
        return self._template.process.pid if self._template else None

    def forked(self, number: int, pid: int, pidfd: int) -> None:
        link = self._links.get(number)
        if link is None:
            os.close(pidfd)
        else:
            link.forked(pid, pidfd)

    def gone(self, number: int, status: int | None) -> None:
        """A worker's exit has been reported, or can no longer be."""
        link = self._links.pop(number, None)
        if link is None:
            return
        # A thread that leased it may look up later what it had begun, when its slot is another worker's.
        link.ledger = memoryview(bytes(link.ledger)).cast("Q")
        try:
            self._exited(link, None if status is None else os.waitstatus_to_exitcode(status))
        finally:
            if link.pidfd >= 0:
                os.close(link.pidfd)
                link.pidfd = -1
            self._slots.append(link.slot)
            if link.template.lost:
                self._let_go(link.template)

    def template_lost(self, template: _Template) -> None:
        """Its workers can no longer be waited for: each is watched through its pidfd from here on."""
        if self._template is template:
            self._template = None
        orphans = self._workers_of(template)
        unknown = [link for link in orphans if link.pidfd < 0]
        if not all(link.hung_up(0) for link in unknown):
            # It forked a worker and died before it could say so. That one may run a call that will soon be given to
            # another, and only the whole family can be reached.
            template.end_family()
        for link in orphans:
            if link.pidfd >= 0:
                self.loop.add_reader(link.pidfd, self._orphan_gone, link)
        for link in unknown:
            link.hung_up(1.0)
            self.gone(link.number, None)
        self._let_go(template)

    def _workers_of(self, template: _Template) -> list[PipeLink]:
        return [link for link in self._links.values() if link.template is template]

    def _let_go(self, template: _Template) -> None:
        if not self._workers_of(template):
            template.end_family()
            self._templates.discard(template)

    def _orphan_gone(self, link: PipeLink) -> None:
        self.loop.remove_reader(link.pidfd)
        self.gone(link.number, None)

    def close(self) -> None:
        """Stop whatever is left, at once."""
        for link in list(self._links.values()):
            if link.pidfd >= 0:
                if not self.loop.is_closed():
                    self.loop.remove_reader(link.pidfd)
                link.kill()
            link.close()
            self.gone(link.number, None)
        for template in self._templates:
            template.close()
        self._templates.clear()
        self._template = None
        if self._ledger_fd >= 0:
            os.close(self._ledger_fd)
            self._ledger_fd = -1

    def abandon(self) -> None:
        """In a forked copy of this process: close all descriptors, which belong to the original."""
        for link in self._links.values():
            link.close_fds()
            if link.pidfd >= 0:
                os.close(link.pidfd)
        for template in self._templates:
            template.close_fds()
        if self._ledger_fd >= 0:
            os.close(self._ledger_fd)
            self._ledger_fd = -1


class _Template:
    """The parent's handle on the template process."""

    def __init__(self, nursery: PipeNursery, ledger_fd: int, preload: list[str], segments: int) -> None:
        self.lost = False
        self._nursery = nursery
        with ExitStack() as theirs, ExitStack() as ours:  # ours are closed only if something fails
            self._control, their_control = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
            ours.enter_context(self._control)
            theirs.enter_context(their_control)
            life, self._life = _pipe(theirs, ours)
            self.process = _start_template(their_control.fileno())
            self._stop = weakref.finalize(self, _kill, self.process)
            ours.callback(self._stop)
            setup = {
                "path": [entry or os.getcwd() for entry in sys.path],
                "prefix": sys.prefix,
                "exec_prefix": sys.exec_prefix,
                "segments": segments,
                "wanted": preload,
                "preload": [*preload, *(name for name in ("numpy",) if name in sys.modules)],
            }
            socket.send_fds(self._control, [pickle.dumps(setup)], [ledger_fd, life])
            ours.pop_all()
        self._control.setblocking(False)
        nursery.loop.add_reader(self._control, self._readable)

    def fork(self, number: int, slot: int, fds: list[int]) -> None:
        socket.send_fds(self._control, [FORK.pack(number, slot)], fds)

    def close(self) -> None:
        """Stop it, and whatever is left of its workers."""
        if not self.lost and not self._nursery.loop.is_closed():
            self._nursery.loop.remove_reader(self._control)
        self.close_fds()
        self._stop()

    def end_family(self) -> None:
        """Have the system kill all its workers that are left."""
        if self._life >= 0:
            os.close(self._life)
            self._life = -1

    def close_fds(self) -> None:
        self._control.close()
        self.end_family()

    def _readable(self) -> None:
        try:
            message, fds, _, _ = socket.recv_fds(self._control, 4096, 1, socket.MSG_CMSG_CLOEXEC)
        except (BlockingIOError, ConnectionResetError):  # reset: it died with requests unread; its last reports follow
            return
        if not message:
            self._nursery.loop.remove_reader(self._control)
            self._control.close()
            self._stop()
            self.lost = True
            self._nursery.template_lost(self)
            return
        what, number, value = REPORT.unpack_from(message)
        if what == FORKED:
            self._nursery.forked(number, value, fds[0])
        elif what == EXITED:
            self._nursery.gone(number, value)


def _start_template(control: int) -> subprocess.Popen[bytes]:
    root = str(Path(__file__).parents[2])
    program = f"import sys; sys.path.insert(0, {root!r}); from hybrid_compute.links import template as t; "
    program += f"t.main({control})"
    flags = subprocess._args_from_interpreter_flags()  # type: ignore[attr-defined]  # as multiprocessing does
    # Its own session: an interrupt typed at the terminal is for the user's program, not for its workers.
    return subprocess.Popen(
        [sys.executable, *flags, "-S", "-c", program],
        stdin=subprocess.DEVNULL,
        pass_fds=[control],
        start_new_session=True,
        env=_environment(),
    )


def _pipe(reader: ExitStack, writer: ExitStack) -> tuple[int, int]:
    """A new pipe, its ends closed by whom they belong to."""
    ends = os.pipe2(os.O_CLOEXEC)
    for end, owner in zip(ends, (reader, writer), strict=True):
        owner.callback(os.close, end)
    return ends


def _kill(process: subprocess.Popen[bytes]) -> None:
    """It leaves by itself when its control socket closes; but never wait for a process that may hang."""
    process.kill()
    process.wait()


def _environment() -> dict[str, str]:
    """One thread per worker for numerical libraries, unless the user says otherwise: the workers are the threads."""
    threads = dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"), "1")
    return {**threads, **os.environ}
