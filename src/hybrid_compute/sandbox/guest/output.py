"""What a program prints, kept in memory up to a limit."""

from __future__ import annotations

import io


class OutputExceeded(BaseException):
    """The program has printed more than it may. No `except Exception` of the program's catches it."""


class Output(io.TextIOBase):
    """A text stream that remembers, and refuses what is beyond `limit` characters.

    It remembers that too: `exceeded` stays true even if the program goes on.
    """

    def __init__(self, limit: int) -> None:
        super().__init__()
        self._parts: list[str] = []
        self._left = limit
        self.exceeded = False
        self.buffer = _Bytes(self)

    encoding = "utf-8"

    def writable(self) -> bool:
        return True

    def write(self, text: str, /) -> int:
        if not isinstance(text, str):
            raise TypeError(f"write() argument must be str, not {type(text).__name__}")
        self._parts.append(text[: self._left])
        if len(text) > self._left:
            self.exceeded = True
            self._left = 0
            raise OutputExceeded
        self._left -= len(text)
        return len(text)

    @property
    def text(self) -> str:
        """All of it, fit for UTF-8."""
        return "".join(self._parts).encode("utf-8", "backslashreplace").decode()


class _Bytes(io.RawIOBase):
    """The same, for who writes bytes."""

    def __init__(self, output: Output) -> None:
        super().__init__()
        self._output = output

    def writable(self) -> bool:
        return True

    def write(self, data: object, /) -> int:
        given = bytes(data)  # type: ignore[call-overload]  # whatever has a buffer
        self._output.write(given.decode("utf-8", "backslashreplace"))
        return len(given)
