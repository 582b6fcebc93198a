"""The declarations of a shader: where each begins, and the attributes before it.

What is within a function declares nothing here: a name in it may be that of something else outside.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

_COMMENT = re.compile(r"//|/\*")
_EDGE = re.compile(r"/\*|\*/")
_END = re.compile(r"[{};]")
_BRACKET = re.compile(r"[()]")
_ATTRIBUTE = re.compile(r"\s*@\s*(\w+)\s*(\()?")


@dataclass(frozen=True, slots=True)
class Declaration:
    """One of a shader: the line on which it begins, its attributes with what is in their brackets, and the rest."""

    line: int
    attributes: Mapping[str, str]
    text: str


def declarations(source: str) -> Iterator[Declaration]:
    """Those of the module, in their order."""
    text = without_comments(source)
    depth = begin = 0
    for end in _END.finditer(text):
        depth += (end[0] == "{") - (end[0] == "}")
        if depth == 0:
            whole = text[begin : end.end()]
            blank = len(whole) - len(whole.lstrip())
            yield Declaration(text.count("\n", 0, begin + blank) + 1, *parted(whole))
            begin = end.end()


def parted(text: str) -> tuple[Mapping[str, str], str]:
    """The attributes that a text begins with, and what follows them."""
    attributes: dict[str, str] = {}
    while (found := _ATTRIBUTE.match(text)) is not None:
        end = closing(text, found.end()) if found[2] else found.end()
        attributes[found[1]] = text[found.end() : end].strip()
        text = text[end:].removeprefix(")")
    return attributes, text.strip()


def closing(text: str, begin: int) -> int:
    """Where the bracket that is open here is closed; the end of the text, if it is not."""
    depth = 1
    for bracket in _BRACKET.finditer(text, begin):
        depth += 1 if bracket[0] == "(" else -1
        if depth == 0:
            return bracket.start()
    return len(text)


def split(text: str) -> list[str]:
    """The parts between the commas that stand in no brackets."""
    parts, depth, begin = list[str](), 0, 0
    for at, letter in enumerate(text):
        depth += (letter in "<([") - (letter in ">)]")
        if letter == "," and depth == 0:
            parts.append(text[begin:at].strip())
            begin = at + 1
    return [part for part in [*parts, text[begin:].strip()] if part]


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
