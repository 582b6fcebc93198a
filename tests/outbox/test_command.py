"""`hybrid-compute outbox`: looking after an outbox from a shell, also while a program has it open."""

import json
from pathlib import Path
from typing import Any

import pytest

from hybrid_compute import LocalBackend, Outbox
from hybrid_compute.clock import ManualClock
from tests.cli.command import answers, hybrid_compute
from tests.outbox.places import Far, comes_to, double, fail, order


async def fill(path: Path) -> None:
    """One call in each state but `sent`."""
    clock, far = ManualClock(1000.0), Far()
    async with Outbox(path, to=far, clock=clock, now=clock.time) as outbox:
        await comes_to(await outbox.options(key="done").put(double, 4), "done")
        await comes_to(await outbox.options(key="failed").put(fail, "odd"), "failed")
        far.refuses = RuntimeError("oops")
        await comes_to(await outbox.options(key="dead").put(order, "tea"), "dead")
        far.refuses, far.away = None, True
        expired = await outbox.options(key="expired", expires=5.0).put(order, "milk")
        await comes_to(expired, "waiting", reason="connection")
        clock.advance(5.0)
        await comes_to(expired, "expired")
        await outbox.options(key="waiting").put(double, 5)


def listed(path: Path, *options: str) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = json.loads("\n".join(answers("outbox", "list", path, "--json", *options)))
    return found


async def test_it_lists_what_is_kept(tmp_path: Path) -> None:
    """For programs as JSON, for people as a table that says why; all, or what is in a state."""
    await fill(path := tmp_path / "calls.db")
    assert [each["key"] for each in listed(path)] == ["done", "failed", "dead", "expired", "waiting"]
    [dead] = listed(path, "--state", "dead")
    assert (dead["task"], dead["code"], dead["tries"], dead["put"]) == ("order", "backend_error", 1, 1000.0)
    assert [each["key"] for each in listed(path, "--state", "dead", "--state", "expired")] == ["dead", "expired"]
    table = "\n".join(answers("outbox", "list", path))
    assert "the place failed in a way of its own: RuntimeError: oops" in table
    assert "1 of 10" in table
    ran = hybrid_compute("outbox", "list", path, "--state", "sent")
    assert (ran.returncode, ran.stdout, ran.stderr) == (0, "", f"{path} keeps no sent call\n")


async def test_a_call_is_retried_while_a_program_has_the_file_open(tmp_path: Path) -> None:
    """The program notices by itself, sends it, and answers whoever waits."""
    far = Far()
    async with Outbox(tmp_path / "calls.db", to=far) as outbox:
        far.refuses = RuntimeError("oops")
        ticket = await outbox.options(key="a").put(order, "tea")
        await comes_to(ticket, "dead")
        far.refuses = None
        assert answers("outbox", "retry", tmp_path / "calls.db", "a") == ["1 call retried"]
        await comes_to(ticket, "done")
        assert await ticket.result() == "1 tea"


async def test_all_that_was_given_up_is_retried(tmp_path: Path) -> None:
    """Dead and expired alike, and nothing else."""
    await fill(path := tmp_path / "calls.db")
    assert answers("outbox", "retry", path, "--all", "--json") == ['["dead","expired"]']
    assert {each["key"] for each in listed(path, "--state", "waiting")} == {"dead", "expired", "waiting"}


async def test_calls_are_dropped_by_key_or_by_state(tmp_path: Path) -> None:
    """What is dropped is gone, with its result."""
    await fill(path := tmp_path / "calls.db")
    assert answers("outbox", "drop", path, "waiting", "done") == ["2 calls dropped"]
    assert answers("outbox", "drop", path, "--state", "expired", "--json") == ['["expired"]']
    assert [each["key"] for each in listed(path)] == ["failed", "dead"]


async def test_who_waits_for_a_call_that_is_dropped_from_a_shell_hears_of_it(tmp_path: Path) -> None:
    """Also in a program that only waits."""
    async with Outbox(tmp_path / "calls.db", tasks=[double]) as outbox:
        ticket = await outbox.options(key="a").put(double, 4)
        answers("outbox", "drop", tmp_path / "calls.db", "a")
        with pytest.raises(LookupError, match="dropped"):
            await ticket.result()


async def test_a_result_that_another_program_made_arrives(tmp_path: Path) -> None:
    """One program puts and waits, another has the place."""
    async with Outbox(tmp_path / "calls.db") as here:
        ticket = await here.put(double, 4)
        async with Outbox(tmp_path / "calls.db", to=LocalBackend(), tasks=[double]):
            assert await ticket.result() == 8


MISUSE = [
    (["retry", "FILE"], 2, "say which calls: either KEY ... or --all"),
    (["retry", "FILE", "dead", "--all"], 2, "say which calls"),
    (["drop", "FILE"], 2, "say which calls: either KEY ... or --state STATE"),
    (["retry", "FILE", "dead", "nobody"], 2, "there is no call of key 'nobody': nothing was changed"),
    (["retry", "FILE", "dead", "done"], 2, "the call of key 'done' was not given up: it is done"),
    (["drop", "FILE", "dead", "nobody"], 2, "there is no call of key 'nobody'"),
    (["list", "FILE", "--state", "lost"], 2, "'lost' is not one of"),
    (["list", "nowhere.db"], 74, "nowhere.db: No such file or directory"),
    (["drop", __file__, "a"], 74, "it is not an outbox, and is left alone"),
]


@pytest.mark.parametrize(("typed", "code", "text"), MISUSE, ids=map(str, range(len(MISUSE))))
async def test_what_cannot_be_done_is_said_and_changes_nothing(
    typed: list[str], code: int, text: str, tmp_path: Path
) -> None:
    """One line on standard error, an exit code, and everything as it was."""
    await fill(path := tmp_path / "calls.db")
    before = listed(path)
    ran = hybrid_compute("outbox", *(str(path) if word == "FILE" else word for word in typed))
    assert ran.returncode == code
    assert text in ran.stderr
    assert listed(path) == before
