"""`hybrid-compute run`: one call, its answer on standard output."""

from __future__ import annotations

from collections.abc import Generator
from contextlib import contextmanager
from typing import BinaryIO

from hybrid_compute.cli import screen
from hybrid_compute.cli.exits import Misuse
from hybrid_compute.cli.streams import write_line
from hybrid_compute.events import Event, Hook, Progress
from hybrid_compute.runtime import Runtime, Verbs
from hybrid_compute.schema import bind_json, encode_json
from hybrid_compute.tasks import AnyTask


async def run(
    task: AnyTask, data: bytes, answers: BinaryIO, *, strategy: str | None = None, timeout: float | None = None
) -> None:
    """Run a task on JSON and write its result as a line of JSON; a generator's items, a line each as they come."""
    args, kwargs = bind_json(task, data)
    with _progress_bar() as hooks:
        async with Runtime(hooks=hooks) as rt:
            verbs = under(rt, strategy, timeout)
            if not task.streams:
                write_line(answers, encode_json(await verbs.run(task, *args, **kwargs)))
                return
            async with verbs.stream(task, *args, **kwargs) as items:
                async for item in items:
                    write_line(answers, encode_json(item))


def under(rt: Runtime, strategy: str | None, timeout: float | None) -> Verbs:
    """The verbs of a runtime under what was typed. Raises `Misuse` for an unknown strategy."""
    try:
        return rt.options(strategy=strategy, timeout=timeout)
    except ValueError as error:
        raise Misuse(str(error)) from error


@contextmanager
def _progress_bar() -> Generator[list[Hook]]:
    """Hooks that show what the task itself reports of its progress, if somebody watches."""
    console = screen.console(stderr=True)
    if not console.is_terminal:
        yield []
        return
    with screen.bar(console) as progress:
        shown = progress.add_task("", visible=False)

        def show(event: Event) -> None:
            if isinstance(event, Progress):
                progress.update(shown, description=event.note, completed=event.done, total=event.total, visible=True)

        yield [show]
