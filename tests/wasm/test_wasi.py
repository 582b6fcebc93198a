"""WASI: a guest finds an operating system, and in it nothing but what it was granted."""

import asyncio
import errno
import os
import pickle
import re
import tempfile
import threading
import time
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hybrid_compute import Runtime, schema
from hybrid_compute.backends.wasm import WasmBackend
from hybrid_compute.errors import InvalidInput, LimitExceeded
from hybrid_compute.wasm import Limits, Output, Trap, Wasi, WasmModule
from hybrid_compute.wasm.preview1 import beneath, file_functions, process_functions
from hybrid_compute.wasm.preview1 import files as file_objects

TOOL = WasmModule.from_file(Path(__file__).parent / "programs" / "tool.wasm")


def said(*args: str, stdin: bytes = b"", **options: Any) -> str:
    """What the program prints, and how it ends if it fails."""
    output = TOOL.program(**options)(list(args), stdin)
    code = f" ({output.exit_code})" if output.exit_code else ""
    return output.stdout.decode().rstrip("\n") + code


@pytest.fixture
def folders(tmp_path: Path) -> Wasi:
    """One folder to read and one to write in, and a secret beside them."""
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "deep").mkdir()
    (tmp_path / "out").mkdir()
    (tmp_path / "data" / "a.txt").write_text("hello\n")
    (tmp_path / "data" / "deep" / "b.txt").write_text("deep\n")
    (tmp_path / "secret.txt").write_text("secret\n")
    return Wasi(dirs={"/data": tmp_path / "data"}, writable={"/out": tmp_path / "out"})


# Programs


def test_a_program_gets_arguments_and_stdin_and_gives_what_it_prints() -> None:
    """It is a task like any other, and its exit code is part of the result."""
    program = TOOL.program()
    assert program(["echo", "a", "b c"]) == Output(b"a\nb c\n", b"", 0)
    assert program(["cat"], b"x" * 100_000).stdout == b"x" * 100_000
    assert program() == Output(b"", b"usage: tool ACTION ...\n", 2)
    assert program(["exit", "7"]).exit_code == 7
    assert program.name == "tool"
    assert program.pure


async def test_a_program_runs_in_the_sandbox_of_a_runtime() -> None:
    """The backend takes it, by keyword too."""
    async with Runtime([WasmBackend(threads=1)]) as rt:
        assert (await rt.run(TOOL.program(), ["echo", "hi"])).stdout == b"hi\n"
        assert (await rt.run(TOOL.program(), args=["cat"], stdin=b"there")).stdout == b"there"


def test_a_program_can_be_called_from_outside_and_sent_elsewhere() -> None:
    """Its input and output have a schema, and it is pickled with its module."""
    program = TOOL.program(wasi=Wasi(env={"A": "b"}))
    args, kwargs = schema.bind_json(program, b'{"args": ["cat"], "stdin": "aGk="}')
    assert schema.encode_json(program(*args, **kwargs)) == b'{"stdout":"aGk=","stderr":"","exit_code":0}'
    assert pickle.loads(pickle.dumps(program.fn))(["env", "A"]).stdout == b"b\n"


@pytest.mark.parametrize("wrong", ["echo", [1], ["zero\0byte"]], ids=repr)
def test_arguments_must_be_texts(wrong: Any) -> None:
    """What a program cannot be given is refused before it begins."""
    with pytest.raises(InvalidInput, match="args must be a list of texts"):
        TOOL.program()(wrong)


def test_stdin_must_be_bytes() -> None:
    """A text has no encoding."""
    with pytest.raises(InvalidInput, match="stdin must be bytes, not str"):
        TOOL.program()(["cat"], "text")  # type: ignore[arg-type]


def test_a_module_that_is_no_program_says_so() -> None:
    """It has no `_start`."""
    module = WasmModule.from_wat('(module (func (export "add")))')
    with pytest.raises(InvalidInput, match="exports no function '_start'; it has add"):
        module.program().fn.prepare()  # type: ignore[attr-defined]


def test_nothing_is_there_that_was_not_granted() -> None:
    """No environment of ours, no arguments, no files."""
    assert said("env", "PATH") == "(none)"
    assert said("env", "LANG", wasi=Wasi(env={"LANG": "C=D"})) == "C=D"
    assert said("cat", "/etc/passwd") == "No such file or directory (1)"
    assert TOOL.program(wasi=Wasi(args=["echo", "first"]))(["then"]).stdout == b"first\nthen\n"


def test_what_a_failing_program_said_last_is_told() -> None:
    """A trap has no output, so the error shows the end of stderr."""
    with pytest.raises(Trap) as caught:
        TOOL.program()(["abort"])
    assert caught.value.code == "UNREACHABLE"
    assert "the last of its stderr:\nabout to give up" in caught.value.__notes__


def test_output_goes_elsewhere_if_the_task_says_so() -> None:
    """As it is printed, and then it is not in the result."""
    heard = bytearray()
    program = TOOL.program(wasi=Wasi(stdout=heard.extend))
    assert program(["echo", "hi"]) == Output(b"", b"", 0)
    assert heard == b"hi\n"
    assert not program.pure


def test_what_a_listener_raises_ends_the_program() -> None:
    """As with any function of the host."""

    def refuse(data: bytes) -> None:
        raise ConnectionError("nobody listens")

    with pytest.raises(ConnectionError, match="nobody listens"):
        TOOL.program(wasi=Wasi(stdout=refuse))(["echo", "hi"])


def test_output_has_a_limit() -> None:
    """Exactly that of the limits, for stdout and for files."""
    limits = Limits(output=100_000)
    assert len(said("cat", stdin=b"x" * 100_000, limits=limits)) == 100_000
    with pytest.raises(LimitExceeded, match=r"wrote more to stdout: its limit of output is 97.66 KiB"):
        TOOL.program(limits=limits)(["cat"], b"x" * 100_001)
    with pytest.raises(LimitExceeded, match="stdout"):
        TOOL.program()(["flood"])


# Time and chance


def test_a_deterministic_program_has_the_same_time_and_chance_each_time() -> None:
    """Nothing that differs from machine to machine is within its reach; sleeping takes no time."""
    program = TOOL.program(deterministic=True)
    assert program(["random"]) == program(["random"])
    assert program(["time"]).stdout == b"0\n"
    assert program(["sleep", "100000000"]).stdout == b"slept\n"
    assert said("time", deterministic=True, wasi=Wasi(clock=86_400.0)) == "86400"
    assert said("random", deterministic=True, wasi=Wasi(seed=1)) != program(["random"]).stdout.decode().strip()


def test_a_clock_and_a_seed_can_be_given_to_any_task() -> None:
    """One without the other, too."""
    assert said("time", wasi=Wasi(clock=5.0)) == "5"
    assert said("random", wasi=Wasi(seed=3)) == said("random", wasi=Wasi(seed=3))
    assert said("random") != said("random")
    assert abs(int(said("time")) - time.time()) < 60


def test_a_deterministic_task_refuses_what_is_not(tmp_path: Path) -> None:
    """It says what to leave out when it is defined."""
    for wasi in (Wasi(clock="real"), Wasi(seed="real")):
        with pytest.raises(ValueError, match="real clock or real chance"):
            TOOL.program(wasi=wasi, deterministic=True)
    with pytest.raises(ValueError, match="folders"):
        TOOL.program(wasi=Wasi(dirs={"/data": tmp_path}), deterministic=True)


def test_a_sleeping_program_is_stopped_at_its_time() -> None:
    """Time that is slept counts."""
    with pytest.raises(LimitExceeded, match=r"Limits\.time"):
        TOOL.program(limits=Limits(time=0.05))(["sleep", "3600000"])


async def test_a_sleeping_program_can_be_cancelled() -> None:
    """Nobody waits for it to wake up."""
    asleep = threading.Event()
    module = WasmModule.from_wat(
        """(module
            (import "env" "asleep" (func $asleep))
            (import "wasi_snapshot_preview1" "poll_oneoff" (func $poll (param i32 i32 i32 i32) (result i32)))
            (memory (export "memory") 1)
            (data (i32.const 24) "\\00\\80\\c6\\a4\\7e\\8d\\03\\00")
            (func (export "_start")
                (call $asleep)
                (drop (call $poll (i32.const 0) (i32.const 64) (i32.const 1) (i32.const 128)))))"""
    )  # for 10**15 nanoseconds, which is eleven days

    def tell() -> None:
        asleep.set()

    async with Runtime([WasmBackend(threads=1)]) as rt:
        call = asyncio.ensure_future(rt.run(module.program(grants={"asleep": tell})))
        await asyncio.to_thread(asleep.wait)
        call.cancel()
        with pytest.raises(asyncio.CancelledError):
            await call
        assert (await rt.run(TOOL.program(), ["echo", "next"])).stdout == b"next\n"


# Files

needs_folders = pytest.mark.skipif(not beneath.possible, reason="this system cannot keep a path beneath a folder")


@needs_folders
def test_a_granted_folder_can_be_read_and_not_written(folders: Wasi) -> None:
    """Each way of writing is refused."""
    assert said("cat", "/data/a.txt", wasi=folders) == "hello"
    assert said("cat", "/data/deep/../deep/./b.txt", wasi=folders) == "deep"
    assert said("ls", "/data", wasi=folders) == "a.txt\ndeep"
    assert said("stat", "/data/a.txt", wasi=folders) == "file of 6 bytes"
    assert (
        said("stat", "/data/deep", wasi=folders)
        == "folder of " + str(os.stat(folders.dirs["/data"] / Path("deep")).st_size) + " bytes"
    )
    before = sorted(os.listdir(folders.dirs["/data"]))
    for refused in (
        ["write", "/data/new", "x"],
        ["write", "/data/a.txt", "x"],
        ["append", "/data/a.txt", "x"],
        ["truncate", "/data/a.txt", "0"],
        ["remove", "/data/a.txt"],
        ["mkdir", "/data/new"],
        ["rename", "/data/a.txt", "/data/new"],
        ["rename", "/data/a.txt", "/out/new"],
    ):
        assert said(*refused, wasi=folders) == "Read-only file system (1)", refused
    assert sorted(os.listdir(folders.dirs["/data"])) == before
    assert (folders.dirs["/data"] / Path("a.txt")).read_text() == "hello\n"


@needs_folders
def test_a_writable_folder_can_be_written(folders: Wasi) -> None:
    """And what is written stays."""
    out = Path(folders.writable["/out"])
    assert said("write", "/out/new", "one", wasi=folders) == ""
    assert said("append", "/out/new", "two", wasi=folders) == ""
    assert (out / "new").read_text() == "onetwo"
    assert said("truncate", "/out/new", "3", wasi=folders) == ""
    assert said("mkdir", "/out/deep", wasi=folders) == ""
    assert said("rename", "/out/new", "/out/deep/moved", wasi=folders) == ""
    assert (out / "deep" / "moved").read_text() == "one"
    assert said("remove", "/out/deep", wasi=folders) == "Directory not empty (1)"
    assert said("remove", "/out/deep/moved", wasi=folders) == ""
    assert said("remove", "/out/deep", wasi=folders) == ""
    assert os.listdir(out) == []
    assert not TOOL.program(wasi=folders).pure


@needs_folders
@pytest.mark.parametrize(
    "path",
    ["/data/../secret.txt", "/data/deep/../../secret.txt", "/data/../data/../secret.txt", "/secret.txt", "/data/link",
     "/data/linked/a.txt", "/data/loop", "/data/deep/../linked/../secret.txt"],
)  # fmt: skip
@pytest.mark.parametrize("action", ["cat", "stat", "ls", "write", "remove", "mkdir"])
def test_no_path_leads_out_of_a_folder(folders: Wasi, path: str, action: str, tmp_path: Path) -> None:
    """Neither by `..`, nor by an absolute path, nor by a link that is there already."""
    data = tmp_path / "data"
    (data / "link").symlink_to(tmp_path / "secret.txt")
    (data / "linked").symlink_to(data)
    (data / "loop").symlink_to(data / "loop")
    everything = Wasi(writable={"/data": data})
    answer = said(action, path, "changed", wasi=everything)
    assert "secret" not in answer
    if action in ("stat", "remove") and path in ("/data/link", "/data/loop"):
        return  # about the link itself, which is in the folder
    assert answer.endswith("(1)")
    assert (tmp_path / "secret.txt").read_text() == "secret\n"
    assert sorted(os.listdir(tmp_path)) == ["data", "out", "secret.txt"]


@needs_folders
def test_no_link_can_be_made(folders: Wasi) -> None:
    """Others might follow it later."""
    assert said("symlink", "/etc/passwd", "/out/link", wasi=folders) == "Not supported (1)"
    assert os.listdir(folders.writable["/out"]) == []


@needs_folders
def test_pipes_and_devices_are_not_opened(folders: Wasi, tmp_path: Path) -> None:
    """A program that waits for the other end of a pipe could not be stopped."""
    os.mkfifo(tmp_path / "out" / "pipe")
    for action in ("cat", "write", "append"):
        assert said(action, "/out/pipe", "x", wasi=folders).endswith("(1)")


@needs_folders
def test_what_is_written_to_files_has_a_limit(folders: Wasi, tmp_path: Path) -> None:
    """Also what is made by `truncate`, and the room that many small files take."""
    small = {"wasi": folders, "limits": Limits(output=100_000)}
    for args in (["fill", "/out/big"], ["truncate", "/out/big", "1000000000000"]):
        with pytest.raises(LimitExceeded, match=r"wrote more to files: its limit of output"):
            TOOL.program(**small)(args)
    assert (tmp_path / "out" / "big").stat().st_size <= 100_000
    for args in (["mkdir", "/out/new"], ["write", "/out/new", ""]):
        with pytest.raises(LimitExceeded, match="files"):
            TOOL.program(wasi=folders, limits=Limits(output=4095))(args)
    assert os.listdir(tmp_path / "out") == ["big"]


@needs_folders
def test_a_gap_in_a_file_counts_as_written(tmp_path: Path) -> None:
    """A file of a terabyte of zeros takes no room here, and all there is wherever it is copied."""
    path = tmp_path / "file"
    for at, sought in ((1 << 40, 0), (None, 1 << 40)):
        allowance = file_objects.Allowance("the guest", 100, "wrote more to files")
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT)
        file = file_objects.HostFile(descriptor, allowance, reads=True, writes=True, appends=False)
        file.seek(sought, os.SEEK_SET)
        with pytest.raises(LimitExceeded, match="wrote more to files: its limit of output is 100 bytes"):
            file.write(b"x", at)
        assert file.write(b"y" * 10, 50) == 10
        assert allowance.used <= 60
        file.close()
    assert path.stat().st_size == 60


@needs_folders
def test_only_so_many_files_are_open_at_once(folders: Wasi) -> None:
    """And all of them are closed at the end."""
    before = len(os.listdir("/proc/self/fd")) if os.path.exists("/proc/self/fd") else 0
    assert re.fullmatch(r"\d+: No file descriptors available \(1\)", said("many", "/data/a.txt", wasi=folders))
    assert not before or len(os.listdir("/proc/self/fd")) == before


def test_a_folder_that_is_not_there_is_named(tmp_path: Path) -> None:
    """At the call, for it may come."""
    with pytest.raises(FileNotFoundError, match="nowhere"):
        TOOL.program(wasi=Wasi(dirs={"/data": tmp_path / "nowhere"}))(["ls", "/data"])


@needs_folders
@given(
    st.lists(st.sampled_from(["..", ".", "", "a", "b", "link", "up", "a/..", "b/../..", "file"]), max_size=6).map(
        "/".join
    )
)
def test_a_path_is_beneath_its_folder_or_refused(path: str) -> None:
    """A path is refused, or leads where it does if `..` takes back the part before it, and no part is a link."""
    root, stack = _tree(), list[str]()
    named = "."
    for part in path.split("/"):
        if part == "..":
            stack, named = stack[:-1], "."
        elif part not in ("", "."):
            stack, named = [*stack, part], part
    descriptor = beneath.opened(root)
    try:
        with beneath.parent(descriptor, path.encode()) as (folder, name):
            where = os.path.join(root, *(stack if named == "." else stack[:-1]))
            assert name == named.encode()
            assert os.path.samestat(os.fstat(folder), os.lstat(where))
            assert os.path.realpath(where) == where
        refused = None
    except OSError as error:
        refused = error.errno
    finally:
        os.close(descriptor)
    assert refused in (None, errno.EPERM, errno.EINVAL, errno.ENOENT, errno.ENOTDIR, errno.ELOOP)


_made: list[str] = []


def _tree() -> str:
    """A folder with links that lead out of it, made once."""
    if not _made:
        root = os.path.realpath(tempfile.mkdtemp())
        os.makedirs(os.path.join(root, "a", "b"))
        os.mkdir(os.path.join(root, "b"))
        Path(root, "file").touch()
        os.symlink("/etc", os.path.join(root, "link"))
        os.symlink("..", os.path.join(root, "a", "up"))
        _made.append(root)
    return _made[0]


# Functions


def test_a_function_may_have_wasi_too() -> None:
    """What it prints goes where the task says; `_initialize` has run before."""
    heard: list[bytes] = []
    module = WasmModule.from_wat(
        """(module
            (import "wasi_snapshot_preview1" "fd_write" (func $write (param i32 i32 i32 i32) (result i32)))
            (memory (export "memory") 1)
            (data (i32.const 0) "\\08\\00\\00\\00\\03\\00\\00\\00abc")
            (global $ready (mut i32) (i32.const 0))
            (func (export "_initialize") (global.set $ready (i32.const 40)))
            (func (export "speak") (result i32)
                (drop (call $write (i32.const 1) (i32.const 0) (i32.const 1) (i32.const 64)))
                (i32.add (global.get $ready) (i32.load (i32.const 64)))))"""
    )
    speak = module.task("speak", wasi=Wasi(stdout=heard.append))
    assert speak() == 43
    assert heard == [b"abc"]
    assert not speak.pure
    kept = module.task("speak", wasi=Wasi(), reuse=True, limits=Limits(output=5))
    assert [kept(), kept(), kept()] == [43, 43, 43]  # the limit is that of a call
    with pytest.raises(LimitExceeded, match="stdout"):
        module.task("speak", wasi=Wasi(), limits=Limits(output=2))()


def test_wasi_is_off_by_default() -> None:
    """A module that wants it is told how to get it."""
    with pytest.raises(InvalidInput, match=r"expects an operating system: wasi=Wasi\(\) gives it one"):
        calling("random_get").fn.prepare()


def test_a_function_that_exits_is_a_trap() -> None:
    """There is no result, and the code is told."""
    module = WasmModule.from_wat(
        """(module (import "wasi_snapshot_preview1" "proc_exit" (func $exit (param i32)))
            (func (export "leave") (call $exit (i32.const 3))))"""
    )
    with pytest.raises(Trap, match="leave ended itself, with exit code 3"):
        module.task("leave", wasi=Wasi())()


EVERYTHING = process_functions.FUNCTIONS | file_functions.FUNCTIONS


def calling(name: str, **options: Any) -> Any:
    """A task that calls one function of WASI with the numbers it is given."""
    types, result = EVERYTHING[name][0], "" if name == "proc_exit" else "(result i32)"
    parameters = f"(param {' '.join('i64' if each == 'I' else 'i32' for each in types)})"
    given = " ".join(f"(local.get {index})" for index in range(len(types)))
    module = WasmModule.from_wat(
        f"""(module (import "wasi_snapshot_preview1" "{name}" (func $call {parameters} {result}))
            (memory (export "memory") 1) (func (export "call") {parameters} {result} (call $call {given})))"""
    )
    return module.task("call", **options)


@pytest.mark.parametrize("name", [name for name in EVERYTHING if name.startswith("sock_")])
def test_there_is_no_network(name: str) -> None:
    """Each of its functions fails."""
    task = calling(name, wasi=Wasi())
    for descriptor in (0, 1, 3):
        assert task(descriptor, *[0] * (len(EVERYTHING[name][0]) - 1)) == 58  # not supported


def test_what_is_not_of_preview_1_is_refused() -> None:
    """Such as the sockets of other runtimes, and the WASI before the first."""
    for space, name in (("wasi_snapshot_preview1", "sock_open"), ("wasi_unstable", "fd_write")):
        module = WasmModule.from_wat(f'(module (import "{space}" "{name}" (func)) (func (export "f")))')
        with pytest.raises(InvalidInput, match="not of WASI preview 1"):
            module.task("f", wasi=Wasi())()


hostile = st.one_of(st.integers(0, 8), st.sampled_from([2**31, 2**32 - 1, 2**32 - 4, 65_532, 65_536, 1 << 20]))


@pytest.fixture(scope="module")
def tasks() -> dict[str, Any]:
    """A task for each function of WASI, which calls it with the numbers that it is given."""
    wasi = Wasi(dirs={"/": _tree()} if beneath.possible else {}, clock=0.0, seed=0)
    return {name: calling(name, wasi=wasi, limits=Limits(time=5.0)) for name in sorted(EVERYTHING)}


@given(data=st.data())
def test_no_numbers_that_a_guest_gives_harm_anybody(data: st.DataObject, tasks: dict[str, Any]) -> None:
    """Each function ends, with a number or a trap, and nothing else comes out of it."""
    name = data.draw(st.sampled_from(sorted(tasks)))
    numbers = [data.draw(hostile) for _ in EVERYTHING[name][0]]
    try:
        assert tasks[name](*numbers) in range(77)
    except Trap:
        pass


@pytest.mark.parametrize(
    ("wrong", "reason"),
    [
        ({"args": "text"}, "a list of arguments"),
        ({"env": {"A": "b\0"}}, "zero byte"),
        ({"dirs": {"": "/"}}, "needs a name"),
        ({"dirs": {"/a": "/"}, "writable": {"/a": "/"}}, "choose one"),
    ],
)
def test_what_cannot_be_granted_is_said_at_once(wrong: dict[str, Any], reason: str) -> None:
    """When it is written down, not at the first call."""
    with pytest.raises((TypeError, ValueError), match=reason):
        Wasi(**wrong)
