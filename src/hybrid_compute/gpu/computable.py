"""What a device can compute: the word between the place that runs calls and the functions that it can run."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from hybrid_compute.gpu.facts import Facts
    from hybrid_compute.gpu.work import Reply, Work


class Computable(ABC):
    """A function that a device can compute. Calling it computes it on the processor, in this thread.

    Called with what stands for an array in a recording, it becomes a part of that.
    """

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """The twin's result; while it is recorded, what stands for the result later."""
        for each in (*args, *kwargs.values()):
            recording = getattr(each, "recording", None)
            if recording is not None:
                return recording.add(self, args, kwargs)
        return self.here(*args, **kwargs)

    @abstractmethod
    def here(self, *args: Any, **kwargs: Any) -> Any:
        """Compute it on the processor, in this thread."""

    @abstractmethod
    def positional(self, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> tuple[Any, ...]:
        """All arguments in the order of the parameters. Raises `InvalidInput` if they are not what those ask for."""

    def all_positional(self, calls: Sequence[tuple[Any, ...]]) -> Sequence[tuple[Any, ...]]:
        """The same for many calls that name no argument."""
        return [self.positional(args, {}) for args in calls]

    @abstractmethod
    def work(self, args: tuple[Any, ...], facts: Facts, reply: Reply) -> Work:
        """What a device with these facts has to do for a call. Raises `InvalidInput` for arguments that do not fit."""

    def lacks(self, facts: Facts) -> str:
        """What a device with these facts would need for this, and has not; an empty text if it has it all."""
        return ""

    def works(self, calls: Sequence[tuple[Any, ...]], facts: Facts, reply: Callable[[int, int], Reply]) -> list[Work]:
        """The same for many calls; `reply` tells who waits for those from one number to another, one or several.

        Who waits for a call that does not fit is told so, and nobody else.
        """
        works: list[Work] = []
        for number, args in enumerate(calls):
            waits = reply(number, number + 1)
            try:
                works.append(self.work(args, facts, waits))
            except Exception as error:  # whatever it is: nobody else would hear of it, and somebody waits
                waits.failed(error, started=False)
        return works
