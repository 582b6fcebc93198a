"""The commands `serve` and `token`: a real server process, tokens, TLS refusals, and the end by a signal."""

from __future__ import annotations

import json
import re
import signal
import socket
import subprocess
import urllib.error
import urllib.request
from pathlib import Path
from typing import Any

import pytest

from hybrid_compute.server.tenants import hash_token
from tests.cli.command import answers, hybrid_compute, started

pytestmark = pytest.mark.timeout(60)


def address_of(process: subprocess.Popen[str]) -> str:
    """Where a server says that it listens."""
    assert process.stdout is not None
    line = process.stdout.readline()
    found = re.search(r"http://[0-9.]+:[0-9]+", line)
    assert found is not None, line
    return found[0]


def ask(url: str, body: Any, token: str | None = None) -> tuple[int, Any]:
    headers = {"Content-Type": "application/json"}
    if token is not None:
        headers["Authorization"] = f"Bearer {token}"
    try:
        with urllib.request.urlopen(urllib.request.Request(url, json.dumps(body).encode(), headers)) as answer:
            return answer.status, json.load(answer)
    except urllib.error.HTTPError as refused:
        with refused:
            return refused.code, json.load(refused)


def test_serve_says_where_it_listens_and_answers_there() -> None:
    """The first line names the address; the tasks of the module are behind it."""
    with started("serve", "shop", "--port", "0", "--workers", "1") as process:
        url = address_of(process)
        assert ask(f"{url}/compute", {"task": "double", "input": 21}) == (200, {"result": 42})
        process.send_signal(signal.SIGTERM)
        assert process.wait(30) == -signal.SIGTERM
        assert process.stderr is not None
        assert process.stderr.read() == ""


def test_ctrl_c_ends_a_server_in_one_line() -> None:
    """Whoever types it sees no traceback."""
    with started("serve", "shop", "--port", "0", "--workers", "1") as process:
        address_of(process)
        process.send_signal(signal.SIGINT)
        assert process.wait(30) == 130
        assert process.stderr is not None
        assert process.stderr.read() == "hybrid-compute: interrupted\n"


def test_tenants_of_a_file_come_in_with_their_tokens(tmp_path: Path) -> None:
    """`token` makes a token and its hash; the file holds the hash, the client sends the token."""
    token, hashed = answers("token")
    assert hash_token(token) == hashed
    tenants = tmp_path / "tenants.toml"
    tenants.write_text(f'[tenant.acme]\ntokens = ["{hashed}"]\ntasks = ["double"]\n')
    with started("serve", "shop", "--port", "0", "--workers", "1", "--tenants", tenants) as process:
        url = address_of(process)
        call = {"task": "double", "input": 21}
        assert ask(f"{url}/compute", call, token) == (200, {"result": 42})
        assert ask(f"{url}/compute", call)[0] == 401
        assert ask(f"{url}/compute", {"task": "text.join", "input": {}}, token)[1]["code"] == "task_not_found"


@pytest.mark.parametrize(
    ("arguments", "reason"),
    [
        (["--host", "0.0.0.0"], "0.0.0.0 can be reached from outside, and there are no tokens"),
        (["--host", "nowhere.invalid", "--insecure"], "cannot listen at nowhere.invalid:8000"),
        (["--tenants", "shop.py"], "the tenants in shop.py cannot be read"),
        (["--tool", "nothing"], "no task is named 'nothing', so it cannot be a tool"),
        (["--certificate", "shop.py", "--port", "0"], "shop.py"),
    ],
)
def test_what_cannot_be_served_is_said_in_one_line(arguments: list[str], reason: str) -> None:
    """Before anything listens."""
    ran = hybrid_compute("serve", "shop", *arguments)
    assert ran.returncode == 2, ran.stderr
    assert reason in ran.stderr
    assert ran.stderr.count("\n") == 1


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("", "there is no tenant in"),
        (
            f'[tenant.acme]\ntokens = ["{hash_token("t")}"]\ntasks = ["dobule"]\n',
            "names tasks that are not in shop: dobule",
        ),
    ],
)
def test_tenants_that_could_do_nothing_are_a_mistake(tmp_path: Path, text: str, reason: str) -> None:
    """An empty file opens no door, and a task that is misspelt is told before somebody misses it."""
    (tmp_path / "tenants.toml").write_text(text)
    ran = hybrid_compute("serve", "shop", "--port", "0", "--tenants", tmp_path / "tenants.toml")
    assert ran.returncode == 2
    assert reason in ran.stderr


def test_a_file_of_keys_that_is_none_is_left_alone() -> None:
    """And named, with what is wrong with it."""
    ran = hybrid_compute("serve", "shop", "--port", "0", "--remember", "shop.py")
    assert ran.returncode == 74
    assert ran.stderr.startswith("hybrid-compute: shop.py: it is not a notebook of keys, and is left alone")


def test_a_port_that_is_taken_is_said_in_one_line() -> None:
    """With the address, and what the system says."""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        ran = hybrid_compute("serve", "shop", "--port", port)
    assert ran.returncode == 2
    assert f"cannot listen at 127.0.0.1:{port}: Address already in use" in ran.stderr


def test_a_module_without_tasks_is_not_served() -> None:
    """There would be nothing to call."""
    ran = hybrid_compute("serve", "json")
    assert ran.returncode == 2
    assert "there is no task in json" in ran.stderr
