"""`Code`: WebAssembly as bytes, in a file, or as text."""

from __future__ import annotations

from os import PathLike
from pathlib import Path
from typing import ClassVar, Self

from hybrid_compute.wasm.source import Source
from hybrid_compute.wasm.text import binary


class Code:
    """WebAssembly to be run in a sandbox.

    How long it takes to compile is for its author to say, and nothing stops that. So only what is not too large is
    compiled, unless it is `trusted`: 64 MiB, and 100,000 functions.
    """

    is_component: ClassVar[bool] = False

    def __init__(self, source: Source) -> None:
        self.source = source
        self.name = source.name

    @classmethod
    def from_file(cls, path: str | PathLike[str], *, trusted: bool = False) -> Self:
        """That in a file, in the binary format or (`.wat`) as text. It is read when it is first needed."""
        file = Path(path)
        if file.suffix == ".wat":
            return cls.from_wat(file.read_text(), file.name, trusted=trusted)
        return cls(Source(file.name, path=file, component=cls.is_component, trusted=trusted))

    @classmethod
    def from_bytes(cls, source: bytes, name: str = "", *, trusted: bool = False) -> Self:
        """That in the binary format. Raises `InvalidInput` if it is none, or too large."""
        called = name or ("component" if cls.is_component else "module")
        made = cls(Source(called, bytes(source), component=cls.is_component, trusted=trusted))
        made.source.digest  # noqa: B018  # to say so now
        return made

    @classmethod
    def from_wat(cls, text: str, name: str = "", *, trusted: bool = False) -> Self:
        """That which the text says. Raises `InvalidInput` that points to what is wrong in it."""
        called = name or ("component" if cls.is_component else "module")
        return cls.from_bytes(binary(text, called), called, trusted=trusted)

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self.name}>"
