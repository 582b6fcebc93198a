"""What a shader says of itself: its bindings, its structs and its entry point, read from the text of it.

This is no parser of WGSL. Declarations at the top are found, and everything else is left to the compiler of the
device. The grammar is that of https://www.w3.org/TR/WGSL/, sections 6 (types), 7 (variables) and 12 (attributes).
"""

from __future__ import annotations

import itertools
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Literal

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


_COMMENT = re.compile(r"//|/\*")
_EDGE = re.compile(r"/\*|\*/")
_ATTRIBUTES = r"((?:@\w+(?:\s*\([^()]*\))?\s*)+)"
_VARIABLE = re.compile(_ATTRIBUTES + r"var\s*<\s*([\w\s,]+?)\s*,?\s*>\s*(\w+)\s*:\s*([^;={}]+?)\s*[;=]")
_STRUCT = re.compile(r"\bstruct\s+(\w+)\s*\{([^{}]*)\}")
_FUNCTION = re.compile(_ATTRIBUTES + r"fn\s+(\w+)\s*\(")
_ALIAS = re.compile(r"\balias\s+(\w+)\s*=\s*([^;]+?)\s*;")
_CONST = re.compile(r"\b(?:const|override)\s+(\w+)\s*(?::\s*\w+\s*)?=\s*(\d+)[iu]?\s*;")
_ENABLE = re.compile(r"\benable\s+([\w\s,]+);")
_FEATURES = {"f16": "shader-f16", "subgroups": "subgroup"}
_ATTRIBUTE = re.compile(r"@(\w+)(?:\s*\(([^()]*)\))?")


def features(source: str) -> frozenset[str]:
    """The features of wgpu that a device must have for what this text enables."""
    enabled = ",".join(_ENABLE.findall(without_comments(source))).split(",")
    return frozenset(_FEATURES[name.strip()] for name in enabled if name.strip() in _FEATURES)


def reflect(source: str) -> Shader:
    """What this text declares. Raises `InvalidShader` where that makes no sense to us, with the line."""
    text = without_comments(source)
    aliases = dict(_ALIAS.findall(text))
    values = dict(_CONST.findall(text))
    structs = {name: tuple(_fields(body, aliases, values)) for name, body in _STRUCT.findall(text)}
    bindings = tuple(sorted(_bindings(text, aliases), key=lambda each: each.number))
    for one, other in itertools.pairwise(bindings):
        if one.number == other.number:
            raise InvalidShader(f"{one.name} and {other.name} have the same @binding({one.number})")
    return Shader(bindings, structs, {entry.name: entry for entry in _entries(text, values)})


def without_comments(source: str) -> str:
    """The same text with a blank for each character of a comment, so that lines and columns stay what they are."""
    pieces: list[str] = []
    at = 0
    while found := _COMMENT.search(source, at):
        end = _end_of_comment(source, found)
        pieces += [source[at : found.start()], _blank(source[found.start() : end])]
        at = end
    return "".join([*pieces, source[at:]])


def _end_of_comment(source: str, opening: re.Match[str]) -> int:
    if opening[0] == "//":
        end = source.find("\n", opening.start())
        return len(source) if end < 0 else end
    depth, at = 1, opening.end()
    while depth:  # comments of this kind can be nested
        edge = _EDGE.search(source, at)
        if edge is None:
            return len(source)
        depth += 1 if edge[0] == "/*" else -1
        at = edge.end()
    return at


def _blank(text: str) -> str:
    return re.sub(r"[^\n]", " ", text)


def _bindings(text: str, aliases: Mapping[str, str]) -> Iterator[Binding]:
    for found in _VARIABLE.finditer(text):
        attributes = dict(_ATTRIBUTE.findall(found[1]))
        name, where = found[3], f"line {text.count(chr(10), 0, found.start(3)) + 1}: "
        space, _, mode = (word.strip() for word in found[2].partition(","))
        if space not in ("storage", "uniform"):
            raise InvalidShader(f"{where}{name} is bound, and lies in {space}: only storage and uniform can be")
        if "binding" not in attributes or attributes.get("group", "").strip() != "0":
            raise InvalidShader(f"{where}{name} needs @group(0) and a @binding(...): all arrays are in that group")
        access: Access = "uniform" if space == "uniform" else "read_write" if mode == "read_write" else "read"
        yield Binding(int(attributes["binding"]), name, access, _resolved(found[4], aliases))


def _entries(text: str, values: Mapping[str, str]) -> Iterator[Entry]:
    for found in _FUNCTION.finditer(text):
        attributes = dict(_ATTRIBUTE.findall(found[1]))
        if "compute" not in attributes:
            continue
        where = f"line {text.count(chr(10), 0, found.start(2)) + 1}: "
        sizes = [size.strip() for size in attributes.get("workgroup_size", "").split(",") if size.strip()]
        if not sizes:
            raise InvalidShader(f"{where}{found[2]} has no @workgroup_size")
        x, y, z, *_ = [*(_number(size, values, where) for size in sizes), 1, 1]
        parameters = text[found.end() : text.find("{", found.end())]
        yield Entry(found[2], (x, y, z), "num_workgroups" in parameters)


def _number(text: str, values: Mapping[str, str], where: str) -> int:
    plain = _plain(text, values)
    if plain.isdigit():
        return int(plain)
    raise InvalidShader(f"{where}a @workgroup_size of {text} is not understood: write a number, or a const that is one")


def _plain(text: str, values: Mapping[str, str]) -> str:
    """The digits of a number, or of a constant that is one; anything else as it is."""
    text = text.strip()
    bare = text.removesuffix("u").removesuffix("i")
    return bare if bare.isdigit() else values.get(text, text)


def _fields(body: str, aliases: Mapping[str, str], values: Mapping[str, str]) -> Iterator[Field]:
    for member in split(body):
        said = {name: _plain(value, values) for name, value in _ATTRIBUTE.findall(member)}
        name, _, kind = _ATTRIBUTE.sub("", member).partition(":")
        if kind:
            yield Field(name.strip(), _resolved(kind, aliases), said.get("align", ""), said.get("size", ""))


def _resolved(kind: str, aliases: Mapping[str, str]) -> str:
    """The type as it is, without blanks: `array<vec4<f32>>` where it said `array<Row>` and Row was an alias."""
    for _ in aliases:
        kind = re.sub(r"\b\w+\b", lambda word: aliases.get(word[0], word[0]), kind)
    return re.sub(r"\s+", "", kind)


def split(text: str) -> list[str]:
    """The parts between the commas that stand in no brackets."""
    parts, depth, begin = list[str](), 0, 0
    for at, letter in enumerate(text):
        depth += (letter in "<([") - (letter in ">)]")
        if letter == "," and depth == 0:
            parts.append(text[begin:at].strip())
            begin = at + 1
    return [part for part in [*parts, text[begin:].strip()] if part]
