"""The source of a function, what its names stand for, and how a refusal points into it."""

from __future__ import annotations

import ast
import builtins
import copy
import inspect
import textwrap
from collections.abc import Callable
from pathlib import Path
from types import CodeType
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
        self.code: CodeType = code
        self.file: str = code.co_filename
        self.locals = _names(code)
        try:
            lines, first = inspect.getsourcelines(function)
        except (OSError, TypeError) as error:
            raise self._sourceless() from error
        self.lines = textwrap.dedent("".join(lines)).splitlines()
        self.first = first
        self.is_inner = False
        self.tree = self._parse()
        self.closure = dict(zip(code.co_freevars, [cell_of(cell) for cell in function.__closure__ or ()], strict=False))

    def _parse(self) -> ast.FunctionDef:
        try:
            tree = next(iter(ast.parse("\n".join(self.lines)).body), None)
        except SyntaxError:  # a lambda within an expression, most often
            tree = None
        # What `exec` made is of the file <string>, and so is all of `python -c`, whose text Python 3.13 keeps.
        if self.code.co_name not in ("<lambda>", getattr(tree, "name", None)):
            raise self._sourceless()
        if not isinstance(tree, ast.FunctionDef):
            raise KernelError(
                f"{self.file}:{self.first}: {self.name} is not an ordinary `def`, so it cannot be a kernel"
            )
        return tree

    def _sourceless(self) -> KernelError:
        return KernelError(
            f"{self.name}: the source of this function is not to be found ({self.file}): a kernel is compiled "
            f"from its source, so it has to stand in a file"
        )

    def lookup(self, name: str) -> Any:
        """What a name that is no local stands for; `MISSING` if nothing."""
        if name in self.locals:  # also where it has no value yet
            return MISSING
        for scope in (self.closure, self.function.__globals__, vars(builtins)):
            if name in scope:
                return scope[name]
        return MISSING

    def annotations(self) -> dict[str, Any]:
        if self.is_inner:  # there is no such function yet, of which they could be asked
            given = {each.arg: each.annotation for each in [*self.tree.args.posonlyargs, *self.tree.args.args]}
            given["return"] = self.tree.returns
            return {name: self.evaluate(each) for name, each in given.items() if each is not None}
        try:
            return inspect.get_annotations(self.function, eval_str=True)
        except NameError as error:
            self.refuse(self.tree, f"an annotation cannot be read: {error}")

    def inner(self, node: ast.FunctionDef) -> Source:
        """A function that is defined in this one."""
        found = copy.copy(self)
        codes = [each for each in self.code.co_consts if isinstance(each, CodeType)]
        first = self.line(node)
        code = next((each for each in codes if (each.co_name, each.co_firstlineno) == (node.name, first)), None)
        if code is None:
            self.refuse(node, f"{node.name} is never defined: nothing comes here")
        found.tree, found.code, found.locals = node, code, _names(code)
        found.name = f"{self.name}.{node.name}"
        found.is_inner = True
        return found

    def evaluate(self, annotation: ast.expr) -> Any:
        """What an annotation within the function stands for."""
        try:
            return eval(ast.unparse(annotation), self.function.__globals__, self.closure)
        except Exception as error:  # an annotation may be any expression
            self.refuse(annotation, f"the annotation cannot be read: {error}")

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


def _names(code: CodeType) -> frozenset[str]:
    """The locals of a function, also those that functions in it read."""
    return frozenset(code.co_varnames + code.co_cellvars)


def cell_of(cell: Any) -> Any:
    try:
        return cell.cell_contents
    except ValueError:  # the name gets its value later
        return MISSING
