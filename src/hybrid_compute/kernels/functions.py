"""Functions within a kernel: what they read of the names around them is given to them with each call.

    def f(x: Array[f64], a: float) -> float:             def f.g(b: float, a: float, x: Array[f64]) -> float
        def g(b: float) -> float:                ──>         return a * b + x[0]
            return a * b + x[0]                          def f(x: Array[f64], a: float) -> float:
        return g(2.0)                                        return f.g(2.0, a, x)

That is what Python means by it, for such a name has its value of the time of the call, and only its own function can
change it.
"""

from __future__ import annotations

import ast
from abc import abstractmethod
from collections.abc import Callable
from typing import Any, NamedTuple

from hybrid_compute.kernels.calls import Calls
from hybrid_compute.kernels.definitions import finish, signature
from hybrid_compute.kernels.source import Source
from hybrid_compute.kernels.tree import Expr, Function, Local, Statement
from hybrid_compute.kernels.types import ArrayType, Scalar


class Inner(NamedTuple):
    """A function that can be called here."""

    function: Function
    passed: list[str]
    """Names of this scope that it is given after its own arguments."""


class Functions(Calls):
    """Translates functions within a kernel, and calls of them."""

    def __init__(self, source: Source, function: Function, resolve: Callable[[Any], Function | None]) -> None:
        super().__init__(source, function, resolve)
        self.inner: dict[str, Inner] = {}

    @abstractmethod
    def translate(self) -> None: ...

    def _functiondef(self, node: ast.FunctionDef) -> list[Statement]:
        name = node.name
        if name in self.inner or name in self.function.locals or name in self.function.parameters:
            self.refuse(node, f"{name} has a meaning already: give the function a name of its own")
        if node.decorator_list:
            self.refuse(node.decorator_list[0], "a function in a kernel is plain: leave out what decorates it")
        source = self.source.inner(node)
        function = signature(source)
        function.fast = self.function.fast
        around = self._captured(node, source)
        names = {each: each if each in source.code.co_freevars else f".{each}" for each in around}
        for each, parameter in names.items():
            given = function.parameters[parameter] = self.function.parameters.get(each) or self.function.locals[each]
            if isinstance(given, Scalar):
                function.locals[parameter] = given
        scope = type(self)(source, function, self._resolve)
        scope.inner = {
            each: Inner(other.function, [names[passed] for passed in other.passed])
            for each, other in self.inner.items()
            if each in source.code.co_freevars
        }
        scope.inner[name] = Inner(function, list(names.values()))
        scope.known = {*function.parameters, *scope.inner}
        scope.translate()
        finish(function)
        self.inner[name] = Inner(function, around)
        if self.known is not None:
            self.known.add(name)
        return []

    def _captured(self, node: ast.FunctionDef, source: Source) -> list[str]:
        """The names of this scope that the function reads, or that one reads which it calls."""
        found: list[str] = []
        for name in source.code.co_freevars:
            if name == node.name:
                continue
            if name in self.source.locals and self.known is not None and name not in self.known:
                self.refuse(node, f"{name}, which {node.name} reads, may have no value here: give it one before")
            if name in self.inner:
                found += self.inner[name].passed
            elif name in self.function.parameters or name in self.function.locals:
                found.append(name)
        return list(dict.fromkeys(found))

    def _nonlocal(self, node: ast.Nonlocal) -> list[Statement]:
        self.refuse(node, "a function in a kernel changes only names of its own: have it give back what it finds out")

    def _name(self, node: ast.Name) -> Expr:
        if node.id in self.inner:
            self.refuse(node, f"{node.id} is a function, which can only be called")
        return super()._name(node)

    def _call(self, node: ast.Call) -> Expr:
        if not (isinstance(node.func, ast.Name) and node.func.id in self.inner):
            return super()._call(node)
        name = node.func.id
        if self.known is not None and name not in self.known:
            self.refuse(node, f"{name} may not be defined here: define it before")
        function, passed = self.inner[name]
        around = [
            each if isinstance(self.function.parameters.get(each), ArrayType) else self._local(each) for each in passed
        ]
        return self.kernel(node, function, around)

    def _local(self, name: str) -> Local:
        return Local(self.function.locals[name], name)
