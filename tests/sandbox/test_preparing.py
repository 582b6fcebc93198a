"""The interpreter of sandboxes: where it is kept, when it is made anew, and what is said where it cannot be made."""

from __future__ import annotations

import os
import subprocess
import sys
import time
import tomllib
from pathlib import Path

import pytest

from hybrid_compute.cli import sandbox as command
from hybrid_compute.errors import BackendUnavailable
from hybrid_compute.sandbox import imports, prepare
from hybrid_compute.sandbox.interpreter import interpreter
from tests.cli.command import hybrid_compute

pytestmark = pytest.mark.timeout(180)


@pytest.fixture
def elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty cache, and no componentize-py."""
    monkeypatch.setenv("HYBRID_COMPUTE_CACHE", str(tmp_path))
    monkeypatch.setitem(sys.modules, "componentize_py", None)
    return tmp_path


def test_what_is_missing_is_named(elsewhere: Path) -> None:
    """With the extra to install."""
    assert not prepare.is_prepared()
    with pytest.raises(BackendUnavailable, match=r"pip install 'hybrid-compute\[sandbox\]'"):
        prepare.prepare()
    with pytest.raises(BackendUnavailable, match="made by componentize-py"):
        command.prepare(anew=False)


def test_the_steps_are_told(elsewhere: Path) -> None:
    """To whoever shows them; nothing is told that is not done."""
    told: list[str] = []
    with pytest.raises(BackendUnavailable):
        prepare.prepare(told.append)
    assert told == [prepare.STEPS[0]]


def test_a_failure_to_make_it_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """In the words of componentize-py, without the stack of its own code."""
    pytest.importorskip("componentize_py")
    monkeypatch.setenv("HYBRID_COMPUTE_CACHE", str(tmp_path))
    monkeypatch.setattr(prepare, "_ARGUMENTS", ("componentize", "no.such.module"))
    with pytest.raises(BackendUnavailable, match=r"componentize-py [\d.]+ could not make the interpreter") as caught:
        prepare.prepare()
    assert "backtrace" not in str(caught.value)


def test_what_runs_inside_is_all_that_decides(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Another source inside, another interpreter; another engine, other machine code of the same one."""
    before = prepare._name("component"), prepare._name("code")
    assert len(set(before)) == 2
    monkeypatch.setattr(prepare, "machine", lambda: ("another",))
    assert prepare._name("component") == before[0]
    assert prepare._name("code") != before[1]
    (tmp_path / "runner.py").write_text("pass")
    monkeypatch.setattr(prepare, "_GUEST", tmp_path)
    assert prepare._name("component") != before[0]


def test_little_of_our_environment_is_told_to_it(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """What it sees may end up in the interpreter."""
    monkeypatch.setenv("HYBRID_SECRET", "swordfish")
    assert "swordfish" not in str(prepare._environment(tmp_path))


def test_nothing_of_this_machine_is_in_it(prepared: None) -> None:
    """Neither a path nor a name: the interpreter may be given away."""
    cache = prepare._cache()
    assert cache is not None
    kept = cache.find(prepare._name("component"))
    assert kept is not None
    component = kept.read_bytes()
    assert b"hybrid_compute.sandbox.guest" in component  # what is in it can be found in this way
    for ours in (str(Path(prepare.__file__).parents[2]), sys.prefix, str(cache.folder)):
        assert ours.encode() not in component


def test_what_it_can_ask_for_is_what_we_answer_or_refuse(prepared: None) -> None:
    """Each function that we define is one that it asks for, so that none of them goes by another version's name."""
    loaded = interpreter()
    asked = loaded.compiled.type.imports(loaded.engine.engine)
    ours = {f"wasi:{name}@0.2.9" for name in imports._of_the_system(lambda _number: None)}  # type: ignore[arg-type,return-value]
    assert ours | {"grant", "sleep"} <= set(asked)
    assert {name.partition("/")[0] for name in set(asked) - ours - {"grant", "sleep"}} == {
        *("wasi:cli", "wasi:filesystem", "wasi:io", "wasi:sockets")
    }


def test_code_that_somebody_has_touched_is_not_run(prepared: None, tmp_path: Path) -> None:
    """A file that is not as we left it is thrown away, and made again."""
    cache = prepare._cache()
    assert cache is not None
    kept = cache.find(prepare._name("code"))
    assert kept is not None
    code = (
        "import os\n"
        "from hybrid_compute.sandbox import prepare\n"
        "cache = prepare._cache()\n"
        "path = cache.store(prepare._name('code'), b'no machine code at all')\n"
        "assert prepare.is_prepared()\n"  # it is what was stored, so that only wasmtime can tell
        "with open(path, 'ab') as file: file.write(b'!')\n"
        "assert not prepare.is_prepared()\n"
        "assert not path.exists()\n"
    )
    environment = {**os.environ, "HYBRID_COMPUTE_CACHE": str(tmp_path)}
    subprocess.run([sys.executable, "-c", code], env=environment, check=True)


def test_what_nobody_uses_any_more_is_discarded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Interpreters of other versions, after a month; those in use stay."""
    monkeypatch.setenv("HYBRID_COMPUTE_CACHE", str(tmp_path))
    cache = prepare._cache()
    assert cache is not None
    for name, days in (("python-old", 31), ("python-new", 29), ("other-old", 31)):
        path = cache.store(name, b"code")
        os.utime(path, (time.time() - days * 24 * 3600,) * 2)
    prepare._discard_old(cache)
    assert {path.name for path in cache.folder.glob("*-*")} >= {"python-new", "other-old"}
    assert not list(cache.folder.glob("python-old*"))


def test_two_processes_make_it_once(tmp_path: Path) -> None:
    """The second waits for the first, and finds what that has made."""
    code = (
        "import sys, time\n"
        "from pathlib import Path\n"
        "from hybrid_compute.sandbox import prepare\n"
        "def make(cache, tell, *, anew):\n"
        "    with open(Path(sys.argv[1]) / 'made', 'a') as file: file.write('made ')\n"
        "    cache.store(prepare._name('code'), b'code')\n"
        "prepare._make = make\n"
        "sys.stdin.readline()\n"
        "prepare.prepare()\n"
    )
    environment = {**os.environ, "HYBRID_COMPUTE_CACHE": str(tmp_path)}
    programs = [
        subprocess.Popen([sys.executable, "-c", code, str(tmp_path)], env=environment, stdin=subprocess.PIPE, text=True)
        for _ in range(3)
    ]
    for program in programs:
        assert program.stdin is not None
        program.stdin.write("\n")
        program.stdin.flush()
    for program in programs:
        program.communicate(timeout=60)
        assert program.returncode == 0
    assert (tmp_path / "made").read_text() == "made "


def test_the_command_names_what_is_missing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """And ends with the exit code of a place that is not there."""
    (tmp_path / "componentize_py.py").write_text("raise ImportError('broken')")
    monkeypatch.setenv("HYBRID_COMPUTE_CACHE", str(tmp_path))
    monkeypatch.setenv("PYTHONPATH", f"{tmp_path}{os.pathsep}{os.environ.get('PYTHONPATH', '')}")
    ran = hybrid_compute("sandbox", "prepare")
    assert ran.returncode == 4, ran.stderr
    assert "could not make the interpreter of sandboxes" in ran.stderr


def test_the_interpreter_is_named_for_what_made_it() -> None:
    """Another Python is another interpreter: what is kept of the old one is not taken for it."""
    project = tomllib.loads((Path(__file__).parents[2] / "pyproject.toml").read_text())
    assert prepare.MAKER in project["project"]["optional-dependencies"]["sandbox"]


def test_the_time_of_a_program_begins_when_there_is_an_interpreter(prepared: None) -> None:
    """To load it in a new process may take longer than the program may."""
    program = (
        "from hybrid_compute.sandbox import sandbox\n"
        "from hybrid_compute.sandbox.interpreter import is_loaded\n"
        "sandbox._limit = lambda *_: print('its time begins', is_loaded())\n"
        "print(is_loaded(), sandbox.Sandbox(ready=0).run('result = 1', timeout=2.0))"
    )
    said = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert said.stdout == "its time begins True\nFalse 1\n"
