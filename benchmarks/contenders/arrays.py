"""A 64 MiB array to one worker and back: as it is, and doubled into a new array there."""

from __future__ import annotations

import multiprocessing
import os
import pickle
import signal
import socket
from collections.abc import Callable, Generator
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from multiprocessing import resource_tracker
from multiprocessing.shared_memory import SharedMemory
from typing import Any, TypeAlias

from benchmarks.harness import Group
from benchmarks.lazy import hc, joblib, loky, numpy
from benchmarks.measure import Effort, Figures, Series, time_calls
from benchmarks.tasks import echo, times_two

group = Group("arrays", "A 64 MiB float32 array, one worker")

Call: TypeAlias = Callable[[Callable[[Any], Any], Any], Any]

SHAPE = (16 << 20,)
ECHO, DOUBLED = "there and back", "times two"


def _source() -> Any:
    return numpy.arange(SHAPE[0], dtype=numpy.float32)


def _figures(call: Call, array: Any, effort: Effort) -> Figures:
    """Time `call(fn, array)` for both measures. The look at the answers first is the warm-up, too."""
    return {
        ECHO: _time(call, echo, array, array, effort),
        DOUBLED: _time(call, times_two, array, array * 2, effort),
    }


def _time(call: Call, fn: Callable[[Any], Any], array: Any, expected: Any, effort: Effort) -> Series:
    # A wrong transport is often a quick one.
    if not numpy.array_equal(call(fn, array), expected):
        raise ValueError("the array came back changed")
    return time_calls(lambda: call(fn, array), effort, unit="ms", warm=True)


@group.limit("memcpy there, memcpy back", ECHO)
def memcpy(effort: Effort) -> Figures:
    array, there, back = _source(), _source(), _source()

    def copy() -> None:
        numpy.copyto(there, array)
        numpy.copyto(back, there)

    return {ECHO: time_calls(copy, effort, unit="ms")}


@group.limit("array * 2 in this process", DOUBLED)
def in_process(effort: Effort) -> Figures:
    array = _source()
    return {DOUBLED: time_calls(lambda: times_two(array), effort, unit="ms")}


@group.ours("BlockingRuntime.run", ECHO, DOUBLED)
def blocking_runtime(effort: Effort) -> Figures:
    with hc.BlockingRuntime([hc.WorkerBackend(size=1)]) as rt:
        worker = rt.options(strategy="worker")
        return _figures(worker.run, _source(), effort)


@group.ours("BlockingRuntime.run, array in the arena", ECHO, DOUBLED)
def in_the_arena(effort: Effort) -> Figures:
    backend = hc.WorkerBackend(size=1)
    with hc.BlockingRuntime([backend]) as rt:
        worker = rt.options(strategy="worker")
        array = backend.empty(SHAPE, numpy.float32)
        array[:] = _source()
        return _figures(worker.run, array, effort)


@group.peer("ProcessPoolExecutor (fork)", ECHO, DOUBLED)
def process_pool(effort: Effort) -> Figures:
    with ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("fork")) as pool:
        return _figures(lambda fn, array: pool.submit(fn, array).result(), _source(), effort)


@group.peer("multiprocessing.Pool (fork)", ECHO, DOUBLED, slow=True)
def multiprocessing_pool(effort: Effort) -> Figures:
    with multiprocessing.get_context("fork").Pool(1) as pool:
        return _figures(lambda fn, array: pool.apply(fn, (array,)), _source(), effort)


@group.peer("loky", ECHO, DOUBLED, slow=True)
def loky_executor(effort: Effort) -> Figures:
    with loky.get_reusable_executor(max_workers=1) as pool:
        return _figures(lambda fn, array: pool.submit(fn, array).result(), _source(), effort)


@group.peer("joblib (2 workers)", ECHO, DOUBLED, slow=True)
def joblib_parallel(effort: Effort) -> Figures:
    with joblib.Parallel(n_jobs=2) as parallel:
        return _figures(lambda fn, array: parallel([joblib.delayed(fn)(array)])[0], _source(), effort)


@group.peer("new SharedMemory for each message", ECHO, DOUBLED)
def new_shared_memory(effort: Effort) -> Figures:
    """The common recipe: copy into a new block, send its name, copy out, unlink."""
    resource_tracker.ensure_running()  # before the fork, so that both sides have the same one
    with _forked_with_socket(_serve_blocks) as connection:

        def call(fn: Callable[[Any], Any], array: Any) -> Any:
            connection.send(pickle.dumps((fn, _into_new_block(array))))
            return _out_of_block(pickle.loads(connection.recv(4096)))

        return _figures(call, _source(), effort)


@group.peer("pickle 5 out of band over a socketpair", ECHO, DOUBLED)
def out_of_band(effort: Effort) -> Figures:
    with _forked_with_socket(_serve_frames) as connection:

        def call(fn: Callable[[Any], Any], array: Any) -> Any:
            _send_frame(connection, (fn, array))
            return _receive_frame(connection)

        return _figures(call, _source(), effort)


@contextmanager
def _forked_with_socket(serve: Callable[[socket.socket], None]) -> Generator[socket.socket, None, None]:
    here, there = socket.socketpair()
    for end in (here, there):
        for buffer in (socket.SO_SNDBUF, socket.SO_RCVBUF):
            end.setsockopt(socket.SOL_SOCKET, buffer, 4 << 20)
    child = os.fork()
    if child == 0:
        try:
            here.close()
            serve(there)
        finally:
            os._exit(0)
    there.close()
    try:
        with here:
            yield here
    finally:
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)


Block: TypeAlias = tuple[str, tuple[int, ...], str]


def _serve_blocks(connection: socket.socket) -> None:
    while asked := connection.recv(4096):
        fn, block = pickle.loads(asked)
        connection.send(pickle.dumps(_into_new_block(fn(_out_of_block(block)))))


def _into_new_block(array: Any) -> Block:
    memory = SharedMemory(create=True, size=array.nbytes)
    numpy.copyto(numpy.ndarray(array.shape, array.dtype, memory.buf), array)
    memory.close()
    return memory.name, array.shape, array.dtype.str


def _out_of_block(block: Block) -> Any:
    name, shape, dtype = block
    memory = SharedMemory(name)
    array = numpy.ndarray(shape, dtype, memory.buf).copy()
    memory.close()
    memory.unlink()
    return array


def _serve_frames(connection: socket.socket) -> None:
    while True:
        fn, array = _receive_frame(connection)
        _send_frame(connection, fn(array))


def _send_frame(connection: socket.socket, value: Any) -> None:
    buffers: list[pickle.PickleBuffer] = []
    head = pickle.dumps(value, protocol=5, buffer_callback=buffers.append)
    parts = [memoryview(head), *(buffer.raw() for buffer in buffers)]
    sizes = pickle.dumps([part.nbytes for part in parts])
    connection.sendall(len(sizes).to_bytes(4, "little") + sizes)
    for part in parts:
        connection.sendall(part)


def _receive_frame(connection: socket.socket) -> Any:
    sizes = pickle.loads(_receive(connection, int.from_bytes(_receive(connection, 4), "little")))
    head, *buffers = [_receive(connection, size) for size in sizes]
    return pickle.loads(head, buffers=buffers)


def _receive(connection: socket.socket, size: int) -> memoryview:
    # numpy.empty, because a bytearray would be filled with zeros first.
    view = memoryview(numpy.empty(size, numpy.uint8))
    got = 0
    while got < size:
        more = connection.recv_into(view[got:])
        if not more:
            raise EOFError("the other side hung up")
        got += more
    return view
