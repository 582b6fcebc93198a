"""Nothing that came over a network is unpickled, wherever in a message it lies: to unpickle is to run code."""

import ast
import base64
import os
import pickle
import struct
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest

import hybrid_compute
from hybrid_compute.backends.local import LocalBackend
from hybrid_compute.runtime import Runtime
from hybrid_compute.tasks import TaskRegistry, task
from tests.server.serving import Served, serving
from tests.server.talking import Frames, ask

HOUSE = Path(hybrid_compute.__file__).parent
AT_THE_NETWORK = [
    *sorted((HOUSE / "server").glob("*.py")),
    *sorted((HOUSE / "backends" / "remote").glob("*.py")),
    *(HOUSE / "links" / name for name in ("wire.py", "told.py")),
]
FORBIDDEN = {"cloudpickle", "codec", "copyreg", "dill", "joblib", "marshal", "pickle", "shelve"}


class Bomb:
    """What runs code where it is unpickled."""

    def __reduce__(self) -> tuple[Any, ...]:
        return os.getpid, ()


BOMB = pickle.dumps(Bomb())

looked_up: list[tuple[Any, ...]] = []


def watch(event: str, args: tuple[Any, ...]) -> None:
    if event == "pickle.find_class":
        looked_up.append(args)


@pytest.fixture(scope="module")
def served() -> Iterator[Served]:
    sys.addaudithook(watch)  # which stays: there is no way to take it back
    with serving(Runtime([LocalBackend()], tasks=TaskRegistry([same, size]))) as server:
        yield server


@task
def same(value: Any) -> Any:
    return value


@task
def size(data: bytes) -> int:
    return len(data)


def array(kind: bytes, memory: bytes) -> msgspec.msgpack.Ext:
    """An array of that kind, as the wire has it: extension 1."""
    return msgspec.msgpack.Ext(1, struct.pack(">cBQ", kind, 1, 1) + memory)


TEXT = base64.b64encode(BOMB).decode()
VALUES: dict[str, Any] = {
    "bytes": BOMB,
    "deep": {"a": [{"b": BOMB}]},
    "an array of objects": array(b"O", BOMB),
    "an array of structures": array(b"V", BOMB),
    "an extension": msgspec.msgpack.Ext(42, BOMB),
    "a text": TEXT,
}


def test_the_watch_would_see_it(served: Served) -> None:
    """So that the other tests are worth something."""
    pickle.loads(BOMB)
    assert looked_up
    looked_up.clear()


@pytest.mark.parametrize("where", VALUES)
def test_no_value_in_messagepack_is_unpickled(served: Served, where: str) -> None:
    """Over HTTP and a WebSocket, at any depth, as bytes, as arrays of anything, as extensions."""
    call = {"task": "same", "input": VALUES[where], "id": 1}
    answer = ask(served.port, "POST", "/compute", msgspec.msgpack.encode(call), {"Content-Type": "application/msgpack"})
    assert answer.status in (200, 422)
    with Frames(served.port) as frames:
        frames.frame(2, msgspec.msgpack.encode(call))
        assert frames.hear()["id"] == 1
    assert looked_up == []


def test_no_text_in_json_is_unpickled(served: Served) -> None:
    """Bytes in JSON are base64: what comes out of it is bytes, and stays so."""
    call = msgspec.json.encode({"task": "size", "input": TEXT, "key": TEXT, "traceparent": TEXT})
    answer = ask(served.port, "POST", "/compute", call, {"Content-Type": "application/json"})
    assert answer.value == {"result": len(BOMB)}
    assert looked_up == []


@pytest.mark.parametrize("kind", ["application/json", "application/msgpack", "application/x-pickle", "text/plain"])
def test_no_body_is_unpickled(served: Served, kind: str) -> None:
    """Whatever it is called, a pickle is no call."""
    for path in ("/compute", "/tasks/same"):
        answer = ask(served.port, "POST", path, BOMB, {"Content-Type": kind})
        assert answer.status in (400, 415, 422)
    assert looked_up == []


@pytest.mark.parametrize("module", AT_THE_NETWORK, ids=lambda path: path.relative_to(HOUSE).as_posix())
def test_what_stands_at_the_network_cannot_unpickle(module: Path) -> None:
    """It imports nothing that could, and evaluates no text."""
    tree = ast.parse(module.read_text())
    imported: set[str] = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            imported |= {part for each in node.names for part in each.name.split(".")}
        elif isinstance(node, ast.ImportFrom):
            imported |= {*(node.module or "").split("."), *(each.name for each in node.names)}
    called = {node.func.id for node in ast.walk(tree) if isinstance(node, ast.Call) and isinstance(node.func, ast.Name)}
    assert not imported & FORBIDDEN
    assert not called & {"eval", "exec", "compile"}
