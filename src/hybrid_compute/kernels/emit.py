"""From the typed tree to the text of a WebAssembly module: a kernel, and what it calls.

A failure sets the globals `site`, `index` and `length`, and traps; the machine makes an exception of them.
"""

from __future__ import annotations

from hybrid_compute.kernels.prelude import FUNCTIONS, HOST, NEEDS
from hybrid_compute.kernels.tree import Function, Site
from hybrid_compute.kernels.writer import FunctionWriter

LETTERS = {"i": "i64", "f": "f64"}
BIGGEST = 65536


class Module:
    """The text of one module: a kernel, and the kernels it calls."""

    def __init__(self, function: Function) -> None:
        self.sites: list[Site] = []
        self.hosts: list[str] = []
        self._needed: list[str] = []
        self._functions: dict[int, str] = {}
        self._texts: list[str] = []
        self._add(function)
        self.text = self._text(function)

    def _add(self, function: Function) -> None:
        if id(function) not in self._functions:
            self._functions[id(function)] = f"$f{len(self._functions)}"
            for called in function.calls:
                self._add(called)
            self._texts.append(FunctionWriter(self, function).write())

    def name(self, function: Function) -> str:
        return self._functions[id(function)]

    def site(self, site: Site) -> int:
        """The number of a place that may fail. 0 is for none."""
        self.sites.append(site)
        return len(self.sites)

    def need(self, name: str) -> str:
        """The name of a function of the prelude, or of the host, which will be there."""
        wanted, group = (name[5:], self.hosts) if name.startswith("host.") else (name, self._needed)
        if wanted not in group:
            group.append(wanted)
            for other in NEEDS.get(name, ()):
                self.need(other)
        return f"${name}"

    def _text(self, function: Function) -> str:
        imports = [
            f'  (import "host" "{name}" (func $host.{name}'
            f"{''.join(f' (param {LETTERS[letter]})' for letter in HOST[name][1])} (result f64)))"
            for name in self.hosts
        ]
        return "\n".join(
            [
                "(module",
                *imports,
                f'  (memory (export "memory") {BIGGEST} {BIGGEST})',
                *(
                    f'  (global ${name} (export "{name}") (mut {type}) ({type}.const 0))'
                    for name, type in (("site", "i32"), ("index", "i64"), ("length", "i64"))
                ),
                *(FUNCTIONS[name] for name in self._needed),
                *self._texts,
                f'  (export "run" (func {self.name(function)}))',
                ")",
            ]
        )
