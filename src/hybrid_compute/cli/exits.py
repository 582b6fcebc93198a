"""What a run of the command ends with: an exit code, and for a person one line.

The code answers the caller's first question, as the error tree does: was it the task, the place, or me?
"""

from __future__ import annotations

from enum import IntEnum

import click

from hybrid_compute.errors import (
    BackendError,
    HybridComputeError,
    InvalidInput,
    NoBackendAvailable,
    PolicyRefused,
    TaskFailed,
    TaskNotFound,
    TaskTimeout,
)


class Exit(IntEnum):
    """Exit codes; the table in `--help` is made from this."""

    OK = 0
    TASK_FAILED = 1
    USAGE = 2
    INVALID_INPUT = 3
    NO_PLACE = 4
    TIMEOUT = 5
    BUG = 70
    FILE = 74
    INTERRUPTED = 130
    READER_GONE = 141


MEANING = {
    Exit.OK: "all went well",
    Exit.TASK_FAILED: "the task's own code failed",
    Exit.USAGE: "the command was not understood, or the module or task was not found",
    Exit.INVALID_INPUT: "the input does not fit the task",
    Exit.NO_PLACE: "no backend could run it or a policy forbids it, or the backend failed",
    Exit.TIMEOUT: "the task was not done in time",
    Exit.BUG: "an error in hybrid-compute itself",
    Exit.FILE: "a file could not be read or written",
    Exit.INTERRUPTED: "Ctrl-C",
    Exit.READER_GONE: "whoever read the output has gone",
}


class Misuse(click.ClickException):
    """What was asked for cannot be done, and the message says why; reading `--help` would not help."""


class Disagreement(Exception):
    """The same job had different results in different places."""


class LineFailed(Exception):
    """A line of the input came to no answer; `__cause__` is why."""

    def __init__(self, number: int, source: str) -> None:
        super().__init__(f"line {number} of {source}")


class LinesFailed(Exception):
    """Some lines were answered with an error, as was asked for."""

    def __init__(self, count: int) -> None:
        super().__init__(f"{amount(count, 'line')} failed: the answers say why")


class PlacesFailed(Exception):
    """The doctor has found places that do not work."""


def amount(count: int, noun: str) -> str:
    """A number of things, in words.

    >>> amount(1, "line"), amount(1000, "line")
    ('1 line', '1,000 lines')
    """
    return f"{count:,} {noun}{'' if count == 1 else 's'}"


def code_for(error: BaseException) -> Exit:
    """The exit code that stands for an error."""
    match error:
        case LineFailed(__cause__=BaseException() as cause):
            return code_for(cause)
        case KeyboardInterrupt():
            return Exit.INTERRUPTED
        case InvalidInput():
            return Exit.INVALID_INPUT
        case TaskTimeout():
            return Exit.TIMEOUT
        case click.ClickException() | TaskNotFound():
            return Exit.USAGE
        case BackendError() | NoBackendAvailable() | PolicyRefused() | PlacesFailed():
            return Exit.NO_PLACE
        case HybridComputeError() | LinesFailed() | Disagreement():
            return Exit.TASK_FAILED
        case BrokenPipeError():
            return Exit.READER_GONE
        case OSError():
            return Exit.FILE
        case _:
            return Exit.BUG


def line_for(error: BaseException) -> str:
    """An error as one readable line."""
    match error:
        case LineFailed(__cause__=BaseException() as cause):
            text = f"{error}: {line_for(cause)}"
        case KeyboardInterrupt():
            text = "interrupted"
        case click.UsageError(ctx=click.Context() as context):
            text = f"{error.format_message()} (see {context.command_path} --help)"
        case click.ClickException():
            text = error.format_message()
        case TaskFailed(remote_traceback=trace) if trace:
            text = f"{error} (--traceback shows where)"
        case OSError(strerror=str() as reason, filename=str() as name):
            text = f"{name}: {reason}"
        case OSError():
            text = f"reading or writing failed: {error.strerror or error}"
        case HybridComputeError() | LinesFailed() | PlacesFailed() | Disagreement():
            text = str(error)
        case _:
            text = f"this is a bug in hybrid-compute: {type(error).__name__}: {error} (--traceback shows where)"
    return " ".join(text.split())
