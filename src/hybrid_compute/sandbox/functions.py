"""Functions and programs that run in a sandbox wherever they are called.

Importing this loads no wasmtime; the first call does, since it is then that a sandbox has to be there.
"""

from __future__ import annotations

import functools
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Generic, ParamSpec, Protocol, TypeVar

import msgspec

from hybrid_compute.errors import TaskFailed
from hybrid_compute.sandbox.grants import told
from hybrid_compute.sandbox.source import source_of
from hybrid_compute.sandbox.values import types_in
from hybrid_compute.schema import output_type, result_from_value
from hybrid_compute.tasks import AnyTask, Task, task
from hybrid_compute.wasm.contained import Contained

if TYPE_CHECKING:
    from types import CodeType

    from hybrid_compute.sandbox.answers import Outcome
    from hybrid_compute.wasm.leash import Leash

P = ParamSpec("P")
R = TypeVar("R")


class Runs(Protocol):
    """What is needed of a `Sandbox` here."""

    def execute(self, source: str, input: Any = None, *, leash: Leash | None = None) -> Outcome: ...

    def call(
        self,
        source: str,
        function: str,
        args: Sequence[Any],
        kwargs: Mapping[str, Any],
        *,
        returns: Sequence[str],
        leash: Leash | None,
    ) -> Any: ...

    def prepare(self) -> None: ...


def is_ready() -> bool:
    """Whether the interpreter of sandboxes is loaded in this process."""
    loaded = sys.modules.get("hybrid_compute.sandbox.interpreter")
    return loaded is not None and loaded.is_loaded()


class SandboxedFunction(Contained, Generic[P, R]):
    """A function whose source runs in a sandbox, and not in this interpreter. Its arguments arrive as they are.

    They are what JSON can say, bytes, tuples, sets, dates and the like; anything else becomes what it is made of. Its
    result is what its type hint says, or what JSON can say where that is `Any` or missing. Raises what `Sandbox.run`
    does, and `TaskFailed` as well if the result is not of the type that it says.
    """

    def __init__(self, fn: Callable[P, R], sandbox: Callable[[], Runs], granted: Iterable[str] = ()) -> None:
        functools.update_wrapper(self, fn)
        self.__name__: str = fn.__name__  # for the type checker
        self.source = source_of(fn, granted)
        self._sandbox = sandbox
        self._fn = fn
        self._checked = Task(fn)

    @property
    def is_ready(self) -> bool:
        return is_ready()

    def __call__(self, *args: P.args, **kwargs: P.kwargs) -> R:
        result: R = self.run(None, args, kwargs)
        return result

    def run(self, leash: Leash | None, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> Any:
        result = self._sandbox().call(self.source, self.__name__, args, kwargs, returns=self._returns, leash=leash)
        try:
            return result_from_value(self._checked, result)
        except (msgspec.MsgspecError, TypeError) as error:
            raise TaskFailed(f"{self.__name__} returned what is not of the type that it says: {error}") from error

    @functools.cached_property
    def _returns(self) -> list[str]:
        """At the first call, when all names in its hints must exist."""
        return sorted(set(types_in(output_type(self._checked))))

    def prepare(self) -> None:
        self._sandbox().prepare()

    @property
    def __code__(self) -> CodeType:
        """That of the function, for who wants to know where it is and of what kind."""
        code: CodeType = self._fn.__code__
        return code

    def __repr__(self) -> str:
        return f"<SandboxedFunction {self.__name__!r}>"


class Programs(Contained):
    """Runs any program: what `run_python` is."""

    def __init__(self, name: str, description: str, sandbox: Callable[[], Runs], module: str) -> None:
        self.__name__ = self.__qualname__ = name
        self.__module__ = module
        self.__doc__ = description
        self._sandbox = sandbox

    @property
    def is_ready(self) -> bool:
        return is_ready()

    def __call__(self, source: str, input: Any = None) -> Any:
        return self._run(None, source, input)

    def run(self, leash: Leash | None, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> Any:
        return self._run(leash, *args, **kwargs)

    def _run(self, leash: Leash | None, source: str, input: Any = None) -> Any:
        return self._sandbox().execute(source, input, leash=leash).result

    def prepare(self) -> None:
        self._sandbox().prepare()


_WHAT_IT_DOES = """Run a Python program in a sandbox and get its answer.

The program finds its input in the variable `input`, and leaves its answer in the variable `result`: anything that JSON
can say. Without a `result` the answer is what it printed. It has the standard library of Python 3.14, but no network,
and no files but those that it writes. The clock stands at 1 January 2000.
"""


def programs(sandbox: Callable[[], Runs], name: str, grants: Mapping[str, AnyTask], module: str = __name__) -> AnyTask:
    """The task that runs them, which others may find in its `module`. Its description says what they may call."""
    granted = "".join(f"\n    {told(*each)}" for each in grants.items())
    description = f"{_WHAT_IT_DOES}\nIt may call these functions:\n{granted}\n" if granted else _WHAT_IT_DOES
    return task(tool=True, cost="cpu")(Programs(name, description, sandbox, module))
