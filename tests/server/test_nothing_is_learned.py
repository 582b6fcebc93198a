"""Who sends the input decides how long a task takes: what was quick so far does not run in the server itself."""

from __future__ import annotations

import os
import re

import pytest

from hybrid_compute.tasks import task
from tests.server.serving import serving
from tests.server.talking import Frames, post


@task
def where(text: str) -> int:
    re.fullmatch("(a+)+b", text)  # of no time for most texts, and of hours for a few
    return os.getpid()


@task(cost="trivial")
def where_by_promise(text: str) -> int:
    return os.getpid()


@pytest.mark.parametrize("over", ["http", "socket", "batch"])
def test_only_a_promise_brings_a_task_into_the_server(over: str) -> None:
    """Three hundred quick calls are no reason to trust the next one; its author's word is."""

    def pids(name: str, count: int) -> set[int]:
        calls = [{"task": name, "input": "bbb"}] * count
        if over == "http":
            return {post(served.port, call).value["result"] for call in calls}
        if over == "batch":
            return {each["result"] for each in post(served.port, calls).value}
        return {frames.ask(call)["result"] for call in calls}

    with serving([where, where_by_promise], workers=1) as served, Frames(served.port) as frames:
        assert os.getpid() not in pids("where", 300)
        assert pids("where_by_promise", 3) == {os.getpid()}


def test_a_call_that_was_made_to_last_is_stopped_in_time() -> None:
    """However quick all before it were; meanwhile others are answered."""
    with serving([where, where_by_promise], workers=2) as served, Frames(served.port) as frames:
        for _ in range(100):
            frames.ask({"task": "where", "input": "bbb"})
        frames.say({"id": 1, "task": "where", "input": "a" * 60, "timeout": 0.3})
        assert post(served.port, {"task": "where", "input": "b"}).status == 200
        assert frames.hear()["code"] == "task_timeout"
