"""Values and exceptions that do what no well-behaved ones do, and tasks that make them."""

import sys
import threading
from collections.abc import AsyncIterator, Iterator
from typing import Any, NoReturn

from hybrid_compute import errors, task
from hybrid_compute.tasks import AnyTask, Task


class Holder:
    def __init__(self, child: object) -> None:
        self.child = child


class RaisesWhenPickled:
    def __init__(self, error: BaseException) -> None:
        self.error = error

    def __reduce__(self) -> NoReturn:
        raise self.error


def _refuse() -> NoReturn:
    raise RuntimeError("not over there")


class Unreadable:
    def __reduce__(self) -> Any:
        return _refuse, ()


class ExitsWhenRead:
    def __reduce__(self) -> Any:
        return sys.exit, (3,)


def value(kind: str) -> object:
    if kind == "fine":
        return "fine"
    if kind == "lock":
        return {"path": [threading.Lock()]}
    if kind == "deep":
        deep: list[Any] = []
        for _ in range(100_000):
            deep = [deep]
        return deep
    if kind == "unreadable":
        return Unreadable()
    if kind == "exits when read":
        return ExitsWhenRead()
    error: type[BaseException] = getattr(__builtins__, kind, None) or __builtins__[kind]  # type: ignore[index]
    return RaisesWhenPickled(error("in the middle of pickling"))


@task
def make(kind: str) -> object:
    return value(kind)


@task
async def make_async(kind: str) -> object:
    return value(kind)


@task
def stream(kind: str) -> Iterator[object]:
    for _ in range(3):
        yield "fine"
    yield value(kind)
    while True:
        yield "never seen"


@task
async def stream_async(kind: str) -> AsyncIterator[object]:
    for _ in range(3):
        yield "fine"
    yield value(kind)
    while True:
        yield "never seen"


_here = __name__


def only_here() -> AnyTask:
    """A task of a module that was made by hand under a name that a worker finds something else under."""
    import tests.faults.only_in_parent as module

    return Task(module.function)


# Exceptions.


class OddError(Exception):
    pass


class WantsMore(OddError):
    def __init__(self, first: str, second: int) -> None:
        super().__init__(f"{first} {second}")


class ReducesTo(OddError):
    def __init__(self, message: str, reduced: Any) -> None:
        super().__init__(message)
        self.reduced = reduced

    def __reduce__(self) -> Any:
        if isinstance(self.reduced, BaseException):
            raise self.reduced
        return self.reduced


class BadStr(OddError):
    def __init__(self, error: BaseException) -> None:
        self.error = error

    def __str__(self) -> str:
        raise self.error


WORDS = "the words of it"


def odd_error(kind: str) -> BaseException:
    class LocalOdd(OddError):
        def __reduce__(self) -> Any:
            return LocalOdd, (1, 2, threading.Lock())

    made: dict[str, Any] = {
        "holds a lock": lambda: OddError(WORDS, threading.Lock()),
        "constructor wants more": lambda: WantsMore(WORDS, 2),
        "local class": lambda: LocalOdd(WORDS),
        "raises when unpickled": lambda: ReducesTo(WORDS, (_refuse, ())),
        "raises when pickled": lambda: ReducesTo(WORDS, ZeroDivisionError()),
        "exits when unpickled": lambda: ReducesTo(WORDS, (sys.exit, (3,))),
        "raises in str": lambda: BadStr(ZeroDivisionError()),
        "exits in str": lambda: BadStr(SystemExit(3)),
        "unpickles to something else": lambda: ReducesTo(WORDS, (dict, ())),
        "turns into a base exception": lambda: ReducesTo(WORDS, (KeyboardInterrupt, (WORDS,))),
    }
    error: BaseException = made[kind]()
    return error


@task
def fail_oddly(kind: str) -> NoReturn:
    raise odd_error(kind)


@task
async def fail_oddly_async(kind: str) -> NoReturn:
    fail_oddly(kind)


@task
def fail_oddly_in_stream(kind: str) -> Iterator[int]:
    yield 1
    fail_oddly(kind)


@task
def fail_oddly_from(kind: str) -> NoReturn:
    try:
        1 / 0  # noqa: B018  # it raises
    except ZeroDivisionError as error:
        raise odd_error(kind) from error
    raise AssertionError


@task
def raise_it(error: BaseException) -> NoReturn:
    raise error


@task
def raise_ours(kind: str) -> NoReturn:
    raise getattr(errors, kind)("of its own accord")


@task
def fail_with_a_history() -> NoReturn:
    try:
        try:
            1 / 0  # noqa: B018  # it raises
        except ZeroDivisionError:
            raise KeyError("second")  # noqa: B904  # the context is what is tested
    except KeyError as error:
        last = ValueError("in the end")
        last.add_note("while testing")
        raise last from error


@task
def fail_while_handling(suppress: bool) -> NoReturn:
    try:
        1 / 0  # noqa: B018  # it raises
    except ZeroDivisionError:
        if suppress:
            raise ValueError("alone") from None
        raise ValueError("meanwhile")  # noqa: B904  # the context is what is tested


@task
def fail_in_a_group() -> NoReturn:
    member = KeyError("two")
    member.add_note("of a member")
    group = ExceptionGroup("several", [ValueError("one"), ExceptionGroup("inner", [member])])
    group.add_note("of the group")
    raise group


@task
def fail_in_a_circle() -> NoReturn:
    one, other = ValueError("one"), KeyError("other")
    one.__cause__, other.__cause__ = other, one
    raise one


@task
def fail_after_many(count: int) -> NoReturn:
    error = ValueError("the last")
    at: BaseException = error
    for number in range(count):
        at.__cause__ = ValueError(f"before {number}")
        at = at.__cause__
    raise error
