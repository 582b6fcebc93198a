"""`hybrid-compute tasks`: what a module offers."""

from __future__ import annotations

from types import ModuleType

import click
import msgspec

from hybrid_compute.cli import screen
from hybrid_compute.cli.exits import Misuse
from hybrid_compute.cli.targets import tasks_of
from hybrid_compute.schema import json_schema
from hybrid_compute.tasks import AnyTask


def show_tasks(module: ModuleType) -> None:
    """Print a table of the module's tasks: name, kind, facts, and what each is for."""
    found = tasks_of(module)
    if not found:
        click.echo(f"{module.__name__} has no tasks: mark functions with @task", err=True)
        return
    shown = screen.table("task", "kind", "facts", "what it does", numbers=False)
    for name in sorted(found):
        shown.add_row(name, found[name].kind, facts(found[name]), _first_line(found[name]))
    screen.console().print(shown)


def show_schemas(module: ModuleType) -> None:
    """Print the JSON Schemas of every task's input and output, as one JSON object by task name."""
    found = tasks_of(module)
    try:
        schemas = {name: json_schema(found[name]) for name in sorted(found)}
    except TypeError as error:
        raise Misuse(str(error)) from error
    click.echo(msgspec.json.format(msgspec.json.encode(schemas), indent=2))


def facts(task: AnyTask) -> str:
    """What a runtime goes by, in a few words."""
    known = {
        "pure": task.pure,
        "private": task.private,
        f"timeout {task.timeout or 0:g} s": task.timeout is not None,
        f"needs {', '.join(sorted(task.needs))}": bool(task.needs),
        f"cost {task.cost}": task.cost is not None,
        f"retries {task.retries}": task.retries > 0,
    }
    return ", ".join(words for words, true in known.items() if true)


def _first_line(task: AnyTask) -> str:
    return (task.__doc__ or "").strip().partition("\n")[0]
