"""What one call of WASI may take: of time, of descriptors, of what others would notice."""

import errno
import os
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from hybrid_compute.wasm import Wasi, WasmModule
from hybrid_compute.wasm.preview1 import beneath
from hybrid_compute.wasm.preview1.files import Allowance, Folder

pytestmark = pytest.mark.skipif(not beneath.possible, reason="this system does not open files in folders")
on_linux = pytest.mark.skipif(sys.platform != "linux", reason="descriptors are counted in /proc")


@pytest.fixture
def folder(tmp_path: Path) -> Iterator[Folder]:
    made = Folder(beneath.opened(tmp_path), Allowance("f", 1 << 20, "wrote more"), writable=True)
    yield made
    made.close()


def refused(folder: Folder, path: bytes) -> int | None:
    try:
        folder.look(path)
    except OSError as error:
        return error.errno
    return None


def test_a_path_has_as_many_bytes_as_the_system_allows(folder: Folder, tmp_path: Path) -> None:
    (tmp_path / "sub").mkdir()
    assert refused(folder, b"sub/../" * 585) is None
    assert refused(folder, b"sub/../" * 586) == errno.ENAMETOOLONG


def test_a_guest_is_told_of_a_path_that_is_too_long_before_it_is_read(tmp_path: Path) -> None:
    look = WasmModule.from_wat("""
        (module (import "wasi_snapshot_preview1" "path_filestat_get"
            (func $look (param i32 i32 i32 i32 i32) (result i32)))
          (memory (export "memory") 1)
          (func (export "look") (param i32) (result i32)
            (call $look (i32.const 3) (i32.const 0) (i32.const 0) (local.get 0) (i32.const 128))))
    """).task("look", wasi=Wasi(dirs={"/d": tmp_path}))
    assert look(1 << 30) == 37  # ENAMETOOLONG, although its memory has only 64 KiB


@on_linux
def test_a_deep_path_holds_few_descriptors(folder: Folder, tmp_path: Path) -> None:
    deep = tmp_path.joinpath(*["x"] * 200)
    deep.mkdir(parents=True)
    root = beneath.opened(tmp_path)
    before = len(os.listdir("/proc/self/fd"))
    with beneath.parent(root, b"x/" * 200) as (where, name):
        assert os.path.samestat(os.stat(name, dir_fd=where), deep.stat())
        assert len(os.listdir("/proc/self/fd")) - before < 20
    os.close(root)
    assert refused(folder, b"x/" * 200 + b"../" * 10) is None
    assert refused(folder, b"x/" * 200 + b"../" * 20) == errno.ENAMETOOLONG
    assert refused(folder, b"x/" * 12 + b"../" * 12) is None
    assert refused(folder, b"x/" * 12 + b"../" * 13) == errno.EPERM


def test_a_pipe_is_refused_before_it_is_opened(folder: Folder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Who waits at its other end would take us for the one he waits for."""
    os.mkfifo(tmp_path / "pipe")
    opened: list[object] = []
    original = os.open

    def recording(path: object, *args: object, **kwargs: object) -> int:
        opened.append(path)
        return original(path, *args, **kwargs)  # type: ignore[arg-type]

    monkeypatch.setattr(os, "open", recording)
    for writes in (False, True):
        with pytest.raises(PermissionError):
            folder.open(b"pipe", 0, reads=True, writes=writes, appends=False)
    assert opened == []


def test_only_those_entries_are_looked_at_that_are_asked_for(
    folder: Folder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for number in range(30):
        (tmp_path / f"{number:02}").touch()
    looked, original = list[object](), os.stat

    def recording(path: object, **kwargs: object) -> os.stat_result:
        looked.append(path)
        return original(path, **kwargs)  # type: ignore[arg-type]

    with monkeypatch.context() as patched:
        patched.setattr(os, "stat", recording)
        assert next(folder.list(0))[:2] == (0, b"00")
        assert next(folder.list(10))[:2] == (10, b"10")
    assert looked == ["00", "10"]
    (tmp_path / "0").touch()
    assert [name for _, name, _ in folder.list(28)] == [b"28", b"29"]  # the numbers are those of the last look
    assert next(folder.list(0))[:2] == (0, b"0")


def test_a_file_may_be_older_than_time(tmp_path: Path) -> None:
    """WASI counts from 1970 on: what was before is shown as of then."""
    (tmp_path / "old").touch()
    os.utime(tmp_path / "old", ns=(-(10**9), -(10**9)))
    look = WasmModule.from_wat("""
        (module (import "wasi_snapshot_preview1" "path_filestat_get"
            (func $look (param i32 i32 i32 i32 i32) (result i32)))
          (memory (export "memory") 1) (data (i32.const 0) "old")
          (func (export "changed") (result i64)
            (if (call $look (i32.const 3) (i32.const 0) (i32.const 0) (i32.const 3) (i32.const 128)) (then unreachable))
            (i64.load (i32.const 176))))
    """).task("changed", wasi=Wasi(dirs={"/d": tmp_path}))
    assert look() == 0
