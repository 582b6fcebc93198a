"""What the compiler of shaders says, for people."""

from __future__ import annotations

import re

from hybrid_compute.gpu.errors import InvalidShader

_PLACE = re.compile(r"wgsl:(\d+):(\d+)")
_NOISE = re.compile(r"^(Validation Error|Caused by:|\s*In wgpu\w*.*)$")


def is_lost(error: Exception) -> bool:
    """Whether the device is gone. wgpu has no error of its own for it."""
    return "device is lost" in str(error)


def understood(name: str, text: str) -> InvalidShader:
    """The error for a shader that was refused with this text, with its line and column."""
    place = _PLACE.search(text)
    line, column = (int(place[1]), int(place[2])) if place else (0, 0)
    told = "\n".join(row for row in text.splitlines() if row.strip() and not _NOISE.match(row))
    where = f"line {line}, column {column}" if place else "its text"
    return InvalidShader(f"the shader of {name} is refused at {where}:\n{told}", line=line, column=column)
