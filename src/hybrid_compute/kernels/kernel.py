"""`@kernel`: a typed function of Python that runs as WebAssembly, and is still a function.

    the source of a function ──> a tree with types ──> text of WASM ──> wasmtime
      at the `def`: KernelError if it is no kernel      at the first call, in milliseconds

Where wasmtime is not installed, the function itself runs, as Python. It takes and refuses the same, and gives the same
as long as no integer leaves 64 bits; it is only slower.
"""

from __future__ import annotations

import functools
import os
import threading
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor, wait
from typing import TYPE_CHECKING, Any, Generic, ParamSpec, TypeVar, overload

from hybrid_compute.kernels import limits
from hybrid_compute.kernels.arguments import Signature, Visit
from hybrid_compute.kernels.source import KernelError, Source
from hybrid_compute.kernels.statements import translate
from hybrid_compute.kernels.tree import Function
from hybrid_compute.kernels.types import ArrayType, Scalar

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

    from hybrid_compute.kernels.machine import Machine, Program
    from hybrid_compute.kernels.memory import Memory

P = ParamSpec("P")
R = TypeVar("R")

PIECES = 32
"""Into so many a range is split for `parallel`, however many threads there are: so the pieces are always the same."""

_lock = threading.RLock()
_machine: Machine | None = None
_threads: ThreadPoolExecutor | None = None


class Kernel(Generic[P, R]):
    """A function that runs as WebAssembly. Call it as what it was; `__wrapped__` is the function of Python."""

    __wrapped__: Callable[P, R]
    __name__: str
    __qualname__: str

    def __init__(
        self,
        function: Callable[P, R],
        *,
        interruptible: bool = True,
        deterministic: bool = False,
        fast: bool = False,
    ) -> None:
        functools.update_wrapper(self, function)
        self.interruptible = interruptible
        self.deterministic = deterministic
        self.function: Function = translate(Source(function), function_of, fast=fast)
        self._signature = Signature(self.function)
        self._program: Program | None = None
        self._plain = False

    def __call__(self, *args: P.args, **kwargs: P.kwargs) -> R:
        """Run it, in this thread. Raises what the function would, and `KernelError` for arguments of other types."""
        given = self._signature.bind(args, kwargs) if kwargs else args
        if self._program is None:
            self._compile()
        result: R = self._run(given)
        return result

    def _run(self, given: tuple[Any, ...]) -> Any:
        program, signature = self._program, self._signature
        if program is None:
            signature.check(given)
            return self._as_python(given)
        if len(given) != len(signature.parameters):
            signature.bind(given, {})
        if not signature.arrays:
            return self._call(program, given)
        views = signature.views(given)
        visit = Visit(signature, program.memory, views)
        try:
            return self._call(program, _spread(given, signature, visit, views))
        finally:
            visit.end()

    def _call(self, program: Program, values: Iterable[Any]) -> Any:
        instance = program.lend()
        try:
            self._signature.pack(instance.slots, tuple(values))
            instance.run()
            return self._signature.result(instance.slots)
        finally:
            program.put_back(instance)

    def _as_python(self, given: tuple[Any, ...]) -> Any:
        plain: Callable[..., Any] = self.__wrapped__
        value = plain(*given)
        result = self.function.result
        return value if result is None else {"i64": int, "f64": float}.get(result.wasm, lambda each: each)(value)

    def _compile(self) -> None:
        with _lock:
            if self._program is not None or self._plain:
                return
            try:
                from hybrid_compute.kernels.machine import Kind, Program
            except ImportError:
                self._plain = True
                return
            kind = Kind(self.interruptible, self.deterministic)
            self._program = Program(machine(), self._module(), kind, self._signature.slots, self.__name__)

    def _module(self) -> Any:
        from hybrid_compute.kernels.emit import Module

        return Module(self.function)

    @property
    def compiled(self) -> bool:
        """Whether it runs as WebAssembly: false where wasmtime is missing."""
        if self._program is None:
            self._compile()
        return self._program is not None

    @property
    def wat(self) -> str:
        """The text of the WebAssembly that it is."""
        text: str = self._module().text
        return text

    # Several threads.

    def parallel(self, span: range | int, /, *args: Any, threads: int | None = None) -> list[R]:
        """Run it on parts of a range, in several threads at once; what each part gives, in their order.

        Its first two parameters are where a part starts and stops; `args` are the others, and the same for all parts.
        The parts do not depend on the number of threads, which is that of the processors unless it is said.

            >>> double.parallel(len(numbers), numbers)  # def double(start: int, stop: int, numbers: Array[f64]) -> None

        Who stores into an array does so only at the places of its own part: nobody waits for anybody. If a part fails,
        those that have not begun are left out, and the first error is raised.
        """
        parts = list(self._parts(range(span) if isinstance(span, int) else span))
        count = min(len(parts), threads if threads is not None else os.cpu_count() or 1)
        if count < 1 and threads is not None and threads < 1:
            raise ValueError(f"threads is {threads}: there has to be one")
        if self._program is None:
            self._compile()
        signature, program = self._signature, self._program
        if program is None:
            return [self._run((part.start, part.stop, *args)) for part in parts]
        probe = (0, 0, *args)
        if len(probe) != len(signature.parameters):
            signature.bind(probe, {})
        views = signature.views(probe)
        visit = Visit(signature, program.memory, views)
        try:
            rest = list(_spread(probe, signature, visit, views))[2:]
            return _side_by_side(lambda part: self._call(program, (part.start, part.stop, *rest)), parts, count)
        finally:
            visit.end()

    def _parts(self, span: range) -> Iterator[range]:
        types = list(self.function.parameters.values())[:2]
        if types != [Scalar.INT, Scalar.INT]:
            raise KernelError(
                f"{self.__name__}: its first two parameters must be where to start and to stop, to be run in parallel: "
                f"def {self.__name__}(start: int, stop: int, ...)"
            )
        if span.step != 1:
            raise KernelError(f"{self.__name__}: a range that is split goes one by one, and {span} does not")
        size = max(1, -(-len(span) // PIECES))
        for start in range(span.start, span.stop, size):
            yield range(start, min(start + size, span.stop))

    def __reduce__(self) -> str:
        return self.__qualname__

    def __repr__(self) -> str:
        return f"<kernel {self.__module__}.{self.__qualname__}>"


def _spread(given: tuple[Any, ...], signature: Signature, visit: Visit, views: list[memoryview]) -> Iterator[Any]:
    """The arguments as the kernel has them: for an array where it begins, and its lengths."""
    arrays = iter(zip(visit.offsets, views, strict=True))
    for value, (_, type) in zip(given, signature.parameters, strict=True):
        if isinstance(type, ArrayType):
            offset, view = next(arrays)
            yield offset
            yield from view.shape or ()
        else:
            yield value


def _side_by_side(run: Callable[[range], Any], parts: list[range], threads: int) -> list[Any]:
    """What `run` gives for each part; this thread is one of those that work."""
    results: list[Any] = [None] * len(parts)
    errors: list[tuple[int, BaseException]] = []
    todo = deque(enumerate(parts))

    def work() -> None:
        while todo and not errors:
            try:
                index, part = todo.popleft()
            except IndexError:
                return
            try:
                results[index] = run(part)
            except BaseException as error:
                errors.append((index, error))

    until = limits.current()

    def work_elsewhere() -> None:
        with limits.under(until):
            work()

    others: list[Future[None]] = [_pool().submit(work_elsewhere) for _ in range(threads - 1)]
    try:
        work()
    finally:
        todo.clear()
        # Whoever has not begun never needs to; the others use the arrays, so they have to end first.
        wait([each for each in others if not each.cancel()])
    if errors:
        raise min(errors, key=lambda each: each[0])[1]
    return results


def _pool() -> ThreadPoolExecutor:
    global _threads  # noqa: PLW0603  # one process has so many processors
    with _lock:
        if _threads is None:
            _threads = ThreadPoolExecutor(max(1, (os.cpu_count() or 1) - 1), "hybrid-compute-kernel")
        return _threads


def function_of(value: object) -> Function | None:
    """What another kernel calls."""
    return value.function if isinstance(value, Kernel) else None  # pyright: ignore[reportUnknownMemberType]


# The process.


def machine() -> Machine:
    """Where the kernels of this process run. Raises `BackendUnavailable` if it has no room for their memory."""
    global _machine  # noqa: PLW0603  # all kernels share it, and so do their arrays
    with _lock:
        if _machine is None:
            from hybrid_compute.kernels.machine import Machine

            _machine = Machine()
        return _machine


def use_memory(memory: Memory) -> None:
    """Have all kernels of this process work on this memory, before the first of them is called."""
    global _machine  # noqa: PLW0603
    with _lock:
        if _machine is not None:
            raise RuntimeError("kernels have begun to work on a memory already: choose it before the first call")
        from hybrid_compute.kernels.machine import Machine

        _machine = Machine(memory)


def empty(shape: int | tuple[int, ...], dtype: npt.DTypeLike = float) -> np.ndarray[Any, np.dtype[Any]]:
    """A new array, uninitialised, that lies where kernels work: they use it without a copy.

    Without wasmtime it is an ordinary one.
    """
    try:
        memory = machine().memory
    except ImportError:
        import numpy as np

        return np.empty(shape, dtype)
    from hybrid_compute.kernels.memory import array_in

    return array_in(memory, shape, dtype)


def _after_fork() -> None:
    """A child has none of the threads. Instances and memory it has: they are copies."""
    global _threads, _lock
    _threads, _lock = None, threading.RLock()
    limits.forget()
    if _machine is not None:
        _machine.after_fork()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)


# The decorator.


@overload
def kernel(function: Callable[P, R], /) -> Kernel[P, R]: ...
@overload
def kernel(
    *, interruptible: bool = True, deterministic: bool = False, fast: bool = False
) -> Callable[[Callable[P, R]], Kernel[P, R]]: ...
def kernel(
    function: Callable[P, R] | None = None,
    /,
    *,
    interruptible: bool = True,
    deterministic: bool = False,
    fast: bool = False,
) -> Kernel[P, R] | Callable[[Callable[P, R]], Kernel[P, R]]:
    """Make a kernel of a function. Raises `KernelError`, with file and line, if it is more than a kernel can be.

    `interruptible=False` leaves out the question after the time at each turn of a loop: quicker, but nothing stops it.
    `deterministic` gives every NaN the same bits on all processors. `fast` may regroup sums of floats, and multiplies
    for `x ** 2`, which can change the last bits.

        >>> @kernel
        ... def dot(x: Array[f64], y: Array[f64]) -> float:
        ...     total = 0.0
        ...     for i in range(len(x)):
        ...         total += x[i] * y[i]
        ...     return total
    """

    def make(function: Callable[P, R]) -> Kernel[P, R]:
        return Kernel(function, interruptible=interruptible, deterministic=deterministic, fast=fast)

    return make if function is None else make(function)
