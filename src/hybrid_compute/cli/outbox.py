"""`hybrid-compute outbox`: what an outbox keeps, and what becomes of the calls that it has given up."""

from __future__ import annotations

from collections.abc import Generator, Sequence
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path

import click
import msgspec

from hybrid_compute.cli import screen
from hybrid_compute.cli.exits import Misuse, amount
from hybrid_compute.outbox import store
from hybrid_compute.outbox.entries import STATES, State, Status
from hybrid_compute.outbox.file import one_step


def show(path: Path, states: Sequence[State], *, as_json: bool) -> None:
    """Print the calls in these states, or all, in the order in which they were put."""
    with one_step(path) as db:
        found = store.listed(db, states or STATES)
    if as_json:
        click.echo(msgspec.json.format(msgspec.json.encode(found), indent=2))
    elif found:
        _print_table(found)
    else:
        click.echo(f"{path} keeps no {' or '.join(states)} call" if states else f"{path} is empty", err=True)


def retry(path: Path, keys: Sequence[str], *, as_json: bool) -> None:
    """Let calls that were given up wait again: all, if no keys are said. Raises `Misuse` if one was not given up."""
    with one_step(path) as db, _misuse():
        retried = store.retry(db, keys or None)
    _say("retried", retried, as_json)


def drop(path: Path, keys: Sequence[str], states: Sequence[State], *, as_json: bool) -> None:
    """Forget these calls, or those in these states. Raises `Misuse` if one is not there or under way."""
    with one_step(path) as db, _misuse():
        dropped = store.drop(db, keys or None, states)
    _say("dropped", dropped, as_json)


@contextmanager
def _misuse() -> Generator[None]:
    try:
        yield
    except (LookupError, ValueError) as error:
        raise Misuse(str(error.args[0])) from error


def _say(what: str, keys: Sequence[str], as_json: bool) -> None:
    click.echo(msgspec.json.encode(keys).decode() if as_json else f"{amount(len(keys), 'call')} {what}")


def _print_table(found: Sequence[Status]) -> None:
    shown = screen.table("key", "task", "state", "tries", "put", "why", numbers=False)
    for each in found:
        put = datetime.fromtimestamp(each.put).isoformat(" ", "seconds")
        shown.add_row(each.key, each.task, each.state, f"{each.tries} of {each.most}", put, each.reason)
    screen.console().print(shown)
