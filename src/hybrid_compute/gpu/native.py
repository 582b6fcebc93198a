"""The functions of wgpu-native that are called for each dispatch, without the checks and objects of wgpu-py.

Setting up (devices, shaders, pipelines) goes through wgpu-py. What happens thousands of times a second goes through
here: a dispatch costs 1 µs this way, and 3.5 µs through the classes. All of it is called by the thread that owns the
device. What goes wrong in them is raised at the end of a block of `raising`.
"""

# wgpu-py has no types, and what is used here it keeps to itself.
# pyright: reportPrivateUsage=false, reportUnknownMemberType=false
from __future__ import annotations

import ctypes
import importlib
import os
from collections.abc import Callable, Generator, Iterable, Sequence
from contextlib import contextmanager
from typing import Any

import wgpu

_native: Any = importlib.import_module("wgpu.backends.wgpu_native")  # whose types are those of C
_classes: Any = importlib.import_module("wgpu._classes")
lib, ffi = _native.lib, _native.ffi
NULL: Any = ffi.NULL
_ENCODER: Any = ffi.new("WGPUCommandEncoderDescriptor *")
_PASS: Any = ffi.new("WGPUComputePassDescriptor *")
_NO_LAYOUT: Any = ffi.new("WGPUBindGroupLayoutDescriptor *")
_FINISH: Any = ffi.new("WGPUCommandBufferDescriptor *")

READ, WRITE = 1, 2
"""Modes in which a buffer is mapped."""

copy: Callable[..., None] = lib.wgpuCommandEncoderCopyBufferToBuffer
clear: Callable[..., None] = lib.wgpuCommandEncoderClearBuffer
set_pipeline: Callable[..., None] = lib.wgpuComputePassEncoderSetPipeline
set_group: Callable[..., None] = lib.wgpuComputePassEncoderSetBindGroup
dispatch: Callable[..., None] = lib.wgpuComputePassEncoderDispatchWorkgroups
unmap: Callable[[Any], None] = lib.wgpuBufferUnmap
release_group: Callable[[Any], None] = lib.wgpuBindGroupRelease


@contextmanager
def raising() -> Generator[None]:
    """What a call in this block has complained of is raised at its end, as `wgpu.GPUError`."""
    handler = _native._api.error_handler
    handler.capture("hybrid_compute")
    try:
        yield
    finally:
        told = handler.release("hybrid_compute")
    if told is not None:
        kind, message = told
        raise wgpu.GPUOutOfMemoryError(message) if kind == "OutOfMemory" else wgpu.GPUValidationError(message)


def poll(device: Any, submission: Any = NULL) -> None:
    """Do what is due on a device, and wait until a submission is done, or all. The interpreter lock is free."""
    lib.wgpuDevicePoll(device, True, submission)


def encoder(device: Any) -> Any:
    return lib.wgpuDeviceCreateCommandEncoder(device, _ENCODER)


def begin_pass(encoder: Any) -> Any:
    return lib.wgpuCommandEncoderBeginComputePass(encoder, _PASS)


def end_pass(compute_pass: Any) -> None:
    lib.wgpuComputePassEncoderEnd(compute_pass)
    lib.wgpuComputePassEncoderRelease(compute_pass)


def finish(encoder: Any) -> Any:
    """The list of commands that was encoded. Raises `wgpu.GPUError` for faults in it."""
    commands = NULL
    try:
        with raising():
            commands = lib.wgpuCommandEncoderFinish(encoder, _FINISH)
            lib.wgpuCommandEncoderRelease(encoder)
    except wgpu.GPUError:
        lib.wgpuCommandBufferRelease(commands)
        raise
    return commands


def submit(queue: Any, commands: Any) -> Any:
    """Give commands to the gpu, and get what `poll` waits for. They must be free of faults.

    For others wgpu-native ends the process.
    """
    number = lib.wgpuQueueSubmitForIndex(queue, 1, ffi.new("WGPUCommandBuffer[1]", [commands]))
    lib.wgpuCommandBufferRelease(commands)
    return ffi.new("WGPUSubmissionIndex *", number)


def bind_group(device: Any, layout: Any, entries: Sequence[tuple[int, Any, int, int]]) -> Any:
    """A bind group of buffers: number, buffer, offset and size in bytes of each."""
    made = ffi.new("WGPUBindGroupEntry[]", len(entries))
    for place, (number, buffer, offset, size) in zip(made, entries, strict=True):
        place.binding, place.buffer, place.offset, place.size = number, buffer, offset, size
    described = ffi.new("WGPUBindGroupDescriptor *")
    described.layout, described.entryCount, described.entries = layout, len(entries), made
    return lib.wgpuDeviceCreateBindGroup(device, described)


def check_alive(device: Any) -> None:
    """Raises `wgpu.GPUError` if the device is lost. It is asked for a layout of nothing, which takes 3 µs."""
    with raising():
        layout = lib.wgpuDeviceCreateBindGroupLayout(device, _NO_LAYOUT)
    lib.wgpuBindGroupLayoutRelease(layout)


def mapped(device: Any, buffer: Any, size: int) -> memoryview:
    """The bytes of a buffer of the device that is mapped. They may not be touched after `unmap`.

    Raises `wgpu.GPUError` if the device was lost since: wgpu-native would end the process.
    """
    check_alive(device)
    address = int(ffi.cast("intptr_t", lib.wgpuBufferGetMappedRange(buffer, 0, size)))
    return memoryview((ctypes.c_uint8 * size).from_address(address)).cast("B")


class Mappings:
    """Buffers that are being mapped: to ask for them all, then wait once."""

    def __init__(self) -> None:
        self._waiting: set[int] = set()
        self._failed: list[str] = []
        self._count = 0
        self._told = ffi.callback("void(WGPUMapAsyncStatus, WGPUStringView, void *, void *)", self._tell)
        self._info = ffi.new("WGPUBufferMapCallbackInfo *")
        self._info.mode = lib.WGPUCallbackMode_AllowProcessEvents
        self._info.callback = self._told

    def ask(self, buffer: Any, mode: int, size: int) -> int:
        """Have the first bytes of the buffer mapped when the gpu has done with it. A number to ask `are_done` for."""
        self._count += 1
        self._waiting.add(self._count)
        self._info.userdata1 = ffi.cast("void *", self._count)
        lib.wgpuBufferMapAsync(buffer, mode, 0, size, self._info[0])
        return self._count

    def are_done(self, asked: Iterable[int]) -> bool:
        """Whether all of them are mapped. Raises `RuntimeError` if one cannot be."""
        if self._failed:
            message, self._failed = "; ".join(self._failed), []
            raise RuntimeError(message)
        return self._waiting.isdisjoint(asked)

    def _tell(self, status: int, message: Any, number: Any, _: Any) -> None:
        self._waiting.discard(int(ffi.cast("intptr_t", number)))
        if status != lib.WGPUMapAsyncStatus_Success:
            text = ffi.string(message.data, message.length).decode(errors="replace") if message.data else ""
            self._failed.append(f"a buffer could not be mapped: {text or status}")


def _keep_what_there_is() -> None:
    """In a forked child the driver's threads are missing, and to release anything would wait for them for ever.

    The garbage collector would do so, with whatever the parent has left to it.
    """
    for kind in vars(_classes).values():
        if isinstance(kind, type) and "__del__" in vars(kind):
            setattr(kind, "__del__", _nothing)  # noqa: B010  # which the type checker does not know


def _nothing(_: Any) -> None:
    pass


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_keep_what_there_is)
