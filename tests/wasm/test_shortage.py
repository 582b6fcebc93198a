"""The system is short of something: no guest is blamed for that, and what was taken meanwhile is given back."""

import errno
import os
import sys

import pytest

from hybrid_compute.errors import BackendUnavailable
from hybrid_compute.wasm import Trap, WasmModule, mappings
from tests.wasm.outside import ran

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="the limits of other systems are others")

GROWING = WasmModule.from_wat("""
    (module (memory (export "memory") 1)
      (func $grow (export "grow") (result i32) (memory.grow (i32.const 1)))
      (func (export "insist") (if (i32.eq (call $grow) (i32.const -1)) (then unreachable)))
      (func (export "fail") unreachable))
""")


def test_no_addresses() -> None:
    """In a process of its own, which gets few; when there are some again, all is as before."""
    assert ran("""
        import resource
        from hybrid_compute.errors import BackendUnavailable
        from tests.wasm.test_shortage import GROWING

        first = GROWING.open()  # all that is made but once
        taken = int(open("/proc/self/statm").read().split()[0]) * resource.getpagesize()
        resource.setrlimit(resource.RLIMIT_AS, (taken + (1 << 30), resource.RLIM_INFINITY))
        for attempt in (GROWING.open, GROWING.task("grow")) * 2:
            try: attempt()
            except BackendUnavailable as error: print(error)
        resource.setrlimit(resource.RLIMIT_AS, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
        print(first["grow"](), GROWING.task("grow")())
    """) == (
        "no 4 GiB of addresses (not of memory) for a sandbox: Cannot allocate memory; see `ulimit -v`\n" * 4 + "1 1\n",
        "",
        0,
    )


def test_no_open_files() -> None:
    assert ran("""
        import os, resource
        from hybrid_compute.errors import BackendUnavailable
        from tests.wasm.test_shortage import GROWING

        def addresses():
            return int(open("/proc/self/statm").read().split()[0]) * resource.getpagesize() >> 30

        GROWING.open(shared=True).close()
        before, (_, most) = addresses(), resource.getrlimit(resource.RLIMIT_NOFILE)
        free = os.open("/", os.O_RDONLY)  # the lowest number that is free, and so are all beyond
        os.close(free)
        resource.setrlimit(resource.RLIMIT_NOFILE, (free, most))
        for _ in range(5):
            try: GROWING.open(shared=True)
            except BackendUnavailable as error: print(error)
        resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
        print(addresses() <= before, GROWING.open(shared=True)["grow"]())
    """) == (
        "no shared memory for a sandbox: [Errno 24] Too many open files; see `ulimit -n`\n" * 5 + "True 1\n",
        "",
        0,
    )


def test_no_memory_for_one_that_grows(monkeypatch: pytest.MonkeyPatch) -> None:
    """It may go on without; if it cannot, that is no trap of its own. One that fails for itself is told so."""
    with GROWING.open() as instance:
        with monkeypatch.context() as short:
            short.setattr(mappings, "protect", lambda base, size, usable: False)
            short.setattr("hybrid_compute.wasm.memories.reason", lambda: os.strerror(errno.ENOMEM))
            assert instance["grow"]() == -1
            with pytest.raises(
                BackendUnavailable, match=r"gives a sandbox of 64 KiB no 128 KiB: Cannot allocate memory$"
            ) as caught:
                instance["insist"]()
        assert caught.value.started
    with GROWING.open() as instance:
        assert instance["grow"]() == 1
        with pytest.raises(Trap, match="UNREACHABLE"):
            instance["fail"]()


def test_no_memory_for_one_that_begins(monkeypatch: pytest.MonkeyPatch) -> None:
    """The block that could not be made ready is not lost: its addresses are the system's again."""
    released: list[int] = []
    release = mappings.release

    def counted(base: int, size: int) -> None:
        released.append(base)
        release(base, size)

    monkeypatch.setattr(mappings, "release", counted)
    protect = mappings.protect
    refused: list[int] = []

    def refuse(base: int, size: int, *, usable: bool) -> bool:
        if usable:
            refused.append(base)
            return False
        return protect(base, size, usable=usable)

    with monkeypatch.context() as short:
        short.setattr(mappings, "protect", refuse)
        with pytest.raises(BackendUnavailable, match="the system gives a sandbox no 5 MiB"):
            WasmModule.from_wat('(module (memory 80) (func (export "f")))').open()
    (base,), (at,) = released, refused
    assert base <= at < base + (5 << 20)
