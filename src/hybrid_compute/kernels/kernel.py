"""`@kernel`: a typed function of Python that runs as WebAssembly, and is still a function.

    the source of a function ──> a tree with types ──> text of WASM ──> wasmtime
      at the `def`: KernelError if it is no kernel      at the first call, in milliseconds

Where wasmtime is missing or of no use, the function itself runs, as Python. It takes and refuses the same, and gives
the same as long as no integer leaves 64 bits; it is only slower.
"""

from __future__ import annotations

import functools
import operator
import os
import sys
from collections.abc import Callable, Iterable, Iterator
from typing import TYPE_CHECKING, Any, Generic, ParamSpec, TypeVar, overload

from hybrid_compute.kernels import parallel, process
from hybrid_compute.kernels.arguments import Signature
from hybrid_compute.kernels.frontend import translate
from hybrid_compute.kernels.source import KernelError, Source
from hybrid_compute.kernels.tree import Function
from hybrid_compute.kernels.types import ArrayType, Scalar
from hybrid_compute.kernels.visits import Visit
from hybrid_compute.tasks import Task, is_importable

if TYPE_CHECKING:
    from types import CodeType

    from hybrid_compute.kernels.program import Program

P = ParamSpec("P")
R = TypeVar("R")


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
        self.assemble(function, translate(Source(function), function_of, fast=fast), interruptible, deterministic)

    def assemble(self, function: Callable[P, R], tree: Function, interruptible: bool, deterministic: bool) -> None:
        """What is left to do when the source has been read, here or in another process."""
        functools.update_wrapper(self, function)
        self.interruptible = interruptible
        self.deterministic = deterministic
        self.function = tree
        self._signature = Signature(tree)
        self._program: Program | None = None

    def __call__(self, *args: P.args, **kwargs: P.kwargs) -> R:
        """Run it, in this thread. Raises what the function would, and `KernelError` for arguments of other types."""
        given = self._signature.bind(args, kwargs) if kwargs else args
        result: R = self._run(given)
        return result

    def _run(self, given: tuple[Any, ...]) -> Any:
        program, signature = self._program or self._compile(), self._signature
        if program is None:
            signature.check(given)
            return self._as_python(given)
        if len(given) != len(signature.parameters):
            signature.bind(given, {})
        if not signature.arrays:
            return self._call(program, given)
        views = signature.views(given)
        visit = Visit(signature, program.machine.memory, views)
        try:
            return self._call(program, _spread(given, signature, visit, views))
        finally:
            visit.end()

    def _call(self, program: Program, values: Iterable[Any]) -> Any:
        instance = program.lend()
        try:
            self._signature.pack(instance.slots, tuple(values))
            instance.run()
            result = self._signature.result(instance.slots)
        except Exception:
            program.put_back(instance)
            raise
        # What a signal has raised may have come in between anything: then nobody uses this instance again.
        program.put_back(instance)
        return result

    def _as_python(self, given: tuple[Any, ...]) -> Any:
        plain: Callable[..., Any] = self.__wrapped__
        value = plain(*given)
        result = self.function.result
        return value if result is None else {"i64": int, "f64": float}.get(result.wasm, lambda each: each)(value)

    def _compile(self) -> Program | None:
        """The program, made at the first call; None where kernels run as Python."""
        with process.lock:
            if self._program is None and (machine := process.machine()) is not None:
                from hybrid_compute.kernels.machine import Kind
                from hybrid_compute.kernels.program import Program

                kind = Kind(self.interruptible, self.deterministic)
                self._program = Program(machine, self._module(), kind, self._signature.slots, self.__name__)
            return self._program

    def _module(self) -> Any:
        from hybrid_compute.kernels.emit import Module

        return Module(self.function)

    @property
    def compiled(self) -> bool:
        """Whether it runs as WebAssembly: false where there is no wasmtime, or none that can be used."""
        return (self._program or self._compile()) is not None

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
        pieces = list(parallel.parts(self._splittable(range(span) if isinstance(span, int) else span)))
        if threads is not None and threads < 1:
            raise ValueError(f"threads is {threads}: there has to be one")
        program, signature = self._program or self._compile(), self._signature
        if program is None:
            return [self._run((piece.start, piece.stop, *args)) for piece in pieces]
        probe = (0, 0, *args)
        if len(probe) != len(signature.parameters):
            signature.bind(probe, {})
        count = min(len(pieces), threads if threads is not None else os.cpu_count() or 1)
        views = signature.views(probe)
        visit = Visit(signature, program.machine.memory, views)
        try:
            rest = list(_spread(probe, signature, visit, views))[2:]
            return parallel.side_by_side(
                lambda piece: self._call(program, (piece.start, piece.stop, *rest)), pieces, count
            )
        finally:
            visit.end()

    def _splittable(self, span: range) -> range:
        types = list(self.function.parameters.values())[:2]
        if types != [Scalar.INT, Scalar.INT]:
            raise KernelError(
                f"{self.__name__}: its first two parameters must be where to start and to stop, to be run in parallel: "
                f"def {self.__name__}(start: int, stop: int, ...)"
            )
        if span.step != 1:
            raise KernelError(f"{self.__name__}: a range that is split goes one by one, and {span} does not")
        return span

    # What others look for in a function.

    @property
    def __code__(self) -> CodeType:
        """The code of the function: it says in which file and line that is."""
        wrapped: Any = self.__wrapped__
        code: CodeType = wrapped.__code__
        return code

    def __reduce__(self) -> str | tuple[Any, ...]:
        # By its name where that leads here, also by way of a task; else what it was made into, without any source.
        name = self.__qualname__
        if is_importable(self.__module__):
            try:
                found: Any = operator.attrgetter(name)(sys.modules.get(self.__module__))
            except AttributeError:
                found = None
            if found is self:
                return name
            if isinstance(found, Task) and found.fn is self:
                return operator.attrgetter("fn"), (found,)
        return _rebuild, (self.__wrapped__, self.function, self.interruptible, self.deterministic)

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


def _rebuild(function: Callable[P, R], tree: Function, interruptible: bool, deterministic: bool) -> Kernel[P, R]:
    made: Kernel[P, R] = Kernel.__new__(Kernel)
    made.assemble(function, tree, interruptible, deterministic)
    return made


def function_of(value: object) -> Function | None:
    """What another kernel calls."""
    return value.function if isinstance(value, Kernel) else None  # pyright: ignore[reportUnknownMemberType]


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
