"""Tasks are the functions they wrap, with facts; registries are objects that know no other."""

import dataclasses
import functools
import gc
import importlib
import inspect
import math
import pickle
import subprocess
import sys
import threading
import weakref
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import cloudpickle
import pytest

from hybrid_compute.errors import TaskNotFound
from hybrid_compute.tasks import AnyTask, PerTask, Task, TaskRegistry, as_task, is_importable, task


@task
def double(x: int) -> int:
    """Twice as much."""
    return 2 * x


@task(name="text.shout", pure=True, timeout=5.0, private=True, needs={"cpu"}, cost="cpu", retries=2)
def shout(text: str) -> str:
    return text.upper()


def plain(x: int) -> int:
    return x + 1


class Shop:
    @task
    @staticmethod
    def price(what: str) -> int:
        return len(what)

    def sell(self, what: str) -> str:
        return f"sold {what}"

    def __call__(self) -> str:
        return "open"


# The function and the facts.


def test_a_task_is_still_the_function() -> None:
    """Calling it runs the function here; name, docstring and signature are the function's."""
    assert double(21) == 42
    assert inspect.signature(double) == inspect.signature(double.fn)
    assert vars(double)["__name__"] == "double"
    assert double.__doc__ == "Twice as much."
    assert double.fn(4) == 8


def test_the_facts_have_defaults() -> None:
    """A bare `@task` promises nothing."""
    facts = (double.name, double.pure, double.timeout, double.private, double.needs, double.cost, double.retries)
    assert facts == ("double", False, None, False, frozenset(), None, 0)


def test_the_facts_are_as_given() -> None:
    """And the decorated function is called as before."""
    facts = (shout.name, shout.pure, shout.timeout, shout.private, shout.needs, shout.cost, shout.retries)
    assert facts == ("text.shout", True, 5.0, True, frozenset({"cpu"}), "cpu", 2)
    assert shout("hello") == "HELLO"


@pytest.mark.parametrize("timeout", [0, -1.0, math.nan])
def test_a_timeout_must_be_positive(timeout: float) -> None:
    """A mistake is told where it is made, with the name of the task."""
    with pytest.raises(ValueError, match="timeout of task 'plain'"):
        task(name="plain", timeout=timeout)(plain)


def test_retries_must_not_be_negative() -> None:
    """The same for the other number."""
    with pytest.raises(ValueError, match="retries"):
        Task(plain, retries=-1)


def test_needs_given_as_one_string_is_an_error_that_says_what_to_write() -> None:
    """Or the task would need the letters c, p and u."""
    with pytest.raises(TypeError, match=r"needs=\{'cpu'\}"):
        Task(plain, needs="cpu")


@pytest.mark.parametrize("wrong", ["yes", 1, 0, None, int, object()])
def test_what_is_no_sandbox_is_an_error_that_says_what_is(wrong: Any) -> None:
    """Above all, no function that is not trusted runs outside of one for that."""
    with pytest.raises(TypeError, match=f"sandbox of task 'f' must be True, False or a Sandbox, not {wrong!r}"):
        Task(plain, name="f", sandbox=wrong)


def function() -> None: ...


async def coroutine() -> None: ...


def generator() -> Iterator[int]:
    yield 1


async def async_generator() -> AsyncIterator[int]:
    yield 1


@pytest.mark.parametrize(
    ("fn", "kind", "streams", "is_async"),
    [
        (function, "function", False, False),
        (coroutine, "coroutine", False, True),
        (generator, "generator", True, False),
        (async_generator, "async generator", True, True),
        (functools.partial(generator), "generator", True, False),
        (functools.partial(functools.partial(coroutine)), "coroutine", False, True),
        (Shop(), "function", False, False),
        (Shop().sell, "function", False, False),
        (len, "function", False, False),
        (Shop, "function", False, False),
        (lambda: (yield), "generator", True, False),
    ],
)
def test_the_kind_is_read_from_the_code(fn: Callable[..., Any], kind: str, streams: bool, is_async: bool) -> None:
    """Functions, partials of them, methods, objects with `__call__`, classes and builtins."""
    made = Task(fn)
    assert (made.kind, made.streams, made.is_async) == (kind, streams, is_async)


def test_an_object_with_a_coroutine_call_is_a_coroutine_task() -> None:
    """What `__call__` is decides."""

    class Waiter:
        async def __call__(self) -> int:
            return 1

    assert Task(Waiter()).kind == "coroutine"


def test_things_without_a_name_are_named_for_what_they_are() -> None:
    """Partials for their function, objects for their class."""
    assert Task(functools.partial(plain, 1)).name == "plain"
    assert Task(Shop()).name == "Shop"
    assert Task(lambda: None).name == "<lambda>"
    assert Task(len).name == "len"


def test_it_knows_where_it_was_written() -> None:
    """File and line for the person who reads an error; a builtin has its module."""
    file, _, line = double.where.rpartition(":")
    assert Path(file) == Path(__file__)
    assert 0 < int(line) < 60
    assert Task(math.sqrt).where == "math"


def test_it_shows_its_name_and_kind() -> None:
    """Enough to recognise it in a log."""
    assert repr(shout) == "<Task 'text.shout' (function)>"


# Crossing to another process.


def test_a_task_that_can_be_imported_pickles_by_reference() -> None:
    """The very same object here; the module's own over there."""
    assert double.reference == (__name__, "double")
    assert Shop.price.reference == (__name__, "Shop.price")
    assert pickle.loads(pickle.dumps(double)) is double
    assert pickle.loads(pickle.dumps(Shop.price)) is Shop.price
    assert len(pickle.dumps(double)) < 100


def test_a_task_of_a_function_pickles_with_its_facts_by_value() -> None:
    """A closure has no name elsewhere, so it goes with all that it is."""
    step = 5

    @task(pure=True, timeout=1.0, needs={"gpu"}, name="step")
    def stepped(x: int) -> int:
        return x + step

    assert stepped.reference is None
    back = pickle.loads(cloudpickle.dumps(stepped))
    assert back(1) == 6
    facts = ("name", "pure", "timeout", "private", "needs", "cost", "retries", "kind")
    assert [getattr(back, fact) for fact in facts] == [getattr(stepped, fact) for fact in facts]


def test_a_task_made_around_an_importable_function_keeps_its_own_facts() -> None:
    """They cross, though the name leads to the bare function; and behind a task, its function can be found."""
    named = Task(plain, name="another", retries=3)
    back = pickle.loads(pickle.dumps(named))
    assert (back.fn, back.name, back.retries) == (plain, "another", 3)
    assert as_task(double.fn).reference == (__name__, "double")


def test_a_name_that_now_means_something_else_is_no_reference() -> None:
    """A function that was redefined is sent as it is, not as its successor."""
    was = as_task(functools.partial(plain, 1))
    assert was.reference is None
    hidden = Task(functools.wraps(plain)(lambda x: x))
    assert hidden.reference is None


def test_main_is_another_program_over_there() -> None:
    """Functions of a script cannot be imported by a worker."""
    program = "from hybrid_compute.tasks import Task\ndef f(): ...\nprint(Task(f).reference)"
    ran = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert ran.stdout == "None\n"
    assert not is_importable("__main__")
    assert not is_importable("no.such.module")
    assert is_importable(__name__)


# Functions as tasks.


def test_the_task_of_a_task_is_itself() -> None:
    """`as_task` may be said twice."""
    assert as_task(double) is double


def test_the_task_of_a_function_is_the_same_each_time() -> None:
    """So that what was learned of it is found again."""
    assert as_task(plain) is as_task(plain)
    assert as_task(len) is as_task(len)
    assert as_task(plain).fn is plain


def test_what_cannot_be_called_is_no_task() -> None:
    """And the error shows what was given."""
    with pytest.raises(TypeError, match="not 42"):
        as_task(42)  # type: ignore[arg-type]


def test_a_function_that_is_dropped_takes_its_task_along() -> None:
    """A program that makes lambdas in a loop does not fill its memory."""

    def made() -> weakref.ref[Any]:
        fn = lambda x: x  # noqa: E731
        as_task(fn)
        return weakref.ref(fn)

    gone = made()
    gc.collect()
    assert gone() is None


def test_a_builtin_method_does_not_keep_its_object() -> None:
    """Asking for `big.get` must not hold on to `big` for the life of the program."""

    class Big(dict[str, int]):
        pass

    big = Big()
    gone = weakref.ref(big)
    assert as_task(big.get).name == "get"
    del big
    gc.collect()
    assert gone() is None


# Registries.


def test_a_registry_finds_tasks_by_name() -> None:
    """In the order in which they were added."""
    registry = TaskRegistry([double, shout, plain])
    assert list(registry) == ["double", "text.shout", "plain"]
    assert len(registry) == 3
    assert registry["text.shout"] is shout
    assert "plain" in registry
    assert "shout" not in registry
    assert repr(registry) == "<TaskRegistry double, text.shout, plain>"
    assert repr(TaskRegistry()) == "<TaskRegistry empty>"


def test_an_unknown_name_says_which_are_known() -> None:
    """`TaskNotFound` is a LookupError too."""
    with pytest.raises(TaskNotFound, match=r"no task is named 'shot'; known tasks: double, text\.shout"):
        TaskRegistry([double, shout])["shot"]
    with pytest.raises(LookupError, match="known tasks: none"):
        TaskRegistry()["shot"]


def test_two_tasks_of_one_name_are_an_error_that_names_both_places() -> None:
    """And the first stays as it was."""
    registry = TaskRegistry([double])
    other = Task(plain, name="double")
    with pytest.raises(ValueError, match="two tasks are named 'double'") as caught:
        registry.add(other)
    assert double.where in str(caught.value)
    assert other.where in str(caught.value)
    assert registry["double"] is double


def test_the_same_task_may_be_added_twice() -> None:
    """It is one task."""
    registry = TaskRegistry([double, plain])
    assert registry.add(double) is double
    assert registry.add(plain) is as_task(plain)
    assert len(registry) == 2


def test_two_registries_know_nothing_of_each_other() -> None:
    """A name taken in one is free in the other."""
    one, other = TaskRegistry(), TaskRegistry()
    first = one.task(name="f")(lambda: 1)
    second = other.task(name="f")(lambda: 2)
    assert (one["f"], other["f"]) == (first, second)


def test_a_registry_decorates_with_and_without_facts() -> None:
    """`@registry.task` is `@task`, and registered."""
    registry = TaskRegistry()

    @registry.task
    def one() -> int:
        return 1

    @registry.task(name="another", pure=True)
    def two() -> int:
        return 2

    assert list(registry) == ["one", "another"]
    assert registry["another"].pure
    assert one() + two() == 3


def test_the_registry_of_a_module_has_its_public_tasks() -> None:
    """Private ones and plain functions are left out; one task under two names is one."""
    module = ModuleType("shop")
    vars(module).update(double=double, twice=double, shout=shout, _hidden=Task(plain), plain=plain)
    assert list(TaskRegistry.of(module)) == ["double", "text.shout"]


def test_the_registry_of_a_real_module_has_what_it_defines() -> None:
    """Found as a command line finds it, by the module's name."""
    found = TaskRegistry.of(importlib.import_module("hybrid_compute.testing.tasks"))
    assert "contract.add" in found
    assert all(name.startswith("contract.") for name in found)


# What is remembered per task.


def test_what_is_remembered_for_a_task_is_made_once() -> None:
    """And is its own for each task, also for two that look alike."""
    made: list[AnyTask] = []

    def make(each: AnyTask) -> list[str]:
        made.append(each)
        return [each.name]

    remembered = PerTask(make)
    twin = Task(double.fn)
    assert remembered[double] is remembered[double]
    assert remembered[twin] is not remembered[double]
    assert made == [double, twin]
    assert remembered.values() == [["double"], ["double"]]


def test_what_is_remembered_goes_with_its_task() -> None:
    """And whoever wants to know is told, once."""
    told: list[str] = []
    remembered = PerTask(lambda each: each.name, told.append)
    mortal = Task(plain, name="mortal")
    assert remembered[mortal] == "mortal"
    remembered[mortal] = "renamed"
    assert remembered[mortal] == "renamed"
    del mortal
    gc.collect()
    assert remembered.values() == []
    assert told == ["renamed"]


def test_two_threads_that_ask_at_once_are_no_trouble_later() -> None:
    """Both get a value, and when the task goes it is forgotten once, without a word on stderr."""
    both = threading.Barrier(2)
    told: list[object] = []

    def make(each: AnyTask) -> object:
        both.wait(timeout=10.0)
        return object()

    remembered = PerTask(make, told.append)
    mortal = Task(plain, name="mortal")
    threads = [threading.Thread(target=remembered.__getitem__, args=(mortal,)) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    del mortal, threads, thread
    gc.collect()
    assert len(told) == 1
    assert remembered.values() == []


def test_making_that_fails_is_tried_again() -> None:
    """A failure is not remembered as a value."""
    failures = [ValueError("not yet")]

    def make(each: AnyTask) -> str:
        if failures:
            raise failures.pop()
        return "made"

    remembered = PerTask(make)
    with pytest.raises(ValueError, match="not yet"):
        remembered[double]
    assert remembered[double] == "made"


def test_a_dataclass_field_may_be_a_task() -> None:
    """A task is an ordinary value: it can be compared, hashed and kept."""

    @dataclasses.dataclass(frozen=True)
    class Step:
        task: AnyTask

    assert Step(double) == Step(double)
    assert {double: 1}[double] == 1


class Shelf:
    def __init__(self, books: int) -> None:
        self.books = books

    @task
    def count(self, more: int = 0) -> int:
        return self.books + more


def test_a_task_in_a_class_is_a_method() -> None:
    """It is called as before, and what is bound can be run."""
    shelf = Shelf(3)
    assert shelf.count() == 3
    assert shelf.count(more=4) == 7
    assert Shelf.count(shelf, 1) == 4
    assert isinstance(Shelf.count, Task)
