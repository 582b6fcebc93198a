"""The template: a small single-threaded process that forks workers on request.

Started once, by exec, it imports what workers need and then does nothing but fork, reap and report. A worker so made
starts in about a millisecond, shares the template's memory, and inherits none of the user's threads or locks.

    parent --control socket-->  set-up, then FORK number + the worker's three descriptors
    parent <--control socket--  FORKED number, pid + a pidfd;  EXITED number, wait status

Nobody survives the parent. The template leaves when its control socket closes; and the read end of the `life` pipe,
whose only write end the parent holds, is set to send SIGIO to this whole process group when that end closes, however
the parent died and however busy a worker is.
"""

from __future__ import annotations

import fcntl
import gc
import importlib
import mmap
import os
import pickle
import select
import signal
import socket
import struct
import sys
import traceback
from typing import Any

FORK = struct.Struct("<II")  # worker number, ledger slot
REPORT = struct.Struct("<BIi")  # what, worker number, pid or wait status
FORKED, EXITED = 1, 2

LEDGER_SLOTS = 1024
SLOT_SIZE = 64

FDS_OF_A_WORKER = 3  # calls to read, replies to write, control socket


def main(control_fd: int) -> None:
    """The template's whole life. It runs in a process of its own, which `pipe.py` starts."""
    with socket.socket(fileno=control_fd) as control:
        message, fds, _, _ = socket.recv_fds(control, 1 << 20, 2, socket.MSG_CMSG_CLOEXEC)
        if message:
            setup = pickle.loads(message)
            _serve(control, _set_up(setup, *fds), setup["segments"])


def _serve(control: socket.socket, ledger: mmap.mmap, segments: int) -> None:
    """Fork, reap and report until the parent has gone."""
    wakeup, alarm = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
    signal.set_wakeup_fd(alarm)
    signal.signal(signal.SIGCHLD, _wake)
    _freeze()
    watch = select.poll()
    watch.register(control, select.POLLIN)
    watch.register(wakeup, select.POLLIN)
    workers: dict[int, int] = {}
    while True:
        ready = {fd for fd, _ in watch.poll()}
        if control.fileno() in ready:
            request, fds, _, _ = socket.recv_fds(control, 64, FDS_OF_A_WORKER, socket.MSG_CMSG_CLOEXEC)
            if not request:
                break
            number, slot = FORK.unpack(request)
            pid = os.fork()
            if pid == 0:
                words = memoryview(ledger)[slot * SLOT_SIZE : (slot + 1) * SLOT_SIZE]
                _become_worker(number, words, segments, fds, (control.fileno(), wakeup, alarm))
            workers[pid] = number
            _report_fork(control, number, pid, fds)
        if wakeup in ready:
            os.read(wakeup, 4096)
            _reap(control, workers)
    for pid in workers:
        os.kill(pid, signal.SIGKILL)


def _set_up(setup: dict[str, Any], ledger_fd: int, life_fd: int) -> mmap.mmap:
    sys.path[:] = setup["path"]
    sys.prefix, sys.exec_prefix = setup["prefix"], setup["exec_prefix"]
    signal.signal(signal.SIGIO, signal.SIG_DFL)  # whatever the parent thinks of signals
    signal.pthread_sigmask(signal.SIG_SETMASK, [])
    fcntl.fcntl(life_fd, fcntl.F_SETOWN, -os.getpgrp())
    fcntl.fcntl(life_fd, fcntl.F_SETFL, os.O_ASYNC)
    for stream in (sys.stdout, sys.stderr):
        if stream is not None:
            stream.reconfigure(line_buffering=True)  # type: ignore[union-attr]  # what a killed worker printed is out
    for name in setup["preload"]:
        try:
            importlib.import_module(name)
        except Exception:
            # Not fatal: the worker that needs the module will fail with the same reason, where a call can carry it.
            if name in setup["wanted"]:
                traceback.print_exc()
    ledger = mmap.mmap(ledger_fd, LEDGER_SLOTS * SLOT_SIZE)
    os.close(ledger_fd)
    return ledger


def _freeze() -> None:
    """Move all objects out of the collector's sight, so that collecting in a worker copies no shared page."""
    # Imported here, once, for all workers: their main loop, and what modules with tasks in them will ask for.
    importlib.import_module("hybrid_compute.tasks")
    from hybrid_compute.links import child as child

    gc.collect()
    gc.freeze()


def _become_worker(number: int, words: memoryview, segments: int, fds: list[int], ours: tuple[int, ...]) -> None:
    from hybrid_compute.links import child

    code = 1
    try:
        signal.set_wakeup_fd(-1)
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)
        for fd in ours:
            os.close(fd)
        child.main(number, words, segments, *fds)
        code = 0
    except SystemExit as leaving:
        code = leaving.code if isinstance(leaving.code, int) else 1
    except BrokenPipeError:  # the parent has gone: there is nobody left to tell
        pass
    except BaseException:
        traceback.print_exc()
    finally:
        os._exit(code)


def _report_fork(control: socket.socket, number: int, pid: int, fds: list[int]) -> None:
    # The worker's ends are closed here at once, or its siblings would hold them and its death would go unseen.
    for fd in fds:
        os.close(fd)
    pidfd = os.pidfd_open(pid)
    _send(control, REPORT.pack(FORKED, number, pid), [pidfd])
    os.close(pidfd)


def _reap(control: socket.socket, workers: dict[int, int]) -> None:
    while workers:
        pid, status = os.waitpid(-1, os.WNOHANG)
        if pid == 0:
            return
        _send(control, REPORT.pack(EXITED, workers.pop(pid), status), [])


def _send(control: socket.socket, message: bytes, fds: list[int]) -> None:
    try:
        socket.send_fds(control, [message], fds)
    except OSError:  # the parent is gone: the closed control socket ends the main loop next
        return


def _wake(_signal: int, _frame: object) -> None:
    """SIGCHLD needs a Python handler for the wake-up descriptor to be written."""
