"""What is wrong with a shader."""

from __future__ import annotations


class InvalidShader(ValueError):
    """A shader that cannot be compiled, or does not have what its task declares. Raised where the task is defined.

    `line` and `column` count from 1, within the text of the shader; 0 where the fault has no place of its own.
    """

    def __init__(self, message: str, *, line: int = 0, column: int = 0) -> None:
        super().__init__(message)
        self.line = line
        self.column = column
