"""The system is short of something: no guest is blamed for that, and what was taken meanwhile is given back."""

import errno
import os
import sys
from collections.abc import Generator
from contextlib import contextmanager

import pytest

from hybrid_compute.errors import BackendUnavailable, LimitExceeded
from hybrid_compute.wasm import Limits, Trap, WasmModule, mappings, slots
from tests.wasm.outside import ran

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="the limits of other systems are others")

GROWING = WasmModule.from_wat("""
    (module (memory (export "memory") 1)
      (func $grow (export "grow") (result i32) (memory.grow (i32.const 1)))
      (func (export "insist") (if (i32.eq (call $grow) (i32.const -1)) (then unreachable)))
      (func (export "divide") (param $grow i32) (param $by i32) (result i32)
        (if (local.get $grow) (then (drop (call $grow))))
        (i32.div_u (i32.const 6) (local.get $by))))
""")


def test_no_addresses() -> None:
    """In a process of its own, which gets few; when there are some again, all is as before."""
    assert ran("""
        import resource
        from hybrid_compute.errors import BackendUnavailable, LimitExceeded
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
        from hybrid_compute.errors import BackendUnavailable, LimitExceeded
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


@contextmanager
def shortage(monkeypatch: pytest.MonkeyPatch) -> Generator[None]:
    """The system gives no memory in this block."""
    with monkeypatch.context() as short:
        short.setattr(mappings, "protect", lambda base, size, usable: False)
        short.setattr("hybrid_compute.wasm.memories.reason", lambda: os.strerror(errno.ENOMEM))
        yield


def test_no_memory_for_one_that_grows(monkeypatch: pytest.MonkeyPatch) -> None:
    """It may go on without; if it cannot, that is no trap of its own."""
    with GROWING.open() as instance, shortage(monkeypatch):
        assert instance["grow"]() == -1
        with pytest.raises(
            BackendUnavailable,
            match=r"has failed, and before that the system gives a sandbox of 64 KiB no 128 KiB: Can",
        ) as caught:
            instance["insist"]()
        assert caught.value.started
        assert isinstance(caught.value.__cause__, Trap)


def test_what_the_system_had_not_may_be_had_later(monkeypatch: pytest.MonkeyPatch) -> None:
    """It was not counted as what the guest has. Who asks again and again is stopped all the same."""
    with GROWING.open(limits=Limits(memory=2 << 16)) as instance:
        with shortage(monkeypatch):
            for _ in range(10):
                assert instance["grow"]() == -1
        assert instance["grow"]() == 1
        with shortage(monkeypatch), pytest.raises(LimitExceeded, match="again and again"):
            for _ in range(slots.PATIENCE):
                instance["grow"]()


@pytest.mark.parametrize("short_of", ["the limit", "the system"])
@pytest.mark.parametrize("how", ["instance", "kept"])
def test_what_was_denied_once_is_not_held_against_a_later_call(
    monkeypatch: pytest.MonkeyPatch, how: str, short_of: str
) -> None:
    """Of the same guest: it asked for too much, did without, and failed later of something else."""
    limits = Limits(memory=1 << 16 if short_of == "the limit" else 2 << 16)
    instance = GROWING.open(limits=limits)
    divide = instance["divide"] if how == "instance" else GROWING.task("divide", limits=limits, reuse=True)
    assert divide(0, 2) == 3
    if short_of == "the limit":
        assert divide(1, 2) == 3
    else:
        with shortage(monkeypatch):
            assert divide(1, 2) == 3
    with pytest.raises(Trap, match="INTEGER_DIVISION_BY_ZERO"):
        divide(0, 0)
    instance.close()


def test_no_memory_for_a_snapshot_that_comes_back(monkeypatch: pytest.MonkeyPatch) -> None:
    """The instance is as it was, and goes on."""
    with GROWING.open() as instance, GROWING.open() as other:
        instance["grow"]()
        other.view(0, 1)[0] = 7
        with shortage(monkeypatch), pytest.raises(BackendUnavailable, match="the system gives a sandbox of 64 KiB no"):
            other.restore(instance.snapshot())
        assert other.view(0, 1)[0] == 7
        assert other["grow"]() == 1


def test_a_snapshot_that_does_not_fit_changes_nothing() -> None:
    """Not the first memory either, where it is the second that cannot be so large."""
    two = WasmModule.from_wat("""
        (module (memory (export "memory") 1) (memory $other 1)
          (func (export "grow") (result i32) (memory.grow $other (i32.const 20))))
    """)
    with two.open() as large, two.open(limits=Limits(memory=1 << 20)) as small:
        large["grow"]()
        large.view(0, 1)[0] = 1
        small.view(0, 1)[0] = 7
        with pytest.raises(LimitExceeded, match="cannot hold the snapshot"):
            small.restore(large.snapshot())
        assert small.view(0, 1)[0] == 7


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
