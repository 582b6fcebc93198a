"""What a person sees: consoles, bars, and numbers in units that can be read."""

from __future__ import annotations

from collections.abc import Callable
from math import log10

from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.progress import BarColumn, Progress, ProgressColumn, TextColumn, TimeElapsedColumn
from rich.progress import Task as Shown
from rich.table import Table
from rich.text import Text


def console(*, stderr: bool = False) -> Console:
    """A console that prints text as it is; wide where no terminal says how wide it is."""
    made = Console(stderr=stderr, highlight=False, markup=False, emoji=False, soft_wrap=False)
    if not made.is_terminal:
        made.width = 160
    return made


def table(*columns: str, title: str | None = None, numbers: bool = True) -> Table:
    """A table whose first column is text; the others are numbers, unless they are not."""
    made = Table(box=SIMPLE_HEAD, title=title, title_justify="left", title_style="bold", pad_edge=False)
    for index, name in enumerate(columns):
        made.add_column(name, justify="right" if index and numbers else "left", overflow="fold")
    return made


def bar(to: Console, *columns: ProgressColumn) -> Progress:
    """A progress bar on a terminal; nothing where nobody watches."""
    shown = (TextColumn("{task.description}", markup=False), BarColumn(), *columns, TimeElapsedColumn())
    return Progress(*shown, console=to, disable=not to.is_terminal)


class Saying(ProgressColumn):
    """Whatever `words` says at the moment."""

    def __init__(self, words: Callable[[], str]) -> None:
        super().__init__()
        self._words = words

    def render(self, task: Shown) -> Text:
        return Text(self._words())


def size(count: float) -> str:
    """Bytes in a unit that fits.

    >>> size(512), size(153468), size(31_493_857)
    ('512 B', '153.5 kB', '31.5 MB')
    """
    if count < 1000:
        return f"{count:.0f} B"
    unit = min(4, int(log10(count)) // 3)
    return f"{count / 1000**unit:.1f} {'kMGT'[unit - 1]}B"
