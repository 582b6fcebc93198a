"""The gpus that there are on this machine, and which of them is taken."""

from __future__ import annotations

import os
import threading
from dataclasses import dataclass, field
from typing import Any, Literal

from hybrid_compute.gpu.missing import missing, no_adapter

Kind = Literal["discrete", "integrated", "virtual", "software", "unknown"]

_KINDS: dict[str, Kind] = {
    "DiscreteGPU": "discrete",
    "IntegratedGPU": "integrated",
    "VirtualGPU": "virtual",
    "CPU": "software",
}
_ORDER: tuple[Kind, ...] = ("discrete", "integrated", "virtual", "unknown", "software")
_APIS = ("Metal", "D3D12", "Vulkan", "OpenGL")


@dataclass(frozen=True, slots=True)
class Adapter:
    """A gpu as one driver shows it. A `software` one computes on the processor: right, and slow."""

    name: str
    kind: Kind
    api: str
    driver: str
    features: frozenset[str]
    wgpu: Any = field(repr=False, compare=False)

    @property
    def is_software(self) -> bool:
        return self.kind == "software"

    @property
    def shares_memory(self) -> bool:
        """Whether its shaders and the processor have the same memory, so that both may as well use it where it is.

        A card has memory of its own, which is several times as fast for it as what the host can map.
        """
        return self.kind in ("integrated", "software")

    def __str__(self) -> str:
        return f"{self.name} ({self.kind}, {self.api}, {self.driver})"


class Machine:
    """The adapters that wgpu has shown. It is asked once, by one thread at a time: drivers for OpenGL take no more."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._shown: list[Adapter] = []
        self._gone: list[Adapter] = []  # which are not let go: that is no better while another thread looks
        self._is_copied = False

    def adapters(self) -> list[Adapter]:
        with self._lock:
            if self._is_copied:
                raise no_adapter("this process was forked from one that has used its driver: start it in another way")
            if not self._shown:
                self._shown = self._look()
            return list(self._shown)

    def look_again(self) -> None:
        with self._lock:
            self._gone += self._shown
            self._shown = []

    def leave(self) -> None:
        """This is a forked child: it has nothing of the driver but its memory."""
        self._lock = threading.Lock()
        self._is_copied = self._is_copied or bool(self._shown or self._gone)

    def _look(self) -> list[Adapter]:
        import wgpu

        os.environ.setdefault("XDG_RUNTIME_DIR", os.devnull)  # else EGL complains on stderr; nothing is shown here
        found = [_adapter(each) for each in wgpu.gpu.enumerate_adapters_sync()]
        return sorted(found, key=lambda each: (_ORDER.index(each.kind), _APIS.index(each.api)))


_machine = Machine()
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_machine.leave)


def adapters() -> list[Adapter]:
    """All that wgpu finds, the best first. They are looked for once.

    Raises `BackendUnavailable` if wgpu is not installed, and in a process that was forked from one that has looked.
    """
    try:
        return _machine.adapters()
    except ImportError as error:
        raise missing(error) from error


def look_again() -> None:
    """Have adapters be looked for again: one may be gone."""
    _machine.look_again()


def choose(name: str | None = None) -> Adapter:
    """The best adapter, or the best of those with `name` in their name or api; any case.

    Raises `BackendUnavailable` if there is none.
    """
    found = adapters()
    if not found:
        raise no_adapter("wgpu finds none")
    fitting = [each for each in found if name is None or name.lower() in str(each).lower()]
    if not fitting:
        raise no_adapter(f"none is called {name!r}, but there is {', '.join(map(str, found))}")
    return fitting[0]


def _adapter(found: Any) -> Adapter:
    info = found.info
    api = info["backend_type"] if info["backend_type"] in _APIS else "OpenGL"
    kind = _KINDS.get(info["adapter_type"], "unknown")
    name = info["device"] or info["vendor"] or "unnamed"
    return Adapter(name, kind, api, info["description"], frozenset(found.features), found)
