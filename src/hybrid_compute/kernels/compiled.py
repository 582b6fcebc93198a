"""A kernel as WebAssembly: its calls, in one thread or in several."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

from hybrid_compute.kernels import parallel
from hybrid_compute.kernels.arguments import Signature
from hybrid_compute.kernels.visits import Visit

if TYPE_CHECKING:
    from hybrid_compute.kernels.program import Program


class Compiled:
    """Calls a program, for which arrays have to be where it works."""

    def __init__(self, program: Program, signature: Signature) -> None:
        self.program = program
        self._signature = signature

    def call(self, given: tuple[Any, ...]) -> Any:
        signature = self._signature
        if len(given) != len(signature.parameters):
            signature.bind(given, {})
        if not signature.arrays:
            return self._enter(given)
        views = signature.views(given)
        visit = Visit(signature, self.program.machine)
        try:
            return self._enter(signature.spread(given, visit.begin(views), views))
        finally:
            visit.end()

    def split(self, pieces: list[range], args: tuple[Any, ...], threads: int) -> list[Any]:
        """Call it for each piece of a range, in so many threads."""
        signature = self._signature
        probe = (0, 0, *args)
        if len(probe) != len(signature.parameters):
            signature.bind(probe, {})
        views = signature.views(probe)
        visit = Visit(signature, self.program.machine)
        try:
            rest = list(signature.spread(probe, visit.begin(views), views))[2:]
            return parallel.side_by_side(lambda piece: self._enter((piece.start, piece.stop, *rest)), pieces, threads)
        finally:
            visit.end()

    def _enter(self, values: Iterable[Any]) -> Any:
        instance = self.program.lend()
        try:
            self._signature.pack(instance.slots, tuple(values))
            instance.run()
            result = self._signature.result(instance.slots)
        except Exception:
            self.program.put_back(instance)
            raise
        # What a signal has raised may have come in between anything: then nobody uses this instance again.
        self.program.put_back(instance)
        return result
