"""The cache of compiled code: found again, private, and never believed."""

import errno
import gc
import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import wasmtime

from hybrid_compute.errors import InvalidInput
from hybrid_compute.wasm import Limits, WasmModule, program, task
from hybrid_compute.wasm import cache as cache_module
from hybrid_compute.wasm.cache import Cache, compiled, folder

NAME = "a" * 64


@pytest.fixture
def cache(tmp_path: Path) -> Cache:
    return Cache(tmp_path / "cache")


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A cache of its own for what the test compiles."""
    monkeypatch.setenv("HYBRID_COMPUTE_CACHE", str(tmp_path / "home"))
    cache_module.cache.cache_clear()
    yield tmp_path / "home" / "wasm"
    cache_module.cache.cache_clear()


def module(number: int) -> WasmModule:
    return WasmModule.from_wat(f'(module (func (export "run") (result i32) (i32.const {number})))')


def compilations(monkeypatch: pytest.MonkeyPatch) -> list[bytes]:
    """What wasmtime compiles from now on."""
    done: list[bytes] = []
    compile = wasmtime.Module

    class Counted(compile):  # type: ignore[misc, valid-type]
        def __init__(self, engine: Any, source: bytes) -> None:
            done.append(source)
            super().__init__(engine, source)

    monkeypatch.setattr(program.wasmtime, "Module", Counted)
    return done


# Files.


def test_what_is_stored_is_found(cache: Cache) -> None:
    path = cache.store(NAME, b"code")
    assert cache.find(NAME) == path
    assert path.read_bytes() == b"code"
    assert cache.find("b" * 64) is None
    assert Cache(cache.folder).find(NAME) == path  # by the next process too


def test_a_touched_file_is_read_again_and_believed(cache: Cache) -> None:
    """Its digest is still right, so the next look is quick again."""
    path = cache.store(NAME, b"code")
    os.utime(path, (1, 1))
    assert cache.find(NAME) == path
    assert json.loads((cache.folder / f"{NAME}.note").read_bytes())["state"][2] == 10**9


@pytest.mark.parametrize("keep_time", [False, True], ids=["", "with its old times"])
def test_a_damaged_file_is_discarded(cache: Cache, keep_time: bool) -> None:
    path = cache.store(NAME, b"code of mine")
    seen = path.stat()
    path.write_bytes(b"code of ours")
    if keep_time:
        os.utime(path, ns=(seen.st_atime_ns, seen.st_mtime_ns))
    assert cache.find(NAME) is None
    assert not path.exists()


def test_a_file_from_elsewhere_is_discarded(cache: Cache, tmp_path: Path) -> None:
    """With its note, which is right, and signed with another key."""
    other = Cache(tmp_path / "other")
    theirs = other.store(NAME, b"code of theirs")
    for path in (theirs, theirs.with_name(f"{NAME}.note")):
        path.rename(cache.folder / path.name)
    assert cache.find(NAME) is None
    assert not (cache.folder / NAME).exists()


@pytest.mark.parametrize("note", [b"", b"{}", b"[]", b"null", b'{"digest": 1}', b"\xff", b"[" * 200_000])
def test_a_damaged_note_is_discarded(cache: Cache, note: bytes) -> None:
    cache.store(NAME, b"code")
    (cache.folder / f"{NAME}.note").write_bytes(note)
    assert cache.find(NAME) is None
    assert not (cache.folder / NAME).exists()


@pytest.mark.skipif(sys.platform == "win32", reason="has no such modes")
@pytest.mark.parametrize("suffix", ["", ".note"])
def test_a_folder_in_the_place_of_a_file_is_removed(cache: Cache, suffix: str) -> None:
    cache.store(NAME, b"code")
    wrong = cache.folder / f"{NAME}{suffix}"
    wrong.unlink()
    (wrong / "more").mkdir(parents=True)
    assert cache.find(NAME) is None
    path = cache.store(NAME, b"code")
    assert cache.find(NAME) == path


@pytest.mark.parametrize("moved", [False, True])
def test_a_folder_that_cannot_be_written_to_serves(cache: Cache, monkeypatch: pytest.MonkeyPatch, moved: bool) -> None:
    """As that of an image which was prepared: also if the system says something else of its files than it did."""
    path = cache.store(NAME, b"code")
    damaged = cache.store("b" * 64, b"code")
    damaged.write_bytes(b"other")
    if moved:
        os.utime(path, (1, 1))

    def refused(*_: object, **__: object) -> None:
        raise OSError(errno.EROFS, "Read-only file system")

    for place, name in ((os, "utime"), (os, "unlink"), (Path, "unlink"), (cache_module.tempfile, "mkstemp")):
        monkeypatch.setattr(place, name, refused)
    assert Cache(cache.folder).find(NAME) == path
    assert cache.find("b" * 64) is None
    assert compiled("digest", "profile", lambda: b"code", cache) == b"code"


def test_what_others_could_write_is_not_believed(cache: Cache, tmp_path: Path) -> None:
    """A file, the folder, the key, or a link to somewhere else."""
    cache.store(NAME, b"code").chmod(0o666)
    assert cache.find(NAME) is None
    path = cache.store(NAME, b"code")
    path.rename(tmp_path / "moved")
    path.symlink_to(tmp_path / "moved")
    assert cache.find(NAME) is None
    (cache.folder / "key").chmod(0o622)
    with pytest.raises(PermissionError, match="could be written by others"):
        Cache(cache.folder)
    (tmp_path / "open").mkdir()
    (tmp_path / "open").chmod(0o777)
    with pytest.raises(PermissionError, match="compiled code there is not to be trusted"):
        Cache(tmp_path / "open")


@pytest.mark.skipif(sys.platform == "win32", reason="has no such modes")
def test_nobody_else_can_read_it(cache: Cache) -> None:
    cache.store(NAME, b"code")
    assert {oct(path.stat().st_mode & 0o777) for path in cache.folder.iterdir()} == {"0o600"}
    assert cache.folder.stat().st_mode & 0o777 == 0o700


def test_what_was_not_used_for_longest_makes_room(tmp_path: Path) -> None:
    """What was found lately stays, and so does what is newest, however large it is."""
    cache = Cache(tmp_path / "small", most=30)
    for number, name in enumerate("abc"):
        cache.store(name, bytes(10))
        os.utime(cache.folder / f"{name}.note", (number, number))
    cache.find("a")
    cache.store("d", bytes(10))
    assert [name for name in "abcd" if cache.find(name)] == ["a", "c", "d"]
    cache.store("e", bytes(100))
    assert [name for name in "abcde" if cache.find(name)] == ["e"]


def test_a_file_whose_writer_was_killed_goes(cache: Cache) -> None:
    """In the middle of it, or before it wrote the note; one that is being written stays."""
    for name, age in ((".new-dead", 7200), (".new-busy", 60), ("d" * 64, 7200), ("e" * 64, 60)):
        path = cache.folder / name
        path.write_bytes(b"half")
        os.utime(path, (time.time() - age,) * 2)
    cache.store(NAME, b"code")
    assert sorted(path.name for path in cache.folder.iterdir()) == [
        ".new-busy",
        NAME,
        f"{NAME}.note",
        "e" * 64,
        "key",
    ]


def test_only_so_many_digests_are_remembered(cache: Cache, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cache_module, "MOST_SEEN", 2)
    read: list[str] = []

    for name in "abc":
        (tmp_path / name).touch()
    for name in "abcbca":
        assert cache.digest_of(tmp_path / name, lambda name=name: read.append(name) or name) == name
        for note in cache.folder.glob("*.seen"):  # so that each is older than the next, however coarse the clock is
            os.utime(note, ns=(0, note.stat().st_mtime_ns - 10**9))
    assert read == ["a", "b", "c", "a"]


def test_a_full_disk_is_no_failure(cache: Cache, monkeypatch: pytest.MonkeyPatch) -> None:
    """The code is used as it is; half of a file is never left."""

    def full(*_: Any) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "replace", full)
    assert compiled("digest", "profile", lambda: b"code", cache) == b"code"
    assert [path.name for path in cache.folder.iterdir()] == ["key"]


def test_the_folder_is_where_the_system_has_such_things(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("HYBRID_COMPUTE_CACHE", str(tmp_path))
    assert folder() == tmp_path
    monkeypatch.delenv("HYBRID_COMPUTE_CACHE")
    if sys.platform == "linux":
        monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "x"))
        assert folder() == tmp_path / "x" / "hybrid-compute"


# Modules.


def test_a_module_is_compiled_once_in_a_process(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """However many tasks, limits and copies of it there are."""
    done = compilations(monkeypatch)
    first, second = module(11).task("run"), module(11).task("run", limits=Limits(time=1.0))
    assert [first(), second()] == [11, 11]
    assert len(done) == 1


def test_another_way_of_compiling_is_another_file(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    done = compilations(monkeypatch)
    for options in ({}, {"deterministic": True}, {"limits": Limits(fuel=1000)}, {"limits": Limits(stack=1 << 20)}):
        assert module(12).task("run", **options)() == 12
    assert len(done) == 4
    assert len(list(home.glob("*.note"))) == 4


@pytest.mark.parametrize("part", range(4), ids=["wasmtime", "machine", "system", "processor"])
def test_code_for_another_version_or_processor_is_another_file(
    home: Path, monkeypatch: pytest.MonkeyPatch, part: int
) -> None:
    """What was compiled for those is never run, though it is there."""
    done = compilations(monkeypatch)
    here = cache_module.machine()
    compiled = []
    for there in (here, (*here[:part], "another", *here[part + 1 :]), here):
        monkeypatch.setattr(cache_module, "machine", lambda there=there: there)
        assert module(30 + part).task("run")() == 30 + part
        gc.collect()  # while there is a task of it, the process knows the code
        compiled.append(len(done))
    assert compiled == [1, 2, 2]
    assert len(list(home.glob("*.note"))) == 2


def test_the_next_process_compiles_nothing(home: Path) -> None:
    """It finds the code of this one."""
    source = 'from tests.wasm.test_cache import *; print(module(13).task("run")())'
    refusing = "import wasmtime; wasmtime.Module.__init__ = None; " + source
    for text in (source, refusing):
        done = subprocess.run(
            [sys.executable, "-c", text], check=False, capture_output=True, text=True, timeout=60,
            env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
        )  # fmt: skip
        assert (done.stdout, done.stderr) == ("13\n", "")


def test_a_file_whose_code_is_known_is_not_read(home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A look at what the system says of it is enough; once it has changed, it is read again."""
    path = tmp_path / "plugin.wasm"
    path.write_bytes(module(21).source.data)
    assert task(path, "run")() == 21
    with monkeypatch.context() as patched:
        patched.setattr(Path, "read_bytes", _not_of(path))
        assert task(path, "run")() == 21
    path.write_bytes(module(22).source.data)
    assert task(path, "run")() == 22
    for note in home.glob("*.seen"):
        note.write_bytes(note.read_bytes().replace(b'"digest": "', b'"digest": "0'))
    assert task(path, "run")() == 22


def test_a_file_that_changes_under_a_module_is_told(home: Path, tmp_path: Path) -> None:
    """What is compiled is what the digest is of: else a cache would give the code of another module."""
    path = tmp_path / "plugin.wasm"
    path.write_bytes(module(23).source.data)
    assert task(path, "run")() == 23
    known = WasmModule.from_file(path)
    assert known.source.digest
    path.write_bytes(module(24).source.data)
    with pytest.raises(InvalidInput, match=r"plugin\.wasm has changed since it became this module"):
        known.task("run", deterministic=True)()
    assert task(path, "run", deterministic=True)() == 24


def _not_of(path: Path) -> Any:
    """`Path.read_bytes`, but not of this one."""
    read = Path.read_bytes

    def refusing(self: Path) -> bytes:
        assert self != path
        return read(self)

    return refusing


def test_code_that_is_none_is_compiled_anew(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What this user has stored is no code of this wasmtime: as after an update that kept its version."""
    kept = cache_module.cache()
    assert kept is not None
    store = kept.store
    monkeypatch.setattr(kept, "store", lambda name, data: store(name, b"no code"))
    assert module(14).task("run")() == 14
    monkeypatch.undo()
    monkeypatch.setenv("HYBRID_COMPUTE_CACHE", str(home.parent))
    assert [path.read_bytes() for path in home.glob("?" * 64)] == []
    assert module(14).task("run")() == 14


@pytest.mark.skipif(sys.platform == "win32", reason="has no such modes")
def test_without_a_cache_everything_works(home: Path) -> None:
    """With one warning."""
    home.mkdir(parents=True)
    home.chmod(0o777)
    with pytest.warns(UserWarning, match="is not cached, so each process compiles anew: .* could be written by others"):
        assert module(15).task("run")() == 15
    assert module(16).task("run")() == 16
    assert list(home.iterdir()) == []


@pytest.mark.parametrize("code", [errno.EMFILE, errno.EIO])
def test_what_cannot_be_read_just_now_is_kept(cache: Cache, monkeypatch: pytest.MonkeyPatch, code: int) -> None:
    """It is good for the next: a program that is short of descriptors throws nothing away."""
    path = cache.store(NAME, b"code")

    def failing(self: Path, *_: Any) -> bytes:
        raise OSError(code, os.strerror(code))

    with monkeypatch.context() as patched:
        patched.setattr(Path, "lstat", failing)
        assert cache.find(NAME) is None
    assert cache.find(NAME) == path
