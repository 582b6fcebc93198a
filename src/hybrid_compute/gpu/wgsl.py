"""What a shader says of itself: its bindings, its structs and its entry point, read from the text of it.

This is no parser of WGSL. What a declaration says to us is found, and everything else is left to the compiler of the
device. The grammar is that of https://www.w3.org/TR/WGSL/, sections 6 (types), 7 (variables) and 12 (attributes).
"""

from __future__ import annotations

import itertools
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Literal

from hybrid_compute.gpu.const_expressions import Consts
from hybrid_compute.gpu.declarations import Declaration, closing, declarations, parted, split, without_comments
from hybrid_compute.gpu.errors import InvalidShader

Access = Literal["read", "read_write", "uniform"]
Size = tuple[int, int, int]


@dataclass(frozen=True, slots=True)
class Binding:
    """A variable of the shader that a buffer is bound to."""

    number: int
    name: str
    access: Access
    type: str


@dataclass(frozen=True, slots=True)
class Field:
    """A member of a struct, and what it says of where it lies: text, which need be no number."""

    name: str
    type: str
    align: str = ""
    size: str = ""
    line: int = field(default=0, compare=False)
    """That of the struct."""


@dataclass(frozen=True, slots=True)
class Entry:
    """A function that can be dispatched, and the size of its workgroups."""

    name: str
    workgroup: Size
    counts_workgroups: bool
    """Whether it asks for `num_workgroups`, and so can do more than one element in each invocation."""


@dataclass(frozen=True, slots=True)
class Shader:
    """What was found in the text."""

    bindings: tuple[Binding, ...]
    structs: Mapping[str, tuple[Field, ...]]
    entries: Mapping[str, Entry]


_VARIABLE = re.compile(r"var\s*(?:<\s*([\w\s,]+?)\s*,?\s*>)?\s*(\w+)\s*:\s*([^;=]+?)\s*[;=]")
_STRUCT = re.compile(r"struct\s+(\w+)\s*\{([^{}]*)\}")
_FUNCTION = re.compile(r"fn\s+(\w+)\s*\(")
_ALIAS = re.compile(r"alias\s+(\w+)\s*=\s*([^;]+?)\s*;")
_CONST = re.compile(r"(?:const|override)\s+(\w+)\s*(?::[^;=]*)?=([^;]*);")
_ARRAY = re.compile(r"array<(.+)>")
_ENABLE = re.compile(r"\benable\s+([\w\s,]+);")
_FEATURES = {"f16": "shader-f16", "subgroups": "subgroup"}


def features(source: str) -> frozenset[str]:
    """The features of wgpu that a device must have for what this text enables."""
    enabled = ",".join(_ENABLE.findall(without_comments(source))).split(",")
    return frozenset(_FEATURES[name.strip()] for name in enabled if name.strip() in _FEATURES)


def reflect(source: str) -> Shader:
    """What this text declares. Raises `InvalidShader` where that makes no sense to us, with the line."""
    module = _Module(source)
    bindings = tuple(sorted(module.bindings(), key=lambda each: each.number))
    for one, other in itertools.pairwise(bindings):
        if one.number == other.number:
            raise InvalidShader(f"{one.name} and {other.name} have the same @binding({one.number})")
    return Shader(bindings, module.structs(), {entry.name: entry for entry in module.entries()})


class _Module:
    """The declarations of a text, and the names that stand for something else in them."""

    def __init__(self, source: str) -> None:
        self._all = list(declarations(source))
        self._aliases = {found[1]: found[2] for _, found in self._of(_ALIAS)}
        self._consts = Consts({found[1]: found[2] for _, found in self._of(_CONST)})

    def structs(self) -> dict[str, tuple[Field, ...]]:
        return {found[1]: tuple(self._fields(each.line, found[2])) for each, found in self._of(_STRUCT)}

    def bindings(self) -> Iterator[Binding]:
        for each, found in self._of(_VARIABLE):
            if not each.attributes.keys() & {"group", "binding"}:
                continue
            name = found[2]
            space, _, mode = (word.strip() for word in (found[1] or "no buffer").partition(","))
            if space not in ("storage", "uniform"):
                raise _invalid(each, f"{name} is bound, and lies in {space}: only storage and uniform can be")
            group, number = self._numbers(each, "group"), self._numbers(each, "binding")
            if group != [0] or len(number) != 1:
                raise _invalid(each, f"{name} needs @group(0) and a @binding(...): all arrays are in that group")
            access: Access = "uniform" if space == "uniform" else "read_write" if mode == "read_write" else "read"
            yield Binding(number[0], name, access, self._resolved(found[3]))

    def entries(self) -> Iterator[Entry]:
        counting = {found[1] for _, found in self._of(_STRUCT) if any(map(_counts, split(found[2])))}
        for each, found in self._of(_FUNCTION):
            if "compute" not in each.attributes:
                continue
            sizes = self._numbers(each, "workgroup_size")
            if not sizes:
                raise _invalid(each, f"{found[1]} has no @workgroup_size")
            x, y, z, *_ = [*sizes, 1, 1]
            if min(x, y, z) < 1:
                raise _invalid(each, f"a @workgroup_size of {x}, {y}, {z} has no invocations")
            given = split(each.text[found.end() : closing(each.text, found.end())])
            counts = any(_counts(one) or self._resolved(_named(one)[1]) in counting for one in given)
            yield Entry(found[1], (x, y, z), counts)

    def _of(self, kind: re.Pattern[str]) -> Iterator[tuple[Declaration, re.Match[str]]]:
        return ((each, found) for each in self._all if (found := kind.match(each.text)) is not None)

    def _fields(self, line: int, body: str) -> Iterator[Field]:
        for member in split(body):
            said, _ = parted(member)
            align, size = (self._consts.plain(said.get(name, "")) for name in ("align", "size"))
            name, kind = _named(member)
            if kind:
                yield Field(name, self._resolved(kind), align, size, line)

    def _numbers(self, declaration: Declaration, attribute: str) -> list[int]:
        """What is said with an attribute; nothing, if that is not there."""
        said = split(declaration.attributes.get(attribute, ""))
        try:
            return [self._consts.value(each) for each in said]
        except ValueError as error:
            raise _invalid(
                declaration,
                f"@{attribute}({', '.join(said)}) is not understood, {error}: it may have whole numbers, consts of the "
                f"module, + - * / % and brackets",
            ) from None

    def _resolved(self, kind: str) -> str:
        """The type as it is, without blanks: `array<vec4<f32>,8>` for `array<Row, SIZE>`, where Row is an alias."""
        for _ in self._aliases:
            kind = re.sub(r"\b\w+\b", lambda word: self._aliases.get(word[0], word[0]), kind)
        kind = re.sub(r"\s+", "", kind)
        array = _ARRAY.fullmatch(kind)
        if array is None:
            return kind
        element, *count = split(array[1])
        return f"array<{','.join([element, *map(self._consts.plain, count)])}>"


def _named(member: str) -> tuple[str, str]:
    """The name and the type of a member of a struct, or of a parameter."""
    name, _, kind = parted(member)[1].partition(":")
    return name.strip(), kind.strip()


def _counts(member: str) -> bool:
    """Whether this is where it gets to know how many workgroups there are."""
    return parted(member)[0].get("builtin", "").rstrip(", ") == "num_workgroups"


def _invalid(declaration: Declaration, why: str) -> InvalidShader:
    return InvalidShader(f"line {declaration.line}: {why}", line=declaration.line)
