"""WebAssembly text while it is written: lines, locals and labels, and what all writers of it share."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Protocol

from hybrid_compute.kernels.tree import Expr, Function, Load, Local, Site, Statement, Store


def local(name: str) -> str:
    """A name of Python's as one of WASM's text, which knows ASCII only."""
    return "$" + "".join(each if each.isascii() else f"%{ord(each):x}" for each in name)


def length(array: str, axis: int) -> str:
    """The local with the length of an array along this axis."""
    return f"{local(array)}.{axis}"


class Addresses(Protocol):
    """Elements of which it is known where they are."""

    def knows(self, node: Load | Store) -> bool: ...

    def push(self, writer: Writer, node: Load | Store) -> str:
        """Push the address; what is to be written behind the instruction."""
        ...


class Writer(ABC):
    """Writes one function: statements, and expressions, each of which leaves its value on the stack."""

    def __init__(self, function: Function) -> None:
        self.function = function
        self.out: list[str] = []
        self.known: Addresses | None = None
        """Set while the quick version of a loop is written."""
        self.declared: list[str] = []
        self._count = 0

    @abstractmethod
    def expression(self, node: Expr) -> None: ...

    @abstractmethod
    def block(self, body: list[Statement]) -> None: ...

    @abstractmethod
    def body(self, body: list[Statement], done: str) -> None:
        """The body of a loop that ends at the label `done`."""

    @abstractmethod
    def site(self, site: Site) -> int:
        """The number of a place that may fail."""

    def say(self, *lines: str) -> None:
        self.out.extend(lines)

    def new(self, type: str) -> str:
        """A local of our own."""
        self._count += 1
        name = f"$..{self._count}"
        self.declared.append(f"(local {name} {type})")
        return name

    def label(self, what: str) -> str:
        self._count += 1
        return f"${what}{self._count}"

    def held(self, value: Expr) -> str:
        """The name of a local that has this value."""
        if isinstance(value, Local):
            return local(value.name)
        self.expression(value)
        assert value.type is not None
        name = self.new(value.type.wasm)
        self.say(f"local.set {name}")
        return name

    def fail(self, site: Site) -> None:
        self.say(f"i32.const {self.site(site)}", "global.set $site", "unreachable")

    def fail_if(self, site: Site) -> None:
        """Fail if what lies on the stack is true."""
        self.say("if")
        self.fail(site)
        self.say("end")
