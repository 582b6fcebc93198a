"""Calls of one key are one call: side by side, one after the other, and after the server was killed."""

from __future__ import annotations

import asyncio
import contextlib
import json
import sqlite3
import subprocess
import sys
from collections.abc import Generator
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any

import msgspec
import pytest

from hybrid_compute.errors import BackendUnavailable, OutcomeUnknown, TaskFailed, WorkerLost
from hybrid_compute.links import database
from hybrid_compute.links.wire import Failure, Pieces
from hybrid_compute.server import Tenant, hash_token
from hybrid_compute.server.memory import Entry, Memory
from hybrid_compute.server.notebook import FORM, SqliteNotebook
from hybrid_compute.server.refusals import AsTold, Refused, failure_for
from tests.faults.watching import written
from tests.server import tasks
from tests.server.serving import Served, serving
from tests.server.starting import started
from tests.server.talking import Answer, Frames, ask, post, result, wait_until

pytestmark = pytest.mark.usefixtures("complaints")


@pytest.fixture(scope="module", params=["in memory", "in a notebook"])
def served(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Generator[Served]:
    """The same promises, wherever keys are remembered."""
    path = None if request.param == "in memory" else tmp_path_factory.mktemp("keys") / "keys.db"
    tenants = [
        Tenant(name=name, tokens=[hash_token(name)], at_once=5 if name == "few" else None) for name in ("a", "b", "few")
    ]
    with serving(tasks.registry(), remember=path, tenants=tenants, workers=1) as running:
        yield running


A, B, FEW = ({"Authorization": f"Bearer {name}"} for name in ("a", "b", "few"))


def mark(path: Path, key: str | None) -> dict[str, Any]:
    """A call that counts how often it ran."""
    return {"task": "leave_mark", "input": str(path), "key": key}


def test_a_call_that_is_sent_twice_runs_once(served: Served, tmp_path: Path) -> None:
    """And is answered alike, however its key is said."""
    path = tmp_path / "marks"
    key = f"twice {path}"
    assert post(served.port, mark(path, key), **A).value == {"result": 1}
    assert post(served.port, mark(path, key), **A).value == {"result": 1}
    for said in (key, f'"{key}"'):
        assert post(served.port, mark(path, None), Idempotency_Key=said, **A).value == {"result": 1}
    assert post(served.port, [mark(path, key)] * 3, **A).value == [{"result": 1}] * 3
    with Frames(served.port, **A) as frames:
        assert frames.ask({"id": 1, **mark(path, key)}) == {"id": 1, "result": 1}
    assert post(served.port, mark(path, f"{key}!"), **A).value == {"result": 2}


def test_keys_of_two_tenants_do_not_meet(served: Served, tmp_path: Path) -> None:
    """Whatever they are called."""
    path = tmp_path / "marks"
    key = f"mine {path}"
    assert [result_of(post(served.port, mark(path, key), **who)) for who in (A, B, A, B)] == [1, 2, 1, 2]


def result_of(answer: Answer) -> Any:
    return answer.value["result"]


def test_a_key_under_way_is_waited_for(served: Served) -> None:
    """A hundred calls at once are one, and all of them are answered."""
    name = tasks.gate()
    call = {"task": "wait_at", "input": name, "key": name}
    with ThreadPoolExecutor(20) as pool:
        running = [pool.submit(post, served.port, call, **A) for _ in range(20)]
        with Frames(served.port, **A) as frames:
            frames.say([{"id": number, **call} for number in range(80)])
            wait_until(lambda: tasks.came[name] == 1)
            tasks.gates[name].set()
            assert frames.hear() == [{"id": number, "result": name} for number in range(80)]
        assert [each.result().value for each in running] == [{"result": name}] * 20
    assert tasks.came[name] == 1


def test_a_key_of_another_call_is_refused(served: Served) -> None:
    """Another task, another input, or another encoding: nobody would get what was asked for."""
    name = tasks.gate()
    call = {"task": "echo", "input": name, "key": name}
    assert post(served.port, call, **A).value == {"result": name}
    for other in ({**call, "input": "x"}, {**call, "task": "fail"}):
        assert post(served.port, other, **A).failure() == (422, "invalid_input")
    packed = ask(
        served.port, "POST", "/compute", msgspec.msgpack.encode(call), {"Content-Type": "application/msgpack", **A}
    )
    assert packed.failure() == (422, "invalid_input")
    assert post(served.port, call, **A).value == {"result": name}


def test_a_failure_is_remembered_too(served: Served, tmp_path: Path) -> None:
    """The task has run, and would have its effects again."""
    call = {"task": "fail", "input": str(tmp_path), "key": str(tmp_path)}
    first, second = (post(served.port, call, **A) for _ in range(2))
    assert first.failure() == (500, "task_failed")
    assert first.value == second.value


def test_what_never_began_may_be_sent_again(served: Served) -> None:
    """A call that found no room leaves its key unused."""
    name, key = tasks.gate(), tasks.gate()
    call = {"task": "echo", "input": 1, "key": key}
    with ThreadPoolExecutor(5) as pool:
        running = [pool.submit(result, served.port, "wait_at", name, **FEW) for _ in range(5)]
        wait_until(lambda: tasks.came[name] == 5)
        assert post(served.port, call, **FEW).failure() == (429, "limit_exceeded")
        tasks.gates[name].set()
        assert [each.result() for each in running] == [name] * 5
    assert post(served.port, call, **FEW).value == {"result": 1}


def test_a_call_goes_on_without_its_client(served: Served) -> None:
    """Somebody will come back for the outcome."""
    name = tasks.gate()
    call = {"task": "wait_at", "input": name, "key": name}
    frames = Frames(served.port, **A)
    frames.say({"id": 1, **call})
    wait_until(lambda: tasks.came[name] == 1)
    frames.reset()
    wait_until(lambda: len(served.server.server_state.connections) == 0)
    assert tasks.left[name] == 0
    tasks.gates[name].set()
    assert post(served.port, call, **A).value == {"result": name}
    assert tasks.came[name] == 1


def test_a_call_that_is_withdrawn_stays_so(served: Served) -> None:
    """All who wait for it are told, and who comes later; it does not run again."""
    name = tasks.gate()
    call = {"task": "wait_at", "input": name, "key": name}
    with Frames(served.port, **A) as first, Frames(served.port, **A) as second:
        first.say({"id": 1, **call})
        wait_until(lambda: tasks.came[name] == 1)
        second.say({"id": 2, **call})
        assert second.ask({"id": 3, "task": "echo", "input": 1})["id"] == 3
        assert first.ask({"id": 1, "cancel": True})["code"] == "cancelled"
        found = second.hear()
        assert (found["id"], found["code"]) == (2, "cancelled")
        assert second.ask({"id": 4, **call})["code"] == "cancelled"
    assert tasks.came[name] == tasks.left[name] == 1


@pytest.mark.parametrize("key", ["", "x" * 256, "\ud800", 7, ["x"]])
def test_not_everything_is_a_key(served: Served, key: object) -> None:
    """It is a text of 1 to 255 characters."""
    call = {"task": "echo", "input": 1, "key": key}
    assert post(served.port, call, **A).failure() == (400, "protocol_error")
    assert post(served.port, [call], **A).status in (200, 400)
    with Frames(served.port, **A) as frames:
        assert frames.ask(call)["code"] == "protocol_error"


@pytest.mark.parametrize("key", ["x" * 255, "\0", "a\0b", "'; drop table calls; --", "漢字🙂", " ", "\n"])
def test_a_key_may_be_any_text(served: Served, key: str) -> None:
    """None means anything else."""
    call = {"task": "echo", "input": 1, "key": key}
    assert [post(served.port, call, **A).value for _ in range(2)] == [{"result": 1}] * 2


def test_an_empty_header_is_no_key(served: Served) -> None:
    """All who send one would share it."""
    for empty in ("", '""'):
        answer = post(served.port, {"task": "echo", "input": 1}, Idempotency_Key=empty, **A)
        assert answer.failure() == (400, "protocol_error")


# After a crash.


def test_after_a_crash_everybody_knows_where_they_are(tmp_path: Path) -> None:
    """What was done is told again; what is pure runs again; of what is not, nobody knows, and is told so."""
    notebook, done, begun, pure = (tmp_path / name for name in ("keys.db", "done", "begun", "pure"))

    def wait_at(path: Path, task: str) -> dict[str, Any]:
        return {"task": task, "input": str(path), "key": path.name}

    with started(notebook) as server, Frames(server.port) as frames:
        assert frames.ask(mark(done, "done")) == {"result": 1}
        assert frames.ask({"task": "fail", "input": "oh", "key": "failed"})["code"] == "task_failed"
        frames.say({"id": 1, **wait_at(begun, "mark_and_wait")})
        wait_until(lambda: written(begun))
        server.process.kill()
        server.wait()
    with started(notebook) as server, Frames(server.port) as frames:
        frames.say({"id": 1, **wait_at(pure, "mark_and_wait_purely")})
        wait_until(lambda: written(pure))
        server.process.kill()
        server.wait()
    for path in (begun, pure):
        path.with_suffix(".open").touch()
    with started(notebook) as server:
        assert post(server.port, mark(done, "done")).value == {"result": 1}
        assert done.read_text() == "x"
        assert post(server.port, {"task": "fail", "input": "oh", "key": "failed"}).failure() == (500, "task_failed")
        for _ in range(2):
            answer = post(server.port, wait_at(begun, "mark_and_wait"))
            assert answer.failure() == (409, "outcome_unknown")
            assert answer.value["details"]["started"] is True
        assert begun.read_text() == "x"
        assert post(server.port, wait_at(pure, "mark_and_wait_purely")).value == {"result": 2}
        assert post(server.port, wait_at(pure, "mark_and_wait_purely")).value == {"result": 2}
        assert pure.read_text() == "xx"
        assert post(server.port, {**wait_at(begun, "mark_and_wait"), "input": "x"}).failure() == (422, "invalid_input")


# The parts.


def memory(notebook: SqliteNotebook | None = None, **options: Any) -> Memory:
    return Memory(failure_for, notebook, **options)


async def run(
    memory: Memory, key: str, outcome: bytes | Exception, *, pure: bool = False
) -> tuple[bytes | Failure, int]:
    """What comes of a call with this key, and how often it ran for it."""
    ran = 0

    async def work() -> Pieces:
        nonlocal ran
        ran += 1
        if isinstance(outcome, Exception):
            raise outcome
        return [outcome]

    try:
        return b"".join(await memory.once(("t", key), b"digest", work, pure=pure)), ran
    except AsTold as told:
        return told.failure, ran
    except (BackendUnavailable, WorkerLost, Refused) as error:
        return failure_for(error), ran


async def test_memory_is_given_back() -> None:
    """The oldest go first, by size and by age; what is under way stays."""
    now = [0.0]
    kept = memory(keep=100, most=10_000, now=lambda: now[0])
    for number in range(20):
        await run(kept, str(number), b"x" * 1_000)
    assert await run(kept, "19", b"new") == (b"x" * 1_000, 0)
    assert await run(kept, "0", b"new") == (b"new", 1)
    now[0] = 200.0
    assert await run(kept, "19", b"newer") == (b"newer", 1)
    assert list(kept._shelves["t"].known) == ["19"]


@pytest.mark.parametrize(
    ("error", "again"),
    [
        (TaskFailed("x"), False),
        (WorkerLost("x", started=True), False),
        (WorkerLost("x", started=False), True),
        (BackendUnavailable("x"), True),
        (Refused("limit_exceeded", "x"), True),
        (RuntimeError("a bug"), False),
    ],
)
@pytest.mark.parametrize("where", ["memory", "notebook"])
async def test_what_may_have_begun_is_kept(tmp_path: Path, error: Exception, again: bool, where: str) -> None:
    """And nothing else."""
    kept = memory(SqliteNotebook(tmp_path / "keys.db") if where == "notebook" else None)
    first, _ = await run(kept, "k", error)
    assert isinstance(first, Failure)
    second, ran = await run(kept, "k", b"done")
    assert (second, ran) == ((b"done", 1) if again else (first, 0))
    await kept.aclose()


async def test_one_tenant_does_not_cost_another_its_keys() -> None:
    """Each has room of its own."""
    kept = memory(most=10_000)
    once = partial(kept.once, call=b"digest", pure=False)
    assert await once(("b", "k"), run=partial(result_bytes, b"mine")) == [b"mine"]
    for number in range(50):
        await once(("a", str(number)), run=partial(result_bytes, b"x" * 1_000))
    assert await once(("b", "k"), run=partial(result_bytes, b"another")) == [b"mine"]


async def result_bytes(data: bytes) -> Pieces:
    return [data]


async def test_when_to_come_again_is_told_of_keyed_calls_too() -> None:
    """What is turned away is turned away as it is, with its time."""
    kept = memory()

    async def full() -> Pieces:
        raise Refused("limit_exceeded", "full", retry_after=99)

    for _ in range(2):
        with pytest.raises(Refused) as caught:
            await kept.once(("t", "k"), b"digest", full, pure=False)
        assert caught.value.retry_after == 99


async def test_a_notebook_that_was_locked_is_opened_later(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """One call fails for it, not all that follow."""
    kept = memory(SqliteNotebook(tmp_path / "keys.db"))
    monkeypatch.setattr(database, "PATIENCE", 0.05)
    with contextlib.closing(sqlite3.connect(tmp_path / "keys.db", isolation_level=None)) as other:
        other.execute("begin exclusive")
        with pytest.raises(OSError, match="locked"):
            await kept.once(("t", "k"), b"digest", partial(result_bytes, b"1"), pure=False)
        other.execute("rollback")
    assert await run(kept, "k", b"1") == (b"1", 1)
    await kept.aclose()


async def test_a_clock_that_is_wrong_for_a_moment_costs_few_keys(tmp_path: Path) -> None:
    """What is too old goes a little at a time."""
    now = [0.0]
    kept = memory(SqliteNotebook(tmp_path / "keys.db", keep=100), now=lambda: now[0])
    for number in range(20):
        await run(kept, str(number), b"first")
    now[0] = 1e6
    await run(kept, "meanwhile", b"x")
    now[0] = 1.0
    again = [await run(kept, str(number), b"second") for number in range(20)]
    assert again.count((b"first", 0)) == 18
    await kept.aclose()


async def test_a_key_under_way_at_another_server_is_not_begun_here(tmp_path: Path) -> None:
    """Two servers may share a notebook: while the other lives, it is asked again later, pure or not."""
    program = (
        "import asyncio, sys\n"
        "from hybrid_compute.server.notebook import SqliteNotebook\n"
        "async def main():\n"
        "    book = SqliteNotebook(sys.argv[1])\n"
        "    await book.begin(('t', 'k'), b'digest', 1e12, again=False)\n"
        "    print('begun', flush=True)\n"
        "    sys.stdin.read()\n"
        "asyncio.run(main())\n"
    )
    path = tmp_path / "keys.db"
    kept = memory(SqliteNotebook(path), now=lambda: 1e12)
    command = [sys.executable, "-c", program, str(path)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as other:
        assert other.stdout is not None
        assert other.stdout.readline() == b"begun\n"
        for pure in (False, True):
            with pytest.raises(BackendUnavailable, match="at another server"):
                await kept.once(("t", "k"), b"digest", partial(result_bytes, b"1"), pure=pure)
        other.kill()
        other.wait()
    with pytest.raises(OutcomeUnknown):
        await kept.once(("t", "k"), b"digest", partial(result_bytes, b"1"), pure=False)
    assert await run(kept, "k", b"1", pure=True) == (b"1", 1)
    await kept.aclose()


async def test_who_asks_while_a_call_is_taken_back_is_told(tmp_path: Path) -> None:
    """Though it is taken back before the notebook has noted it: it never runs, and may be sent again."""
    kept = memory(SqliteNotebook(tmp_path / "keys.db"))
    first, second = (asyncio.ensure_future(run(kept, "k", b"done")) for _ in range(2))
    await asyncio.sleep(0)
    first.cancel("withdrawn")
    with pytest.raises(asyncio.CancelledError):
        await first
    outcome, ran = await second
    assert isinstance(outcome, Failure)
    assert (outcome.code, ran) == ("cancelled", 0)
    assert await run(kept, "k", b"done") == (b"done", 1)
    await kept.aclose()


async def test_a_notebook_knows_what_was_begun_and_what_was_done(tmp_path: Path) -> None:
    """Also when another one opens it."""
    first = SqliteNotebook(tmp_path / "keys.db")
    for key in ("begun", "done", "failed", "forgotten"):
        assert await first.begin(("t", key), b"call", 5.0, again=False) is None
    await first.end(("t", "done"), b"result")
    await first.end(("t", "failed"), Failure("oh", "task_failed", {"a": 1}))
    await first.end(("t", "forgotten"), None)
    await first.aclose()
    second = SqliteNotebook(tmp_path / "keys.db", keep=100)
    assert await second.begin(("t", "begun"), b"call", 6.0, again=False) == Entry(b"call", 5.0, None)
    assert await second.begin(("t", "begun"), b"other", 6.0, again=True) == Entry(b"call", 5.0, None)
    assert await second.begin(("t", "begun"), b"call", 6.0, again=True) is None
    assert await second.begin(("t", "done"), b"call", 6.0, again=True) == Entry(b"call", 5.0, b"result")
    assert await second.begin(("t", "failed"), b"call", 6.0, again=True) == Entry(
        b"call", 5.0, Failure("oh", "task_failed", {"a": 1})
    )
    assert await second.begin(("t", "forgotten"), b"call", 6.0, again=False) is None
    assert await second.begin(("other", "done"), b"call", 6.0, again=False) is None
    assert await second.begin(("t", "done"), b"call", 106.0, again=False) is None, "it was too old"
    await second.aclose()


async def test_many_at_once_are_all_written(tmp_path: Path) -> None:
    """Together, and each with its own answer."""
    notebook = SqliteNotebook(tmp_path / "keys.db")
    kept = memory(notebook)
    assert await asyncio.gather(*(run(kept, str(n), b"%d" % n) for n in range(500))) == [
        (b"%d" % n, 1) for n in range(500)
    ]
    await kept.aclose()
    kept = memory(SqliteNotebook(tmp_path / "keys.db"))
    assert await run(kept, "499", b"x") == (b"499", 0)
    await kept.aclose()


@pytest.mark.parametrize("what", ["a text", "another database", "a later version"])
def test_a_file_of_another_program_is_left_alone(tmp_path: Path, what: str) -> None:
    """It says which, and changes nothing."""
    path = tmp_path / "mine.db"
    if what == "a text":
        path.write_text("dear diary " * 1_000)
    else:
        with sqlite3.connect(path) as database:
            database.execute("create table mine (id)")
            if what == "a later version":
                database.execute(f"pragma application_id = {FORM.application}")
                database.execute("pragma user_version = 99")
        database.close()
    before = path.read_bytes()
    with pytest.raises(OSError, match=r"mine\.db"):
        SqliteNotebook(path)
    assert path.read_bytes() == before


async def test_an_outcome_that_nobody_knows_is_told_to_all(tmp_path: Path) -> None:
    """Those who wait for it side by side too."""
    notebook = SqliteNotebook(tmp_path / "keys.db")
    await notebook.begin(("t", "k"), b"digest", 1e12, again=False)
    kept = memory(notebook, now=lambda: 1e12)
    found = await asyncio.gather(*(run(kept, "k", b"x") for _ in range(3)), return_exceptions=True)
    assert all(isinstance(each, OutcomeUnknown) for each in found), found
    await kept.aclose()


def test_a_notebook_is_plain_sqlite(tmp_path: Path) -> None:
    """Somebody may want to look into it with other tools."""
    path = tmp_path / "keys.db"
    with serving([tasks.echo], remember=path) as served:
        assert result(served.port, "echo", [1], Idempotency_Key="k") == [1]
    with sqlite3.connect(path) as database:
        rows = database.execute("select tenant, key, result from calls").fetchall()
    database.close()
    assert [(tenant, key, json.loads(found)) for tenant, key, found in rows] == [("everybody", "k", [1])]
