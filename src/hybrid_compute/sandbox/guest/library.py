"""The standard library, out of memory: there is no file system to import it from.

What programs use most is imported when the component is made. Of the rest, the compiled code is kept, compressed, and
imported when somebody asks. What could not work is refused, with the reason.
"""

from __future__ import annotations

import importlib
import importlib.abc
import importlib.util
import marshal
import os
import sys
import zlib
from collections.abc import Iterator, Sequence
from importlib.machinery import BuiltinImporter, FrozenImporter, ModuleSpec
from types import CodeType, ModuleType

from hybrid_compute.sandbox.guest import loop
from hybrid_compute.sandbox.guest.files import files

_NETWORK = "a sandbox has no network: what a program may reach is granted to it as a function"
_PROCESSES = "a sandbox has no other processes"
_NATIVE = "a sandbox runs no native code"
_SCREEN = "a sandbox has no screen"

REFUSED = {
    **dict.fromkeys(("socket", "_socket", "ssl", "_ssl", "select", "selectors", "socketserver"), _NETWORK),
    **dict.fromkeys(("subprocess", "multiprocessing", "_posixsubprocess", "pty"), _PROCESSES),
    **dict.fromkeys(("ctypes", "_ctypes", "cffi"), _NATIVE),
    **dict.fromkeys(("tkinter", "turtle", "curses", "webbrowser"), _SCREEN),
}

_USUAL = {
    *("abc", "argparse", "array", "ast", "asyncio", "base64", "binascii", "bisect", "calendar", "cmath", "codecs"),
    *("collections", "collections.abc", "colorsys", "concurrent.futures", "configparser", "contextlib"),
    *("contextvars", "copy", "csv", "dataclasses", "datetime", "decimal", "difflib", "email", "enum", "errno"),
    *("fnmatch", "fractions", "functools", "gc", "glob", "graphlib", "gzip", "hashlib", "heapq", "hmac", "html"),
    *("html.parser", "inspect", "io", "ipaddress", "itertools", "json", "keyword", "logging", "math", "numbers"),
    *("operator", "os", "os.path", "pathlib", "pickle", "platform", "pprint", "queue", "random", "re", "reprlib"),
    *("secrets", "shlex", "shutil", "signal", "sqlite3", "stat", "statistics", "string", "struct", "sys"),
    *("tempfile", "textwrap", "threading", "time", "timeit", "tokenize", "traceback", "types", "typing"),
    *("unicodedata", "unittest", "urllib.parse", "uuid", "warnings", "weakref", "xml.etree.ElementTree", "zipfile"),
    *("zlib", "zoneinfo"),
}

_LEFT_OUT = {
    *("test", "tests", "idlelib", "turtledemo", "ensurepip", "venv", "pydoc_data", "lib2to3", "_pyrepl"),
    *("site-packages", "__pycache__", "__phello__", "config-3.14-wasm32-wasi"),
}


class Library(importlib.abc.MetaPathFinder, importlib.abc.InspectLoader):
    """Finds and loads what is in memory: modules of the standard library, and the program's own files."""

    def __init__(self, kept: dict[str, tuple[bool, bytes]]) -> None:
        self._kept = kept

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        if fullname in REFUSED:
            raise ModuleNotFoundError(f"No module named {fullname!r} here: {REFUSED[fullname]}", name=fullname)
        if fullname in self._kept or files.source_of(fullname) is not None:
            return importlib.util.spec_from_loader(fullname, self, origin=f"<{fullname}>")
        return None

    def is_package(self, fullname: str) -> bool:
        return fullname in self._kept and self._kept[fullname][0]

    def get_code(self, fullname: str) -> CodeType:
        if fullname in self._kept:
            code: CodeType = marshal.loads(zlib.decompress(self._kept[fullname][1]))
            return code
        return compile(self.get_source(fullname), f"<{fullname}>", "exec", dont_inherit=True)

    def get_source(self, fullname: str) -> str:
        source = files.source_of(fullname)
        if source is None:
            raise ImportError(f"the source of {fullname} is not kept in a sandbox", name=fullname)
        return source


class Refusals(importlib.abc.MetaPathFinder):
    """Asked before all others, for what is part of the interpreter and still would not work."""

    def find_spec(self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None) -> None:
        if fullname in REFUSED:
            raise ModuleNotFoundError(f"No module named {fullname!r} here: {REFUSED[fullname]}", name=fullname)


def install() -> None:
    """Import the usual modules, keep the others, and do without files from now on."""
    kept = dict(_compiled(sys.prefix))  # where componentize-py has it while the component is made
    for name in sorted(_USUAL):
        importlib.import_module(name)
    loop.install()
    for name in REFUSED:  # those who imported it keep it; it does nothing for them
        sys.modules.pop(name, None)
    sys.meta_path[:] = [Refusals(), BuiltinImporter, FrozenImporter, Library(kept)]
    sys.path[:] = []
    sys.path_importer_cache.clear()


def _compiled(folder: str, package: str = "") -> Iterator[tuple[str, tuple[bool, bytes]]]:
    """Every module below this folder: its name, whether it is a package, and its code."""
    for entry in sorted(os.listdir(folder)):
        path = f"{folder}/{entry}"
        stem, dot, ending = entry.rpartition(".")
        if entry in _LEFT_OUT or f"{package}{entry}".split(".")[0] in REFUSED or (stem in REFUSED and not package):
            continue
        if ending == "py" and dot and stem != "__init__":
            yield package + stem, (False, _code(path, package + stem))
        elif os.path.exists(f"{path}/__init__.py"):
            yield package + entry, (True, _code(f"{path}/__init__.py", package + entry))
            yield from _compiled(path, f"{package}{entry}.")


def _code(path: str, name: str) -> bytes:
    with open(path, "rb") as file:
        code = compile(file.read(), f"<{name}>", "exec", dont_inherit=True)
    return zlib.compress(marshal.dumps(code))
