"""Names that a module gives to its functions and imports: they may be of any length, and have any characters."""

from __future__ import annotations

LONGEST = 100
"""Characters of a name that is shown."""
LONGEST_TEXT = 2000
"""Characters of what wasmtime says of a module, names and all."""


def shown(name: str, longest: int = LONGEST) -> str:
    r"""The name as it may be printed: cut, on one line, and with nothing in it that a terminal would obey.

    >>> shown("two" + chr(10) + "lines")
    'two\\nlines'
    """
    cut = name[:longest] + "..." if len(name) > longest else name
    return cut if cut.isprintable() else "".join(each if each.isprintable() else _escaped(each) for each in cut)


def shown_text(text: str) -> str:
    """The same for a text of several lines."""
    return "\n".join(shown(line, LONGEST_TEXT) for line in text[:LONGEST_TEXT].splitlines())


def listed(names: list[str], most: int = 20) -> str:
    """Some of these names, in order; "none" if there are none."""
    some = ", ".join(map(shown, sorted(names)[:most]))
    return f"{some} and {len(names) - most} more" if len(names) > most else some or "none"


def _escaped(character: str) -> str:
    return character.encode("unicode_escape").decode()
