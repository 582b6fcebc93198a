"""The page at /docs: it loads nothing from elsewhere, lists what there is, and runs it."""

import json
import re
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.request import urlopen

from hybrid_compute.server.tenants import Tenant, hash_token, new_token
from hybrid_compute.tasks import task
from tests.server.serving import serving
from tests.server.test_javascript import here, node

PAGE = Path(__file__).with_name("javascript") / "page.mjs"


@task
def add(a: int, b: int = 2) -> int:
    """The sum of two numbers."""
    return a + b


@task
def count(to: int) -> Iterator[int]:
    yield from range(to + 1)


@task(name="no/such {thing}")
def odd() -> None:
    raise LookupError("nothing here")


def look_at(*where: str) -> Any:
    """What the script of the page did, without a browser."""
    command = [*node(), str(PAGE), *where]
    ran = subprocess.run(command, check=False, capture_output=True, text=True, timeout=50)
    assert ran.returncode == 0, ran.stderr
    return json.loads(ran.stdout)


def test_the_page_loads_nothing_from_elsewhere() -> None:
    """It is one file, it may talk to its own server alone, and no other page may put it in a frame."""
    with serving(here(add)) as server, urlopen(f"{server.url}/docs") as page:
        policy = page.headers["content-security-policy"]
        text = page.read().decode()
    assert "default-src 'none'" in policy
    assert "connect-src 'self'" in policy
    assert "frame-ancestors 'none'" in policy
    assert re.findall(r"https?:|src=|href=|@import|url\(|innerHTML|eval\(", text) == []


def test_the_page_lists_the_tasks_and_runs_them() -> None:
    """Each comes with an input to begin with; a generator runs as a whole or as a stream; errors say what they are."""
    with serving(here(add, count, odd), title="Numbers") as server:
        seen = look_at(server.url)
    assert (seen["first"], seen["title"]) == ("", "Numbers")
    ran = seen["ran"]
    assert ran["add"] == ['{\n  "a": 1\n}', "200", "3"]
    assert ran["count"] == ["1", "200", "[\n  0,\n  1\n]"]
    assert ran["count as a stream"] == ["1", "200", "0\n1\n"]
    assert ran["no/such {thing}"][:2] == ["", "500 task_failed"]
    assert "raised LookupError: nothing here" in ran["no/such {thing}"][2]
    assert ran["/compute"][1] == "422 invalid_input"
    assert ran["/compute as a stream"][1] == "422 invalid_input"


def test_the_page_asks_for_a_token_where_one_is_needed() -> None:
    """Until there is one it says so; then it lists what that tenant sees, and runs it with the token."""
    token = new_token()
    tenant = Tenant(name="acme", tokens=[hash_token(token)], tasks=frozenset({"add"}))
    with serving(here(add, count), tenants=[tenant]) as server:
        seen = look_at(server.url, token)
    assert seen["first"] == "This server asks for a token."
    assert seen["ran"]["add"] == ['{\n  "a": 1\n}', "200", "3"]
    assert "count" not in seen["ran"]
