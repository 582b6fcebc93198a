"""A kernel as Python, for where it cannot be WebAssembly: the same arguments, results and errors."""

from __future__ import annotations

import ctypes
from typing import Any

from hybrid_compute.errors import BackendUnavailable
from hybrid_compute.kernels import limits
from hybrid_compute.kernels.arguments import Signature
from hybrid_compute.kernels.options import Options
from hybrid_compute.kernels.python import python
from hybrid_compute.kernels.tree import Function
from hybrid_compute.kernels.types import ArrayType, Element
from hybrid_compute.kernels.visits import address_of

_ELEMENTS: dict[str, Any] = {
    "u8": ctypes.c_uint8,
    "i32": ctypes.c_int32,
    "int": ctypes.c_int64,
    "f32": ctypes.c_float,
    "float": ctypes.c_double,
}


class Plain:
    """Calls the Python that was made of a kernel. It works on the memory of arrays, as the compiled one does."""

    def __init__(self, function: Function, signature: Signature, options: Options) -> None:
        if options.fuel is not None:
            raise BackendUnavailable(
                f"the fuel of the kernel {function.name} is counted in wasmtime, and there is none of use here: "
                f"pip install 'hybrid-compute[wasm]', or make it without fuel"
            )
        self._name = function.name
        self._signature = signature
        self._function = python(function, deterministic=options.deterministic)

    def call(self, given: tuple[Any, ...]) -> Any:
        limits.ticks(self._name)  # raises if there is no time left
        signature = self._signature
        signature.check(given)
        views = signature.views(given)
        elements = [_elements(view, type.element) for view, (*_, type) in zip(views, signature.arrays, strict=True)]
        values = signature.typed(tuple(signature.spread(given, [0] * len(views), views)))
        arrays = iter(elements)
        place = 0
        for _, type in signature.parameters:
            if isinstance(type, ArrayType):
                values[place] = next(arrays)
                place += type.axes
            place += 1
        try:
            return self._function(*values)
        except Exception as error:
            if not getattr(error, "__notes__", None):  # so it was raised by a function of Python's
                error.add_note(f"in the kernel {self._name}")
            raise

    def split(self, pieces: list[range], args: tuple[Any, ...], threads: int) -> list[Any]:
        """Call it for each piece of a range. That is done in one thread, for Python has one turn at a time anyway."""
        return [self.call((piece.start, piece.stop, *args)) for piece in pieces]


def _elements(view: memoryview, element: Element) -> Any:
    """The elements of an array one after the other, as numbers of Python's."""
    type = _ELEMENTS[element.name] * (view.nbytes // element.size)
    return type.from_address(address_of(view)) if view.nbytes else type()
