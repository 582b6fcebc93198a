"""The bytes of a module, and their digest. Of a file whose code is in the cache already, neither is read again."""

from __future__ import annotations

import hashlib
from functools import cached_property
from pathlib import Path
from typing import Any, NoReturn

from hybrid_compute.errors import InvalidInput
from hybrid_compute.wasm.cache import cache
from hybrid_compute.wasm.encoding import Endless, count_of_functions

MOST = 64 << 20
"""Bytes of code that is not trusted."""
MOST_FUNCTIONS = 100_000
"""Of code that is not trusted. So many take some seconds, and half a gigabyte, if there is nothing in them."""
_COMPONENT = b"\x0d\0\x01\0"
"""What follows in the header of a component. In that of a module it is the version, 1."""


class Source:
    """What is to be compiled: bytes, or a file that has them. Raises `InvalidInput` if it is no WebAssembly."""

    def __init__(
        self,
        name: str,
        data: bytes | None = None,
        path: Path | None = None,
        *,
        component: bool = False,
        trusted: bool = False,
    ) -> None:
        self.name = name
        self.trusted = trusted
        self._component = component
        self._path = path
        if data is not None:
            self.data = data
        elif path is not None:
            path.stat()  # whether it is there is said now, not at the first call

    @cached_property
    def data(self) -> bytes:
        assert self._path is not None
        data = self._path.read_bytes()
        known = vars(self).get("digest")
        if known is not None and hashlib.sha256(data).hexdigest() != known:
            raise InvalidInput(f"{self._path} has changed since it became this module: make a new one of it")
        return data

    @cached_property
    def digest(self) -> str:
        """SHA-256. Of a file that the cache knows, from there."""
        kept = cache() if self._path is not None else None
        if self._path is None or kept is None:
            return self._digest()
        return kept.digest_of(self._path, self._digest)

    def _digest(self) -> str:
        if self.data[:4] != b"\0asm":
            raise InvalidInput(f"{self.name} is no WebAssembly: it does not begin with \\0asm")
        if (self.data[4:8] == _COMPONENT) != self._component:
            what = "a module: WasmModule" if self._component else "a component: WasmComponent"
            raise InvalidInput(f"{self.name} is {what} takes it")
        if not self.trusted:
            self._insist_on_sizes()
        return hashlib.sha256(self.data).hexdigest()

    def _insist_on_sizes(self) -> None:
        """Refuse what would take very long to compile, or very much memory: a megabyte can take both."""
        if len(self.data) > MOST:
            self._refuse(f"{len(self.data):,} bytes")
        try:
            functions = count_of_functions(self.data, component=self._component)
        except Endless as error:
            self._refuse(str(error))
        if functions > MOST_FUNCTIONS:
            self._refuse(f"{functions:,} functions")

    def _refuse(self, much: str) -> NoReturn:
        raise InvalidInput(
            f"{self.name} has {much}; what is not trusted is compiled only up to {MOST:,} bytes and "
            f"{MOST_FUNCTIONS:,} functions: load it with trusted=True if its author is"
        )

    def __getstate__(self) -> dict[str, Any]:
        return {
            "name": self.name,
            "_path": None,
            "data": self.data,
            "_component": self._component,
            "trusted": self.trusted,
        }  # the file may not be where this is unpickled

    def __repr__(self) -> str:
        return f"<Source {self.name}>"
