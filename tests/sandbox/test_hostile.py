"""Programs that mean harm: each is contained, and the sandbox goes on serving as if nothing had been."""

from __future__ import annotations

import builtins
import json
import os
import pickle
import random
import subprocess
import sys
import threading
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hybrid_compute.errors import HybridComputeError, LimitExceeded, TaskFailed, TaskTimeout
from hybrid_compute.sandbox import Limits, Sandbox
from hybrid_compute.sandbox.answers import Outcome, outcome_of

pytestmark = pytest.mark.timeout(180)

SHORT = 0.5
"""Seconds, for those that would never end."""

ENDLESS = {
    "an infinite loop": "while True: pass",
    "an infinite loop in C": "sum(iter(int, 1))",
    "catching everything": "while True:\n    try:\n        while True: pass\n    except BaseException: pass",
    "a regular expression": "import re; re.match('(a+)+$', 'a' * 64 + 'b')",
    "a large power": "x = 10 ** 10 ** 8",
    "waiting for the queue": "import queue\nwhile True:\n  try: queue.Queue().get(timeout=1)\n  except Exception: pass",
    "sleeping for ever": "import time\nwhile True: time.sleep(1e9)",
    "a loop at the end": "import atexit\nclass A:\n  def __del__(self):\n    while True: pass\na = A()\ndel a",
    "an answer that never ends": "class A(dict):\n  def items(self):\n    while True: pass\nresult = A(a=1)",
    "a name that never ends": "class E(Exception):\n  def __str__(self):\n    while True: pass\nraise E",
}


@pytest.mark.parametrize("source", ENDLESS.values(), ids=ENDLESS)
def test_what_never_ends_is_stopped(box: Sandbox, source: str) -> None:
    """By its timeout, whatever it catches."""
    with pytest.raises(TaskTimeout, match=r"was not done within its timeout of 0\.5 s, and was stopped"):
        box.run(source, timeout=SHORT)
    assert box.run("result = 1") == 1


def test_the_limit_of_time_holds_without_a_timeout(prepared: None) -> None:
    """And says its name and value."""
    with Sandbox(limits=Limits(time=0.1), ready=0) as sandbox:
        with pytest.raises(LimitExceeded, match=r"its limit of time is 0\.1 s \(Limits\.time\)") as caught:
            sandbox.run("while True: pass")
        assert caught.value.started


GREEDY = {
    "a memory bomb": ("x = []\nwhile True: x.append('a' * 1_000_000)", "memory is 64 MiB"),
    "memory of a library": (
        "import zlib\nx = zlib.compress(bytes(10**7))\ny = [zlib.decompress(x) for _ in range(100)]",
        "memory is 64 MiB",
    ),
    "many small objects": ("x = []\nwhile True: x = [x, x]\n", "memory is 64 MiB"),
    "a giant string": ("x = 'a' * 10**9", "memory is 64 MiB"),
    "a giant string for the answer": ("result = 'a' * 5_000_000", "result is 1000000 characters"),
    "a giant answer": ("result = list(range(500_000))", "result is 1000000 characters"),
    "giant bytes for the answer": ("result = bytes(5_000_000)", "result is 1000000 characters"),
    "huge output": ("while True: print('a' * 1000)", "output is 10000 characters"),
    "huge output, and going on": (
        "for i in range(1000):\n    try: print('a' * 1000)\n    except BaseException: pass",
        "output is 10000 characters",
    ),
    "huge errors": ("import sys\nsys.stderr.write('a' * 100_000)", "output is 10000 characters"),
    "a giant answer from behind": (
        ("from hybrid_compute.sandbox.guest import runner\n"
        "class S(str):\n    def __len__(self): return 0\n"
        "runner._answer = lambda *_: ('json', S('a' * 5_000_000))"),
        "result is 1000000 characters",
    ),
    "a giant report from behind": (
        "import json\njson.dumps = lambda *_, **__: 'a' * 5_000_000",
        "(output is 10000|result is 1000000) characters",
    ),
    "a deep answer": ("x = []\nfor _ in range(100_000): x = [x]\nresult = x", "4 MiB of stack"),
    "a deep end": ("x = ()\nfor _ in range(300_000): x = (x,)\ndel x", "4 MiB of stack"),
    "catching the end of memory": (
        "x = []\ntry:\n  while True: x.append('a' * 10**6)\nexcept MemoryError: x.append(bytes(10**8))",
        "memory is 64 MiB",
    ),
}  # fmt: skip


@pytest.fixture(scope="module")
def small(prepared: None) -> Sandbox:
    return Sandbox(limits=Limits(memory=64 << 20, output=10_000, result=1_000_000, time=30.0), ready=1)


@pytest.mark.parametrize(("source", "limit"), GREEDY.values(), ids=GREEDY)
def test_who_takes_too_much_is_told_the_limit(small: Sandbox, source: str, limit: str) -> None:
    """Each limit by its name and value; and the next program has all that this one wanted."""
    with pytest.raises(LimitExceeded, match=limit):
        small.run(source)
    assert small.run("result = len('a' * 5_000_000)") == 5_000_000


SOCKETS = (
    "import _imp, importlib.util\nspec = importlib.util.spec_from_loader('_socket', None)\n"
    "socket = _imp.create_builtin(spec); _imp.exec_builtin(socket)\nsocket.socket()"
)
NO_NETWORK = "failed: ModuleNotFoundError: No module named 'socket' here: a sandbox has no network"
NO_THREAD = "failed: RuntimeError: can't start new thread"
NO_ATTRIBUTE = "failed: AttributeError: module '{}' has no attribute '{}'"
NO_FILE = r"failed: FileNotFoundError: \[Errno 44\] No such file or directory: '{}'"
UNDEFINED = "has broken the interpreter that ran it: unknown import: `wasi:{}` has not been defined"
GAVE_UP = "has broken the interpreter that ran it: it gave up"
ABORTED = "has broken the interpreter that ran it: wasm trap: wasm `unreachable` instruction executed"
ANSWERS = "from hybrid_compute.sandbox.guest import runner\nrunner._answer = lambda *_: ('json', {})"
FUTILE = {
    "sockets": ("import socket", NO_NETWORK),
    "sockets, from behind": (
        SOCKETS,
        UNDEFINED.format("sockets/tcp-create-socket@0.2.9#create-tcp-socket"),
    ),
    "names of hosts": (
        "import asyncio\nasyncio.base_events.socket.getaddrinfo('example.org', 80)",
        UNDEFINED.format("sockets/instance-network@0.2.9#instance-network"),
    ),
    "urls": ("import urllib.request; urllib.request.urlopen('http://127.0.0.1')", NO_NETWORK),
    "a server": ("import http.server", NO_NETWORK),
    "asyncio's sockets": (
        "import asyncio\nasync def f(): await asyncio.open_connection('', 80)\nasyncio.run(f())",
        NO_THREAD,
    ),
    "processes": (
        "import subprocess; subprocess.run(['id'])",
        "failed: ModuleNotFoundError: No module named 'subprocess' here: a sandbox has no other processes",
    ),
    "processes, from behind": (
        "import asyncio as a\nasync def f(): await a.create_subprocess_exec('id')\na.run(f())",
        "failed: NotImplementedError",
    ),
    "fork": ("import os; os.fork()", NO_ATTRIBUTE.format("os", "fork")),
    "exec": ("import os; os.execv('/bin/sh', ['sh'])", NO_ATTRIBUTE.format("os", "execv")),
    "a shell": ("import os; os.system('id')", NO_ATTRIBUTE.format("os", "system")),
    "kill": ("import os; os.kill(1, 9)", NO_ATTRIBUTE.format("os", "kill")),
    "ctypes": (
        "import ctypes",
        "failed: ModuleNotFoundError: No module named 'ctypes' here: a sandbox runs no native code",
    ),
    "a signal": ("import signal; signal.raise_signal(signal.SIGKILL)", GAVE_UP),
    "an alarm": ("import signal; signal.alarm(1)", NO_ATTRIBUTE.format("signal", "alarm")),
    "threads": ("import threading; threading.Thread(target=print).start()", NO_THREAD),
    "threads, from behind": ("import _thread; _thread.start_new_thread(print, ())", NO_THREAD),
    "workers": (
        "from concurrent.futures import ThreadPoolExecutor\nThreadPoolExecutor().submit(print).result()",
        NO_THREAD,
    ),
    "files": ("open('/etc/passwd')", NO_FILE.format("/etc/passwd")),
    "files, by number": ("open(0)", r"failed: OSError: \[Errno 8\] Bad file descriptor: '0'"),
    "files, from behind": ("import _io; _io.FileIO('/etc/passwd')", NO_FILE.format("/etc/passwd")),
    "files, by the system": ("import posix; posix.open('/etc/passwd', 0)", NO_FILE.format("/etc/passwd")),
    "folders": ("import posix; posix.listdir('/')", NO_FILE.format("/")),
    "writing": ("import _io; _io.FileIO('/tmp/escaped', 'w')", NO_FILE.format("/tmp/escaped")),
    "writing, by the system": ("import posix; posix.mkdir('/tmp/escaped')", NO_FILE.format("/tmp/escaped")),
    "a database": (
        "import sqlite3; sqlite3.connect('/tmp/escaped').execute('create table t (x)')",
        "failed: sqlite3.OperationalError: unable to open database file",
    ),
    "standard input": ("import posix; posix.read(0, 1)", UNDEFINED.format("cli/stdin@0.2.9#get-stdin")),
    "pipes": ("import posix; posix.pipe()", NO_ATTRIBUTE.format("posix", "pipe")),
    "native code": (
        "import importlib.machinery as m\nm.ExtensionFileLoader('x', '/usr/lib/x.so').load_module()",
        "failed: ImportError: library not found",
    ),
    "waiting for a lock": ("import threading\nlock = threading.Lock()\nlock.acquire()\nlock.acquire()", ABORTED),
    "spoiling the runner": (
        "import gc\nfor each in gc.get_objects():\n  if type(each) is dict: each.clear()",
        GAVE_UP,
    ),
    "aborting": ("import os; os.abort()", ABORTED),
    "crashing": ("import faulthandler; faulthandler._sigsegv()", GAVE_UP),
    "broken bytecode": (
        "def f(): 0\nf.__code__ = f.__code__.replace(co_code=b'\\xff\\x00' * 50, co_stacksize=0)\nf()",
        GAVE_UP,
    ),
    "sleeping for no time that there is": (
        "import wit_world; wit_world.sleep(float('nan'))",
        "has broken .*: it asked to sleep for nan s",
    ),
    "sleeping backwards": (
        "import wit_world; wit_world.sleep(float('-inf'))",
        "has broken .*: it asked to sleep for -inf s",
    ),
    "half a character": ("result = '\\ud800'", "failed: `result`, of type str, is neither .* surrogates not allowed"),
    "half a character, from behind": (ANSWERS.format(r"'\"\\ud800\"'"), "left a result that cannot be read"),
    "infinity, from behind": (ANSWERS.format("'1e999'"), "left a result that cannot be read: Number out of range"),
    "a broken answer": (
        "import json\njson.dumps = lambda *a, **k: 'no json at all'",
        "has broken .*: its report is none .JSON is malformed",
    ),
    "another answer": (
        'import json\njson.dumps = lambda *a, **k: \'{"outcome": "done", "kind": "pickle"}\'',
        "has broken .*: its report is none .Invalid enum value 'pickle'",
    ),
}


@pytest.mark.parametrize(("source", "said"), FUTILE.values(), ids=FUTILE)
def test_there_is_nothing_to_reach(box: Sandbox, source: str, said: str) -> None:
    """Whatever it asks of the system ends in an error of its own, or ends the program, each in its own way."""
    with pytest.raises(TaskFailed, match=f"^the program {said}"):
        box.run(source, timeout=20.0)
    assert not Path("/tmp/escaped").exists()
    assert box.run("result = 1") == 1


def test_nothing_of_ours_is_seen(box: Sandbox, monkeypatch: pytest.MonkeyPatch) -> None:
    """Neither environment nor arguments, nor the name of the user or of the machine."""
    monkeypatch.setenv("HYBRID_SECRET", "swordfish")
    seen = box.run(
        "import os, platform, sys, sysconfig\n"
        "result = [dict(os.environ), sys.argv, sys.path, os.getcwd(), platform.node(), sys.executable, sys.platform]"
    )
    assert seen == [{}, ["<sandbox>"], [], "/", "(none)", "", "wasi"]
    everything = box.run(
        "import gc\ngc.unfreeze()\n"
        "texts = [repr(each)[:10_000] for each in gc.get_objects() if type(each) in (dict, list, tuple)]\n"
        "words = [word[::-1] for word in input]\n"
        "result = [len(texts) > 1000, [word for word in words if any(word in text for text in texts)]]",
        [word[::-1] for word in ("swordfish", str(Path.home()), os.path.dirname(__file__))],
        timeout=30.0,
    )
    assert everything == [True, []]


def test_a_pickle_is_only_bytes(box: Sandbox, tmp_path: Path) -> None:
    """Nobody here unpickles what comes out."""
    marker = tmp_path / "marker"
    source = (
        "import pickle\n"
        "class Bomb:\n"
        "    def __reduce__(self): return eval, (f'open({input!r}, \"w\")',)\n"
        "result = pickle.dumps(Bomb())"
    )
    bomb = box.run(source, str(marker))
    assert not marker.exists()
    pickle.loads(bomb).close()
    assert marker.exists(), "the bomb is none, so that it proves nothing"


def test_copies_of_the_interpreter_are_only_memory(box: Sandbox) -> None:
    """Much of it has no copy, and says so. Whoever goes on regardless has copies of what there is in there."""
    program = """
import copy, gc, sys
copied, refused = 0, set()
for each in [value for module in list(sys.modules.values()) for value in list(vars(module).values())]:
    try:
        copied += copy.deepcopy(each) is not None
    except Exception as error:
        refused.add(type(error).__name__)
held = [gc.get_referents(each) for each in gc.get_objects()]
result = [copied > 1000, "TypeError" in refused, len(held) > 100]
"""
    assert box.run(program, timeout=20.0) == [True, True, True]
    assert box.run("result = 1") == 1


@pytest.mark.parametrize(("first", "said"), [(True, "contained"), (False, "refused")])
def test_nobody_takes_the_signals_of_faults_unnoticed(prepared: None, first: bool, said: str) -> None:
    """faulthandler, enabled too late, would make a fault of a program the end of the process."""
    enable = "faulthandler.enable()\n"
    code = (
        "import faulthandler\n"
        "from hybrid_compute.errors import BackendUnavailable, LimitExceeded\n"
        "from hybrid_compute.sandbox import Sandbox\n"
        f"{enable if first else ''}"
        "with Sandbox(ready=0) as box:\n"
        "    assert box.run('result = 1') == 1\n"
        f"    {enable}"
        "    try: box.run('x = ()\\nfor _ in range(300_000): x = (x,)\\ndel x')\n"
        "    except LimitExceeded: print('contained')\n"
        "    except BackendUnavailable as error: print('refused'); assert 'faulthandler' in str(error)\n"
    )
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=False)
    assert (ran.returncode, ran.stdout) == (0, f"{said}\n"), ran.stderr


REPORTS = (
    st.text()
    | st.builds(
        '{{"outcome": "{}", "kind": "{}", "limit": "{}", "message": "{}"}}'.format,
        *(st.sampled_from(["done", "failed", "limit", "json", "bytes", "memory", "time", "x"]) for _ in range(4)),
    )
    | st.builds(
        lambda kind, args: json.dumps({"outcome": "failed", "type": kind, "args": args}),
        st.sampled_from([name for name in vars(builtins) if isinstance(getattr(builtins, name), type)]) | st.text(),
        st.lists(
            st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text()
        ),
    )
)


@given(report=REPORTS, result=st.text() | st.sampled_from(["NaN", "[" * 5000, "1" * 5000, "1e999", "é"]))
def test_no_answer_can_hurt(report: str, result: str) -> None:
    """A broken interpreter may say anything: it is an outcome, or one of two errors."""
    try:
        assert isinstance(outcome_of(report, result, Limits(), "the program"), Outcome)
    except (TaskFailed, LimitExceeded):
        pass


def test_good_programs_do_not_notice_bad_ones(box: Sandbox) -> None:
    """Both mixed, in two threads: every good one gets its answer."""
    futile = [source for source, _ in FUTILE.values()]
    bad = [source for source in [*futile, *ENDLESS.values()] if "**" not in source]
    random.Random(7).shuffle(bad)
    answers: list[int] = []

    def good() -> None:
        answers.extend(box.run("result = sum(range(input))", number) for number in range(60))

    thread = threading.Thread(target=good)
    thread.start()
    for source in bad[:25]:
        with pytest.raises(HybridComputeError):
            box.run(source, timeout=0.05)
    thread.join()
    assert answers == [sum(range(number)) for number in range(60)]


@pytest.mark.skipif(sys.platform != "linux", reason="counts mappings by /proc")
def test_sandboxes_are_given_back(box: Sandbox) -> None:
    """After a hundred programs, good and bad, about as much is mapped as before: a sandbox takes four mappings."""

    def mapped() -> int:
        return len(Path("/proc/self/maps").read_text().splitlines())

    def some() -> None:
        for number in range(25):
            box.run("result = 1")
            with pytest.raises(TaskFailed):
                box.run("1 / 0" if number % 2 else "import os; os.abort()")

    some()
    before = mapped()
    some()
    some()
    assert mapped() <= before + 40
