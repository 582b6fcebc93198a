"""Tasks: named functions that can run anywhere, and the registry that finds them by name.

A `Task` is still the function it wraps: call it, and it runs here and now. What it adds are the facts that a
runtime routes by. Nothing here runs anything.
"""

from __future__ import annotations

import functools
import importlib
import importlib.util
import sys
import weakref
from collections.abc import Callable, Iterable, Iterator, Sequence
from types import BuiltinFunctionType, CodeType, FunctionType, MethodType, ModuleType
from typing import Any, Concatenate, Generic, Literal, ParamSpec, Protocol, Self, TypeAlias, TypeVar, cast, overload

from hybrid_compute.errors import TaskNotFound

P = ParamSpec("P")
Q = ParamSpec("Q")
R = TypeVar("R")
S = TypeVar("S")
R_co = TypeVar("R_co", covariant=True)

Cost: TypeAlias = Literal["trivial", "cpu", "io", "gpu"]
"""What a task mostly waits for. `trivial` promises that it never blocks the event loop noticeably."""

Kind: TypeAlias = Literal["function", "coroutine", "generator", "async generator"]


class Container(Protocol):
    """What the source of a function can run in: a `Sandbox`."""

    def contain(self, fn: Callable[P, R]) -> Callable[P, R]: ...


class Task(Generic[P, R_co]):
    """A function with a name and the facts a runtime needs to place it. Made by `@task`.

    Calling the task runs the function in this process, as if it were undecorated.

        >>> @task(pure=True)
        ... def double(x: int) -> int:
        ...     return x * 2
        >>> double(21), double.name, double.kind
        (42, 'double', 'function')
    """

    def __init__(
        self,
        fn: Callable[P, R_co],
        *,
        name: str | None = None,
        pure: bool = False,
        timeout: float | None = None,
        private: bool = False,
        needs: Iterable[str] = (),
        cost: Cost | None = None,
        retries: int = 0,
        tool: bool = False,
        sandbox: bool | Container = False,
    ) -> None:
        if timeout is not None and not timeout > 0:
            raise ValueError(f"timeout of task {name or fn!r} must be a positive number of seconds, not {timeout!r}")
        if retries < 0:
            raise ValueError(f"retries of task {name or fn!r} must not be negative, but is {retries}")
        if isinstance(needs, str):
            raise TypeError(f"needs is a set of names: write needs={{{needs!r}}}")
        if not isinstance(sandbox, bool) and (isinstance(sandbox, type) or not hasattr(sandbox, "contain")):
            raise TypeError(f"sandbox of task {name or fn!r} must be True, False or a Sandbox, not {sandbox!r}")
        if sandbox:
            fn = _sandboxed(fn) if sandbox is True else sandbox.contain(fn)
        functools.update_wrapper(self, fn)
        self.fn = fn
        self.name = name if name is not None else _name_of(fn)
        self.pure = pure
        self.timeout = timeout
        self.private = private
        self.needs = frozenset(needs)
        self.cost = cost
        self.retries = retries
        self.tool = tool
        self.kind: Kind = _kind_of(fn)
        self.streams = self.kind in ("generator", "async generator")
        self.is_async = self.kind in ("coroutine", "async generator")

    def __call__(self, *args: P.args, **kwargs: P.kwargs) -> R_co:
        return self.fn(*args, **kwargs)

    @overload
    def __get__(self, instance: None, owner: type, /) -> Self: ...
    @overload
    def __get__(self: Task[Concatenate[Any, Q], S], instance: object, owner: type, /) -> Callable[Q, S]: ...
    def __get__(self, instance: object, owner: type, /) -> Any:
        """A method, as any function would be."""
        return self if instance is None else MethodType(self, instance)

    def on(self, place: Place | None = None, /, *, limit: int | None = None) -> Stage[P, R_co]:
        """This task as a stage of a pipeline: at `place`, with at most `limit` calls under way at once.

        The place is the name of a backend or of a strategy, or a strategy; without one, it is what the runtime's own
        strategy says. Whether there is such a place, the runtime knows.

            >>> pipeline(fetch.on("remote", limit=32), clean.on("worker"), show.on("local"))
            <Pipeline fetch on remote → clean on worker → show on local>
        """
        return Stage(self, place, limit)

    @property
    def where(self) -> str:
        """File and line of the function, or its module when it has no source."""
        code = _code_of(self.fn)
        return f"{code.co_filename}:{code.co_firstlineno}" if code else str(getattr(self.fn, "__module__", "?"))

    @property
    def reference(self) -> tuple[str, str] | None:
        """`(module, qualified name)` under which another process can import the function of this task, or None."""
        module, qualname = getattr(self.fn, "__module__", None), getattr(self.fn, "__qualname__", None)
        if not module or not qualname or not is_importable(module):
            return None
        found = _look_up(module, qualname)
        return (module, qualname) if found is self.fn or (isinstance(found, Task) and found.fn is self.fn) else None

    def __repr__(self) -> str:
        return f"<Task {self.name!r} ({self.kind})>"

    def __reduce__(self) -> str | tuple[Any, ...]:
        # By reference where that leads to this very task; else its facts and the function, which goes its own way.
        reference = self.reference
        if reference is not None and _look_up(*reference) is self:
            return reference[1]
        facts: dict[str, Any] = {
            "name": self.name,
            "pure": self.pure,
            "timeout": self.timeout,
            "private": self.private,
            "needs": self.needs,
            "cost": self.cost,
            "retries": self.retries,
            "tool": self.tool,
        }
        return functools.partial(_rebuild, **facts), (self.fn,)


AnyTask: TypeAlias = Task[..., Any]

Place: TypeAlias = str | Callable[[AnyTask, Sequence[Any]], Sequence[Any]]
"""Where a stage runs: the name of a backend or of a strategy, or a strategy."""


class Stage(Generic[P, R_co]):
    """A task, and how it runs as part of a pipeline. Made by `Task.on`; calling it is calling the task."""

    def __init__(self, task: Task[P, R_co], place: Place | None = None, limit: int | None = None) -> None:
        if limit is not None and limit < 1:
            raise ValueError(f"limit of stage {task.name!r} must be at least 1, not {limit}")
        self.task = task
        self.place = place
        self.limit = limit

    def __call__(self, *args: P.args, **kwargs: P.kwargs) -> R_co:
        return self.task(*args, **kwargs)

    def __repr__(self) -> str:
        limit = f", limit {self.limit}" if self.limit is not None else ""
        return f"<Stage {self}{limit}>"

    def __str__(self) -> str:
        if self.place is None:
            return self.task.name
        return f"{self.task.name} on {self.place if isinstance(self.place, str) else _name_of(self.place)}"


def _look_up(module: str, qualname: str) -> Any:
    found: Any = sys.modules.get(module)
    for part in qualname.split("."):
        found = getattr(found, part, None)
    return found


def _rebuild(fn: Callable[..., Any], **facts: Any) -> AnyTask:
    return Task(fn, **facts)


@overload
def task(fn: Callable[P, R], /) -> Task[P, R]: ...
@overload
def task(
    *,
    name: str | None = None,
    pure: bool = False,
    timeout: float | None = None,
    private: bool = False,
    needs: Iterable[str] = (),
    cost: Cost | None = None,
    retries: int = 0,
    tool: bool = False,
    sandbox: bool | Container = False,
) -> Callable[[Callable[P, R]], Task[P, R]]: ...
def task(fn: Callable[..., Any] | None = None, /, **facts: Any) -> Any:
    """Make a function a task that can run anywhere; it stays callable as before.

    `name` is its name on the wire (the function's own by default). `pure` says that running it twice is harmless,
    so that a call may be repeated after a lost worker. `timeout` is in seconds from submission. A `private` task
    never leaves this machine. `needs` names what a place must provide. `cost` is a hint: `trivial`, `cpu`, `io`,
    `gpu`. `retries` is how often a call is run again after its code raised (or, if pure, its place was lost). A `tool`
    is offered to language models, over MCP. In a `sandbox` runs the source of a function that is not trusted, in an
    interpreter of its own that can reach nothing, wherever the task is run; a `Sandbox` instead of True says within
    which limits, and what it may call.

        >>> @task(name="text.shout", pure=True, timeout=5.0)
        ... def shout(text: str) -> str:
        ...     return text.upper()
        >>> shout("hello")
        'HELLO'
    """
    if fn is None:
        return functools.partial(Task, **facts)
    return Task(fn)


def _sandboxed(fn: Callable[P, R]) -> Callable[P, R]:
    """The function, which runs in a sandbox from now on. That is built on top of tasks, hence found by its name."""
    shared = importlib.import_module("hybrid_compute.sandbox.shared")
    return cast("Callable[P, R]", shared.contain(fn))


def as_task(fn: Callable[P, R]) -> Task[P, R]:
    """The task behind `fn`: itself if it is one, else a plain wrapper, the same one each time where possible."""
    if isinstance(fn, Task):
        return cast("Task[P, R]", fn)
    if not callable(fn):
        raise TypeError(f"a task or a function is needed, not {fn!r}")
    if isinstance(fn, BuiltinFunctionType) and isinstance(fn.__self__, ModuleType | None):
        # The others are methods of objects: to remember them would keep their objects.
        return cast("Task[P, R]", _of_builtin(fn))
    if not _is_one_thing(fn):
        return Task(fn)
    # The wrapper and the function refer to each other, so both go when the last outside reference goes.
    known = fn.__dict__.get(_WRAPPER)
    if known is None or known.fn is not fn:  # `functools.wraps` copies what it finds
        known = fn.__dict__[_WRAPPER] = Task[..., Any](fn)
    return cast("Task[P, R]", known)


def _is_one_thing(fn: Callable[..., Any]) -> bool:
    """Whether it is a function or stands for one, as a kernel does, and not for one together with some object."""
    if isinstance(fn, FunctionType):
        return True
    stands_for = getattr(fn, "__wrapped__", None)
    return isinstance(stands_for, FunctionType) and not isinstance(fn, MethodType) and hasattr(fn, "__dict__")


_WRAPPER = "__hybrid_compute_task__"
_of_builtin: Callable[[Callable[..., Any]], AnyTask] = functools.lru_cache(maxsize=4096)(Task)


class TaskRegistry:
    """Tasks by name. An object somebody owns: two registries never know of each other.

    Two tasks of one name are an error that names both places.

        >>> registry = TaskRegistry()
        >>> @registry.task
        ... def add(a: int, b: int) -> int:
        ...     return a + b
        >>> registry["add"](1, 2), list(registry)
        (3, ['add'])
    """

    def __init__(self, tasks: Iterable[Callable[..., Any]] = ()) -> None:
        self._tasks: dict[str, AnyTask] = {}
        for each in tasks:
            self.add(each)

    @classmethod
    def of(cls, module: ModuleType) -> TaskRegistry:
        """All tasks found among the public names of a module."""
        found = {id(each): each for name, each in vars(module).items() if isinstance(each, Task) and name[0] != "_"}
        return cls(found.values())

    def add(self, fn: Callable[P, R]) -> Task[P, R]:
        """Register a task (or a function, as one) and return it. Raises `ValueError` if the name is taken."""
        added = as_task(fn)
        known = self._tasks.setdefault(added.name, added)
        if known is not added:
            raise ValueError(
                f"two tasks are named {added.name!r}: one at {known.where}, one at {added.where}; "
                f"give one another name with @task(name=...)"
            )
        return added

    @overload
    def task(self, fn: Callable[P, R], /) -> Task[P, R]: ...
    @overload
    def task(self, fn: None = None, /, **facts: Any) -> Callable[[Callable[P, R]], Task[P, R]]: ...
    def task(self, fn: Callable[..., Any] | None = None, /, **facts: Any) -> Any:
        """`@task`, and registered here in the same breath."""
        if fn is not None:
            return self.add(fn)
        return lambda made: self.add(Task(made, **facts))

    def __getitem__(self, name: str) -> AnyTask:
        try:
            return self._tasks[name]
        except KeyError:
            known = ", ".join(sorted(self._tasks)) or "none"
            raise TaskNotFound(f"no task is named {name!r}; known tasks: {known}") from None

    def __contains__(self, name: object) -> bool:
        return name in self._tasks

    def __iter__(self) -> Iterator[str]:
        return iter(self._tasks)

    def __len__(self) -> int:
        return len(self._tasks)

    def __repr__(self) -> str:
        return f"<TaskRegistry {', '.join(self._tasks) or 'empty'}>"


class PerTask(Generic[R]):
    """Something remembered for each task, and forgotten with it. Looked up on every call, hence by identity.

    Where each microsecond counts, `known.get(id(task))` is tried first: it costs a third of `[task]`.
    """

    def __init__(self, make: Callable[[AnyTask], R], forgotten: Callable[[R], object] | None = None) -> None:
        self._make = make
        self.known: dict[int, R] = {}
        self._watched: dict[int, weakref.ref[AnyTask]] = {}  # goes with this object, which a finaliser would keep
        self._forgotten = forgotten

    def __getitem__(self, task: AnyTask) -> R:
        known = self.known.get(id(task))
        if known is None:
            known = self.known[id(task)] = self._make(task)
            self._watched[id(task)] = weakref.ref(task, functools.partial(self._forget, id(task)))
        return known

    def values(self) -> list[R]:
        return list(self.known.values())

    def __setitem__(self, task: AnyTask, value: R) -> None:
        self[task]
        self.known[id(task)] = value

    def _forget(self, key: int, _task: weakref.ref[AnyTask]) -> None:
        del self._watched[key]
        gone = self.known.pop(key)
        if self._forgotten is not None:
            self._forgotten(gone)


@functools.lru_cache(maxsize=1024)
def is_importable(module: str) -> bool:
    """Whether another process can import `module` by name. `__main__` is another program there, hence never."""
    if module == "__main__" or module.startswith("__mp_main__"):
        return False
    try:
        return importlib.util.find_spec(module) is not None
    except (ImportError, ValueError):  # no such parent package, or a module made by hand with no spec
        return False


def _name_of(fn: Callable[..., Any]) -> str:
    name = getattr(fn, "__name__", None)
    if name is None and isinstance(fn, functools.partial):
        return _name_of(fn.func)
    return name or type(fn).__name__


# Flags of a code object. The module `inspect` has friendlier names for them, but is too much to load for three.
_GENERATOR, _COROUTINE, _ASYNC_GENERATOR = 0x20, 0x80, 0x200


def _kind_of(fn: Callable[..., Any]) -> Kind:
    code = _code_of(fn)
    flags = code.co_flags if code is not None else 0
    if flags & _ASYNC_GENERATOR:
        return "async generator"
    if flags & _COROUTINE:
        return "coroutine"
    return "generator" if flags & _GENERATOR else "function"


def _code_of(fn: Any) -> CodeType | None:
    """The code behind a function, a method, a partial or an object with `__call__`; None for builtins."""
    while isinstance(fn, functools.partial):
        fn = fn.func
    code = getattr(fn, "__code__", None)
    if code is None and not isinstance(fn, type):
        code = getattr(vars(type(fn)).get("__call__"), "__code__", None)
    return code
