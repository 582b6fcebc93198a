"""From a function to a kernel with every type known, or a `KernelError` that says where and why not."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from hybrid_compute.kernels.definitions import finish, signature
from hybrid_compute.kernels.source import Source
from hybrid_compute.kernels.statements import Statements
from hybrid_compute.kernels.tree import Function


def translate(source: Source, resolve: Callable[[Any], Function | None], *, fast: bool) -> Function:
    """The function as a kernel, or a `KernelError`. `resolve` knows which objects are kernels."""
    function = signature(source)
    function.fast = fast
    Statements(source, function, resolve).translate()
    finish(function)
    return function
