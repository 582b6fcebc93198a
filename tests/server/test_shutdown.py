"""The end of a server: what it has taken is answered, what comes then is told to go elsewhere, and nothing is left."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import aiohttp
import psutil
import pytest

from hybrid_compute.backends.local import LocalBackend
from hybrid_compute.runtime import Runtime
from tests.server import tasks
from tests.server.serving import Served, serving
from tests.server.starting import started
from tests.server.talking import CLOSE, PATIENCE, Frames, Line, head, post, wait_until

pytestmark = pytest.mark.usefixtures("complaints")


def ask_to_stop(served: Served) -> threading.Thread:
    """Tell a server to stop, and wait until it takes nothing more."""
    stopping = threading.Thread(target=served.stop)
    stopping.start()
    wait_until(lambda: served.app.desk.closing)
    return stopping


def test_what_was_taken_is_answered(tmp_path: Path) -> None:
    """Over HTTP and WebSocket; single calls, batches, streams, and calls with a key."""
    name = tasks.gate()
    wait = {"task": "wait_at", "input": name}
    with serving(tasks.registry(), remember=tmp_path / "keys.db", workers=1) as served, ThreadPoolExecutor(3) as pool:
        over_http = [pool.submit(post, served.port, each) for each in (wait, [wait] * 3, {**wait, "key": "http"})]
        with Frames(served.port) as frames:
            frames.say({"id": 1, **wait})
            frames.say([{"id": 2, **wait}, {"id": 3, **wait}])
            frames.say({"id": 4, **wait, "key": "socket"})
            frames.say({"id": 5, "task": "count_then_wait", "input": {"stop": 1, "name": name}, "stream": True})
            assert frames.hear() == {"id": 5, "chunk": 0}
            wait_until(lambda: tasks.came[name] == 10)
            stopping = ask_to_stop(served)
            found = frames.ask({"id": 6, "task": "echo", "input": 1})
            assert (found["id"], found["code"]) == (6, "backend_closed")
            tasks.gates[name].set()
            heard = []
            while (CLOSE, 1012) not in heard:
                heard.append(frames.hear())
            assert {"id": 1, "result": name} in heard
            assert [{"id": 2, "result": name}, {"id": 3, "result": name}] in heard
            assert {"id": 4, "result": name} in heard
            assert {"id": 5, "result": None} in heard
        one, batch, keyed = (each.result() for each in over_http)
        assert (one.value, batch.value, keyed.value) == ({"result": name}, [{"result": name}] * 3, {"result": name})
        stopping.join()


def test_what_comes_then_is_told_to_go_elsewhere() -> None:
    """On connections that are still there; others find no door."""
    name = tasks.gate()
    body = json.dumps({"task": "echo", "input": 1}).encode()
    asked = head("POST", "/compute", Content_Type="application/json", Content_Length=len(body)) + body
    with serving(tasks.registry(), workers=1) as served, ThreadPoolExecutor(1) as pool, Line(served.port) as line:
        line.send(asked)
        assert line.answer().value == {"result": 1}
        running = pool.submit(post, served.port, {"task": "wait_at", "input": name})
        wait_until(lambda: tasks.came[name] == 1)
        stopping = ask_to_stop(served)
        line.send(asked)
        answer = line.answer()
        assert answer.failure() == (503, "backend_closed")
        assert int(answer.headers["retry-after"]) >= 1
        line.send(head("GET", "/readyz"))
        assert line.answer().status == 503
        with pytest.raises(ConnectionRefusedError):
            Line(served.port)
        tasks.gates[name].set()
        assert running.result().value == {"result": name}
        stopping.join()


@pytest.mark.parametrize("whose", ["its own", "somebody's"])
@pytest.mark.parametrize("how", ["http", "socket"])
def test_what_never_ends_is_ended(how: str, whose: str) -> None:
    """Once patience is over, with a last item that says why, whoever owns the runtime."""
    name = tasks.gate()
    call = {"task": "count_then_wait", "input": {"stop": 1, "name": name}, "stream": True}
    of_somebody = Runtime([LocalBackend()], tasks=tasks.registry())
    with serving(tasks.registry() if whose == "its own" else of_somebody, patience=0.1, workers=1) as served:
        with Line(served.port) if how == "http" else Frames(served.port) as line:
            if isinstance(line, Frames):
                line.say({"id": 1, **call})
            else:
                body = json.dumps(call).encode()
                line.send(head("POST", "/compute", Content_Type="application/json", Content_Length=len(body)) + body)
            wait_until(lambda: tasks.came[name] == 1)
            began = time.monotonic()
            stopping = ask_to_stop(served)
            if isinstance(line, Frames):
                assert line.hear() == {"id": 1, "chunk": 0}
                found = line.hear()
            else:
                found = line.answer().lines[-1]
            assert found["code"] == "backend_closed"
            stopping.join()
            assert time.monotonic() - began < 3
    wait_until(lambda: tasks.left[name] == 1)


def test_calls_that_never_end_are_answered(tmp_path: Path) -> None:
    """As those that do: alone, in a batch, with a key, over HTTP and WebSocket."""
    name = tasks.gate()
    wait = {"task": "wait_at", "input": name}
    with serving(tasks.registry(), patience=0.1, remember=tmp_path / "keys.db", workers=1) as served:
        with ThreadPoolExecutor(2) as pool, Frames(served.port) as frames:
            over_http = [pool.submit(post, served.port, each) for each in (wait, {**wait, "key": "k"})]
            frames.say({"id": 1, **wait})
            frames.say([{"id": 2, **wait}, {"id": 3, **wait}])
            wait_until(lambda: tasks.came[name] == 5)
            served.stop()
            alone, keyed = (each.result().failure() for each in over_http)
            assert alone == (503, "backend_closed")
            assert keyed == (409, "outcome_unknown")  # its key is for ever that of a call that may have been done
            heard = [frames.hear(), frames.hear()]
            each_alone = [each for found in heard for each in (found if isinstance(found, list) else [found])]
            assert {each["id"]: each["code"] for each in each_alone} == dict.fromkeys((1, 2, 3), "backend_closed")
    assert tasks.left[name] == 5


def test_who_only_looks_on_is_let_go() -> None:
    """The feed of calls ends at once, and idle sockets are told."""
    with serving(tasks.registry(), workers=1) as served, Line(served.port) as line, Frames(served.port) as frames:
        line.send(head("GET", "/events"))
        data = b""
        while b": calls" not in data:
            data += line.socket.recv(1 << 16)
        assert frames.ask({"task": "echo", "input": 1}) == {"result": 1}
        began = time.monotonic()
        served.stop()
        assert time.monotonic() - began < 3
        assert line.is_closed()
        assert frames.hear() == (CLOSE, 1012)


def test_a_client_that_never_reads_does_not_hold_up_the_end() -> None:
    """Its answer is given up when patience is over."""
    name = tasks.gate()
    with serving(tasks.registry(), patience=0.1, workers=1) as served, Frames(served.port, room=4096) as frames:
        frames.say({"task": "pour", "input": {"name": name, "size": 20_000_000}, "stream": True})
        wait_until(lambda: tasks.came[name] == 2)
        began = time.monotonic()
        served.stop()
        assert time.monotonic() - began < 10


@pytest.mark.parametrize("reads", [True, False])
def test_an_answer_on_its_way_is_read_to_its_end(reads: bool) -> None:
    """Within patience, also where all of it has left the app; who does not read is not waited for any longer."""
    size = 20_000_000
    with serving(tasks.registry(), patience=PATIENCE if reads else 0.1, workers=1) as served:
        served.server.config.timeout_graceful_shutdown = 1  # what uvicorn itself would wait for it
        with Line(served.port, room=4096) as line:
            line.send(large(size))
            wait_until(lambda: unread(served))
            stopping = ask_to_stop(served)
            stopping.join(2)
            if reads:
                assert stopping.is_alive()
                assert len(line.answer().value["result"]) == size
            stopping.join(8)
            assert not stopping.is_alive()


def test_the_last_answer_to_an_agent_arrives() -> None:
    """Its call under way is answered; then it is let go, though it would listen for ever."""
    name = tasks.gate()

    async def talk(served: Served) -> None:
        kinds = {"Accept": "application/json, text/event-stream"}
        async with aiohttp.ClientSession(headers=kinds) as client:

            async def say(method: str, **message: Any) -> str:
                said = {"jsonrpc": "2.0", "method": method, **message}
                async with client.post(f"{served.url}/mcp", json=said) as answer:
                    client.headers.setdefault("mcp-session-id", answer.headers.get("mcp-session-id", ""))  # type: ignore[attr-defined]
                    return await answer.text()

            about = {"protocolVersion": "2025-06-18", "capabilities": {}, "clientInfo": {"name": "x", "version": "1"}}
            await say("initialize", id=1, params=about)
            await say("notifications/initialized")
            async with client.get(f"{served.url}/mcp") as listening:
                call = asyncio.create_task(
                    say("tools/call", id=2, params={"name": "wait_at", "arguments": {"name": name}})
                )
                await asyncio.to_thread(wait_until, lambda: tasks.came[name])
                stopping = await asyncio.to_thread(ask_to_stop, served)
                began = time.monotonic()
                tasks.gates[name].set()
                assert f'"result":"{name}"' in (await call).replace('": "', '":"')
                assert await listening.content.read() == b""
                await asyncio.to_thread(stopping.join)
                assert time.monotonic() - began < 4  # uvicorn would wait 5 s for who listens

    with serving(tasks.registry(), tools=["wait_at"], workers=1) as served:
        asyncio.run(talk(served))


def large(size: int) -> bytes:
    """A request for an answer of that size, more or less."""
    body = json.dumps({"task": "echo", "input": "x" * size}).encode()
    return head("POST", "/compute", Content_Type="application/json", Content_Length=len(body)) + body


def unread(served: Served) -> int:
    """Bytes that wait for a client to read."""
    return sum(each.transport.get_write_buffer_size() for each in list(served.server.server_state.connections))


def test_a_signal_ends_a_server_when_its_calls_are_done(tmp_path: Path) -> None:
    """SIGTERM to a real process: the call under way is answered, and no worker outlives it."""
    path = tmp_path / "marks"
    with started() as server, ThreadPoolExecutor(1) as pool:
        running = pool.submit(post, server.port, {"task": "mark_and_wait", "input": str(path)})
        wait_until(path.exists)
        children = psutil.Process(server.process.pid).children(recursive=True)
        assert children
        server.process.send_signal(signal.SIGTERM)
        wait_until(lambda: refuses(server.port))
        path.with_suffix(".open").touch()
        assert running.result().value == {"result": 1}
        assert server.wait() == -signal.SIGTERM
        psutil.wait_procs(children, timeout=20)
        assert not [each for each in children if each.is_running() and each.status() != psutil.STATUS_ZOMBIE]


def test_a_second_signal_does_not_wait(tmp_path: Path) -> None:
    """Who interrupts twice wants to go home."""
    path = tmp_path / "marks"
    with started() as server, Frames(server.port) as frames:
        frames.say({"id": 1, "task": "mark_and_wait", "input": str(path)})
        wait_until(path.exists)
        os.kill(server.process.pid, signal.SIGINT)
        wait_until(lambda: refuses(server.port))
        began = time.monotonic()
        os.kill(server.process.pid, signal.SIGINT)
        assert server.wait() in (0, -signal.SIGINT, 130, 1)
        assert time.monotonic() - began < 10


def refuses(port: int) -> bool:
    try:
        Line(port).close()
    except ConnectionRefusedError:
        return True
    return False
