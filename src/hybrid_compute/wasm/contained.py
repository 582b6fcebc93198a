"""What can be run in a sandbox: the word between the places that run calls and the functions that are contained."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from hybrid_compute.wasm.leash import Leash


class Contained(ABC):
    """A function whose code runs in a sandbox, wherever it is called."""

    restartable: bool = False
    """Whether it may be stopped and run again from the beginning, because it touches nothing outside its sandbox."""

    @property
    def is_ready(self) -> bool:
        """Whether nothing is left to `prepare`."""
        return True

    @abstractmethod
    def run(self, leash: Leash | None, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> Any:
        """Run it in this thread; `leash` can stop it from any other."""

    @abstractmethod
    def prepare(self) -> None:
        """Do now what the first call would have to wait for. Raises what that call would."""
