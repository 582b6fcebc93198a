"""`@kernel`: a typed function of Python that runs as WebAssembly, and is still a function.

    the source of a function ──> a tree with types ──> text of WASM ──> wasmtime
      at the `def`: KernelError if it is no kernel      at the first call, in milliseconds

Where wasmtime is missing or of no use, the tree is made into Python instead. It takes and refuses the same, and gives
the same to the last bit; it is only slower.
"""

from __future__ import annotations

import functools
import operator
import os
import sys
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Generic, ParamSpec, TypeVar, overload

from hybrid_compute.kernels import parallel, process
from hybrid_compute.kernels.arguments import Signature
from hybrid_compute.kernels.compiled import Compiled
from hybrid_compute.kernels.frontend import translate
from hybrid_compute.kernels.options import Options, checked
from hybrid_compute.kernels.plain import Plain
from hybrid_compute.kernels.source import KernelError, Source
from hybrid_compute.kernels.tree import Function
from hybrid_compute.kernels.types import Scalar
from hybrid_compute.tasks import Task, is_importable

if TYPE_CHECKING:
    from types import CodeType

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
        fuel: int | None = None,
    ) -> None:
        options = checked(Options(interruptible, deterministic, fuel))
        self.assemble(function, translate(Source(function), function_of, fast=fast), options)

    def assemble(self, function: Callable[P, R], tree: Function, options: Options) -> None:
        """What is left to do when the source has been read, here or in another process."""
        functools.update_wrapper(self, function)
        self.options = options
        self.function = tree
        self._signature = Signature(tree)
        self._way: Compiled | Plain | None = None

    def __call__(self, *args: P.args, **kwargs: P.kwargs) -> R:
        """Run it, in this thread. Raises what the function would, and `KernelError` for arguments of other types."""
        given = self._signature.bind(args, kwargs) if kwargs else args
        result: R = (self._way or self._prepare()).call(given)
        return result

    def _prepare(self) -> Compiled | Plain:
        """How it runs in this process, which is decided at the first call."""
        with process.lock:
            if self._way is None:
                self._way = self._compile() or self._plain()
            return self._way

    def _compile(self) -> Compiled | None:
        machine = process.machine()
        if machine is None:
            return None
        from hybrid_compute.kernels.program import Program

        program = Program(machine, self._module(), self.options, self._signature.slots, self.__name__)
        return Compiled(program, self._signature)

    def _plain(self) -> Plain:
        return Plain(self.function, self._signature, self.options)

    def _module(self) -> Any:
        from hybrid_compute.kernels.emit import Module

        return Module(self.function)

    @property
    def compiled(self) -> bool:
        """Whether it runs as WebAssembly: false where there is no wasmtime, or none that can be used."""
        return isinstance(self._way or self._prepare(), Compiled)

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
        most = min(len(pieces), threads if threads is not None else os.cpu_count() or 1)
        return (self._way or self._prepare()).split(pieces, args, most)

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
        return _rebuild, (self.__wrapped__, self.function, self.options)

    def __repr__(self) -> str:
        return f"<kernel {self.__module__}.{self.__qualname__}>"


def _rebuild(function: Callable[P, R], tree: Function, options: Options) -> Kernel[P, R]:
    made: Kernel[P, R] = Kernel.__new__(Kernel)
    made.assemble(function, tree, options)
    return made


def function_of(value: object) -> Function | None:
    """What another kernel calls."""
    return value.function if isinstance(value, Kernel) else None  # pyright: ignore[reportUnknownMemberType]


# The decorator.


@overload
def kernel(function: Callable[P, R], /) -> Kernel[P, R]: ...
@overload
def kernel(
    *, interruptible: bool = True, deterministic: bool = False, fast: bool = False, fuel: int | None = None
) -> Callable[[Callable[P, R]], Kernel[P, R]]: ...
def kernel(
    function: Callable[P, R] | None = None,
    /,
    *,
    interruptible: bool = True,
    deterministic: bool = False,
    fast: bool = False,
    fuel: int | None = None,
) -> Kernel[P, R] | Callable[[Callable[P, R]], Kernel[P, R]]:
    """Make a kernel of a function. Raises `KernelError`, with file and line, if it is more than a kernel can be.

    `interruptible=False` leaves out the question after the time at each turn of a loop: quicker, but nothing stops it.
    `deterministic` gives every NaN the same bits on all processors. `fast` may regroup sums of floats, and multiplies
    for `x ** 2`, which can change the last bits. A call that needs more than its `fuel`, about one unit for each
    instruction, ends with `LimitExceeded`: at the same place each time, on every machine.

        >>> @kernel
        ... def dot(x: Array[f64], y: Array[f64]) -> float:
        ...     total = 0.0
        ...     for i in range(len(x)):
        ...         total += x[i] * y[i]
        ...     return total
    """

    def make(function: Callable[P, R]) -> Kernel[P, R]:
        return Kernel(function, interruptible=interruptible, deterministic=deterministic, fast=fast, fuel=fuel)

    return make if function is None else make(function)
