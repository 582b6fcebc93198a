"""The source of a function, as a program of its own: what `@task(sandbox=True)` sends into the sandbox.

The function must be complete in itself. What it uses of its module does not exist where it runs, and is refused here,
when it is defined, and not there, when it is called.
"""

from __future__ import annotations

import ast
import builtins
import dis
import inspect
from collections.abc import Callable, Iterable, Iterator
from types import CodeType
from typing import Any


def source_of(fn: Callable[..., Any], granted: Iterable[str] = ()) -> str:
    """A program that defines the function, and nothing else. What was `granted` is there too.

    Its lines have the numbers that they have in the file. Raises `TypeError` for a function that is not complete.
    """
    name = getattr(fn, "__name__", repr(fn))
    lines, first = _lines(fn, name)
    match ast.parse("".join(lines)).body:
        case [ast.FunctionDef() as definition] | [ast.If(body=[ast.FunctionDef() as definition])]:
            pass
        case _:
            raise TypeError(f"{name} cannot run in a sandbox: only a plain function can, defined by `def`")
    if any(isinstance(node, ast.Yield | ast.YieldFrom) for node in ast.walk(definition)):
        raise TypeError(f"{name} cannot run in a sandbox: it is a generator, and there only a result comes out")
    around = lines[: lines[0] == _AROUND]
    kept = "".join([*around, *lines[definition.lineno - 1 :]])  # without what decorates it
    _insist_on_complete(fn, kept, name, granted)
    before = "\n" * (first + definition.lineno - 2 - len(around))
    return f"{before}{kept}"


_AROUND = "if True:\n"
"""Stands above a function that is indented. To take its indentation away would take it from its texts as well."""


def _lines(fn: Callable[..., Any], name: str) -> tuple[list[str], int]:
    """The lines of a program that defines the function, and the number in its file of the first one."""
    try:
        lines, first = inspect.getsourcelines(fn)
    except (OSError, TypeError) as error:
        raise TypeError(f"{name} cannot run in a sandbox: its source is needed, and cannot be had: {error}") from error
    first = max(first, 1)
    return ([_AROUND, *lines], first - 1) if lines[0][0].isspace() else (lines, first)


def _insist_on_complete(fn: Callable[..., Any], source: str, name: str, granted: Iterable[str]) -> None:
    code: Any = getattr(fn, "__code__", None)
    if isinstance(code, CodeType) and code.co_freevars:
        raise _incomplete(name, sorted(code.co_freevars), "of the function around it")
    # Hints are not evaluated in there, so they may name anything.
    program = compile(f"from __future__ import annotations\n{source}", "<source>", "exec", dont_inherit=True)
    known = {*vars(builtins), "__name__", name, *granted}
    outside = sorted(set(_globals(program)) - known)
    if outside:
        raise _incomplete(name, outside, "of its module")


def _incomplete(name: str, outside: list[str], where: str) -> TypeError:
    return TypeError(
        f"{name} cannot run in a sandbox: it uses {', '.join(outside)} {where}, which is not there; "
        f"import modules inside the function, and pass values as arguments"
    )


def _globals(code: CodeType) -> Iterator[str]:
    """The names that this code, or code within it, looks up at the top of the module."""
    own = {each.argval for each in dis.get_instructions(code) if each.opname == "STORE_NAME"}  # of a class
    for each in dis.get_instructions(code):
        if each.opname in ("LOAD_GLOBAL", "LOAD_NAME") and each.argval not in own:
            yield str(each.argval)
    for constant in code.co_consts:
        if isinstance(constant, CodeType):
            yield from _globals(constant)
