"""The source of a function, what its names stand for, and how a refusal points into it."""

from __future__ import annotations

import ast
import builtins
import inspect
import textwrap
from collections.abc import Callable
from pathlib import Path
from typing import Any, NoReturn

from hybrid_compute.errors import InvalidInput

MISSING = object()


class KernelError(InvalidInput):
    """A function is no kernel, or a kernel was given what it does not take; the message says why, and where."""


class Source:
    """A function that is to be a kernel: its tree, and what surrounds it.

    Names are looked up once, here and now: a constant that changes later does not change the kernel.
    """

    def __init__(self, function: Callable[..., Any]) -> None:
        self.function = function
        self.name = function.__name__
        code = getattr(function, "__code__", None)
        if code is None:
            raise KernelError(f"{function!r} is not written in Python, so it cannot be a kernel")
        self.file: str = code.co_filename
        self.locals: frozenset[str] = frozenset(code.co_varnames)
        try:
            lines, first = inspect.getsourcelines(function)
        except (OSError, TypeError) as error:
            raise KernelError(
                f"{self.name}: the source of this function is not to be found ({self.file}): a kernel is compiled "
                f"from its source, so it has to stand in a file"
            ) from error
        self.lines = textwrap.dedent("".join(lines)).splitlines()
        self.first = first
        self.tree = self._parse()
        self.closure = dict(zip(code.co_freevars, [cell_of(cell) for cell in function.__closure__ or ()], strict=False))

    def _parse(self) -> ast.FunctionDef:
        try:
            tree = ast.parse("\n".join(self.lines)).body[0]
        except SyntaxError:  # a lambda within an expression, most often
            tree = None
        if not isinstance(tree, ast.FunctionDef):
            raise KernelError(
                f"{self.file}:{self.first}: {self.name} is not an ordinary `def`, so it cannot be a kernel"
            )
        return tree

    def lookup(self, name: str) -> Any:
        """What a name that is no local stands for; `MISSING` if nothing."""
        if name in self.locals:  # also where it has no value yet
            return MISSING
        for scope in (self.closure, self.function.__globals__, vars(builtins)):
            if name in scope:
                return scope[name]
        return MISSING

    def annotations(self) -> dict[str, Any]:
        try:
            return inspect.get_annotations(self.function, eval_str=True)
        except NameError as error:
            self.refuse(self.tree, f"an annotation cannot be read: {error}")

    def where(self, node: ast.AST) -> str:
        """`file:line`, for people."""
        return f"{Path(self.file).name}:{self.line(node)}"

    def line(self, node: ast.AST) -> int:
        return self.first + int(getattr(node, "lineno", 1)) - 1

    def text(self, node: ast.AST) -> str:
        """The line of the source that a node begins on."""
        return self.lines[int(getattr(node, "lineno", 1)) - 1].strip()

    def refuse(self, node: ast.AST, reason: str) -> NoReturn:
        raise KernelError(f"{self.file}:{self.line(node)}, in {self.name}: `{self.text(node)}`: {reason}")


def cell_of(cell: Any) -> Any:
    try:
        return cell.cell_contents
    except ValueError:  # the name gets its value later
        return MISSING
