"""Runs one program, and reports what became of it.

The program is a module named `__main__`. It sees `input` and the functions that were granted; its answer is what it
leaves in `result`. If it is the source of a function, that is called with the input, and what it returns is the answer.
"""

from __future__ import annotations

import base64
import json
import linecache
import os
import random
import sys
import time
import traceback
from collections.abc import Callable, Collection
from types import ModuleType, TracebackType
from typing import Any, NoReturn

from hybrid_compute.sandbox.guest.files import files
from hybrid_compute.sandbox.guest.output import Output, OutputExceeded
from hybrid_compute.sandbox.guest.values import sayer, untagged

NAME = "<sandbox>"

host: Any = None
"""The functions of the host: `grant` and `sleep`."""

_seed = random.seed
_reserve: list[bytes] = []
"""Memory to say in that there is no more. Nobody touches it before, so it costs nothing."""


class Granted(RuntimeError):
    """A function of the host has raised."""

    __module__ = "builtins"  # a traceback names it without where it comes from


class Unanswerable(Exception):
    """`result` cannot be given back."""


def run(job: str, given: str) -> tuple[str, str]:
    """The report and the result, for a job and an input."""
    todo = json.loads(job)
    output = Output(todo["output"])
    for name in ("stdout", "stderr", "__stdout__", "__stderr__"):
        setattr(sys, name, output)
    report: dict[str, Any] = {"outcome": "done"}
    result = ""
    try:
        program = _prepare(todo)
        if "function" in todo:
            call = json.loads(given, object_hook=untagged)
            _perform(todo["source"], program)
            answer = vars(program)[todo["function"]](*call["args"], **call["kwargs"])
            report["kind"], result = _answer(answer, todo["returns"])
        else:
            program.input = base64.b64decode(given) if todo["bytes"] else json.loads(given)  # type: ignore[attr-defined]
            _perform(todo["source"], program)
            report["kind"], result = _answer(vars(program).get("result", output.text or None))
        if len(result) > todo["result"]:
            report, result = {"outcome": "limit", "limit": "result"}, ""
    except OutputExceeded:
        pass
    except BaseException as error:
        _reserve.clear()
        report = _failure(error)
    if output.exceeded:
        report, result = {"outcome": "limit", "limit": "output"}, ""
    return json.dumps({**report, "output": output.text}), result


def _prepare(todo: dict[str, Any]) -> ModuleType:
    """The module that the program will be, with all that it may see."""
    for path, content in todo["files"].items():
        files.put(path, base64.b64decode(content))
    _seed(todo["seed"])
    linecache.cache[NAME] = (len(todo["source"]), None, todo["source"].splitlines(keepends=True), NAME)
    program = ModuleType("__main__")
    sys.modules["__main__"] = program
    sys.argv = [NAME]
    for name in todo["grants"]:
        setattr(program, name, _granted(name))
    return program


def _perform(source: str, program: ModuleType) -> None:
    try:
        exec(compile(source, NAME, "exec", dont_inherit=True), vars(program))
    except SystemExit as stop:
        if stop.code not in (None, 0):
            raise


def _answer(result: object, types: Collection[str] = ()) -> tuple[str, str]:
    """The result as the host reads it, and its kind. Of what JSON cannot say it may have parts of these types."""
    if isinstance(result, bytes | bytearray | memoryview):
        return "bytes", base64.b64encode(result).decode()
    try:
        text = json.dumps(result, allow_nan=False, default=sayer(types))
        if "\\ud" in text:  # not all of these are characters
            json.dumps(result, ensure_ascii=False, default=sayer(types)).encode()
    except (TypeError, ValueError, RecursionError) as error:
        kind = type(result).__name__
        raise Unanswerable(f"`result`, of type {kind}, is neither bytes nor can it be JSON: {error}") from None
    return "json", text


def _failure(error: BaseException) -> dict[str, Any]:
    """What happened, in the program's own lines."""
    if isinstance(error, MemoryError) and "Parser stack" not in str(error):  # which is a limit of the parser's own
        return {"outcome": "limit", "limit": "memory"}
    if isinstance(error, Unanswerable):
        return {"outcome": "failed", "message": _sendable(str(error)), "traceback": ""}
    error.__traceback__ = _own(error.__traceback__)
    text = "".join(traceback.format_exception(error))
    return {"outcome": "failed", "message": _sendable(_message(error)), "traceback": _sendable(text), **_named(error)}


def _named(error: BaseException) -> dict[str, Any]:
    """By what the host can make the same exception, if it is one of Python's own with plain arguments."""
    plain = all(type(each) in (str, bool, type(None)) or _is_small(each) for each in error.args)
    if type(error).__module__ != "builtins" or not plain or len(error.args) > 10:
        return {}
    return {"type": type(error).__name__, "args": [_sendable(a) if type(a) is str else a for a in error.args]}


def _is_small(value: object) -> bool:
    """Whether it is a number that JSON can say, and everybody can read."""
    return type(value) in (int, float) and -1e18 < value < 1e18  # type: ignore[operator]  # NaN is not


def _message(error: BaseException) -> str:
    if isinstance(error, SystemExit):
        return f"the program exited with {error.code!r}"
    if isinstance(error, SyntaxError):
        return f"{type(error).__name__}: {error}"  # with the line, in one line
    return "".join(traceback.format_exception_only(error)).strip()


def _own(trace: TracebackType | None) -> TracebackType | None:
    """A traceback without the frames of this package, which are not the program's fault."""
    frames: list[TracebackType] = []
    while trace is not None:
        if not trace.tb_frame.f_code.co_filename.startswith(_HERE):
            frames.append(trace)
        trace = trace.tb_next
    for frame, following in zip(frames, [*frames[1:], None], strict=False):  # which has one more if there is none
        frame.tb_next = following
    return frames[0] if frames else None


_LONGEST = 20_000
"""Characters of a message or of a traceback."""
_HERE = __file__.rpartition("/")[0]


def _sendable(text: str) -> str:
    cut = text if len(text) <= _LONGEST else f"{text[: _LONGEST // 2]} [...] {text[-_LONGEST // 2 :]}"
    return cut.encode("utf-8", "backslashreplace").decode()


def _granted(name: str) -> Callable[..., Any]:
    def call(*args: Any, **kwargs: Any) -> Any:
        answer = json.loads(host.grant(name, json.dumps({"args": args, "kwargs": kwargs}, allow_nan=False)))
        if "error" in answer:
            raise Granted(f"{name}: {answer['error']}")
        return answer["value"]

    call.__name__ = call.__qualname__ = name
    return call


def _sleep(seconds: float, /) -> None:
    if not seconds >= 0:
        raise ValueError("sleep length must be non-negative")
    host.sleep(float(seconds))


def _leave(status: int = 0) -> NoReturn:
    raise SystemExit(status)


def _write(descriptor: int, data: bytes, /) -> int:
    if descriptor not in (1, 2):
        raise OSError(9, os.strerror(9))
    return sys.stdout.buffer.write(data)


def warm_up() -> None:
    """Make this a place to run programs in, and run some, so that the first one finds everything in use."""
    time.sleep, os._exit, os.write = _sleep, _leave, _write  # type: ignore[assignment]
    files.install()
    job = {"source": _FIRST, "bytes": False, "files": {}, "grants": [], "seed": 0, "output": 100, "result": 100}
    for _ in range(20):
        report, result = run(json.dumps(job), "[1, 2]")
        if result != "3" or json.loads(report)["output"] != "3\n":
            raise AssertionError(report)
    run(json.dumps({**job, "source": "1 / 0"}), "null")
    _reserve.append(bytes(2 << 20))


_FIRST = """
def total(numbers):
    return sum(number for number in numbers)

result = total(input)
print(f"{result}")
"""
