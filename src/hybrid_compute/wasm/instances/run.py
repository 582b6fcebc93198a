"""A call that goes on a piece at a time: the guest yields after so much fuel, always at the same points."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence
from time import monotonic
from typing import TYPE_CHECKING, Any, Generic, TypeVar

from hybrid_compute.errors import BackendUnavailable

if TYPE_CHECKING:
    import ctypes

    from hybrid_compute.wasm.instances.gate import Gate
    from hybrid_compute.wasm.leash import Leash
    from hybrid_compute.wasm.signature import Convention

R = TypeVar("R")


class Run(Generic[R]):
    """A call of an instance that has begun. `step` lets it go on for one slice of fuel, until it is over.

        run = instance.begin("work", 1_000_000, slice=100_000)
        while not run.step():
            print(run.slices, "slices so far")
        print(run.result)

    The limits are those of one call. Of the time, only what it runs counts, and not what it waits for the next step.
    Any thread may step it. Until it is over, or cancelled, its instance takes no other call.
    """

    def __init__(
        self,
        gate: Gate,
        leash: Leash,
        convention: Convention,
        values: ctypes.Array[ctypes.c_char],
    ) -> None:
        self.slices = 0
        """How often it has run so far."""
        self.done = False
        self._gate, self._guest, self._leash = gate, gate.guest, leash
        self._convention, self._values = convention, values
        self._left = gate.guest.limits.time
        self._result: Any = None
        self._error: Exception | None = None

    def step(self) -> bool:
        """Let it run for one slice. True if it is over: then `result` has what it gave, or raises what went wrong."""
        with self._gate.turn():
            if not self.done:
                self._step()
            return self.done

    @property
    def result(self) -> R:
        """What the function has given. Raises what went wrong, as a call would, and `RuntimeError` before the end."""
        if self._error is not None:
            raise self._error
        if not self.done:
            raise RuntimeError(f"{self._convention.what} is not over: step() it until it gives True")
        result: R = self._result
        return result

    def cancel(self) -> None:
        """End it where it is. Its instance takes no call then until a snapshot is restored. Nothing if it is over."""
        with self._gate.turn():
            if not self.done:
                self._guest.abandon()
                self._end(RuntimeError(f"{self._convention.what} was cancelled after {self.slices} slices"))

    def _step(self) -> None:
        guest = self._guest
        if guest.suspended is None:  # its instance was closed
            return self._end(RuntimeError(f"{self._convention.what}: its instance was closed before it was over"))
        self.slices += 1
        began = monotonic()
        guest.go_on(self._leash, self._left)
        try:
            if guest.resume():
                self._result = self._convention.take(guest, self._values)
                self._end(None)
        except Exception as error:
            self._end(error)
        except BaseException as error:
            self._end(RuntimeError(f"{self._convention.what} was interrupted by {error!r}"))
            raise
        finally:
            guest.end()
            if self._left is not None:
                self._left = max(0.0, self._left - (monotonic() - began))

    def _end(self, error: Exception | None) -> None:
        self.done, self._error = True, error


def in_turns(runs: Sequence[Run[Any]]) -> Iterator[int]:
    """Step these runs one after the other, again and again, until all are over; gives the index of each as it has run.

    The order is always the same, and so is what each has done at each point, if it depends on its arguments alone. A
    run that fails is over, and the others go on.

        >>> list(in_turns([]))
        []
    """
    left = list(enumerate(runs))
    while left:
        for index, run in tuple(left):
            if run.step():
                left.remove((index, run))
            yield index


def insist_on_stacks() -> None:
    """Refuse what this interpreter would not survive: it takes the other stack of a suspended call for an overflow."""
    if sys.version_info >= (3, 14):
        raise BackendUnavailable(
            "a call that goes on a piece at a time runs on a stack of its own, which this version of Python does not "
            "allow: use Python 3.13 or older, or call the function at once",
            backend="wasm",
        )
