"""All that a sandbox can reach of this process: a clock, chance, and the functions that its program was granted.

Of the system interface that the interpreter was built for, these functions are there, and say that there is nothing:
no environment, no files. Everything else it could ask for (sockets, streams, processes) is not defined: to call it
ends the program. Nothing of wasmtime's own implementation of that interface is ever linked.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable
from typing import Any, Protocol, cast

from wasmtime import component

from hybrid_compute.errors import TaskFailed
from hybrid_compute.sandbox import components
from hybrid_compute.sandbox.worlds import World
from hybrid_compute.wasm.held import alive

_WASI = "0.2.9"
_MOST_RANDOM = 1 << 16


class Caller(Protocol):
    """A sandbox whose program asks for something."""

    @property
    def world(self) -> World: ...

    @abstractmethod
    def sleep(self, seconds: float) -> None: ...

    @abstractmethod
    def call_grant(self, name: str, arguments: str) -> str:
        """The answer, as JSON."""


def link(linker: component.Linker, compiled: component.Component) -> None:
    """Define what the component imports."""

    def box_of(number: int) -> Caller:
        return cast("Caller", alive[number])

    with linker.root() as root:
        for name, function in _of_ours(box_of).items():
            components.define(root, name, function)
        for name, functions in _of_the_system(box_of).items():
            with root.add_instance(f"wasi:{name}@{_WASI}") as instance:
                for each, function in functions.items():
                    components.define(instance, each, function)
    linker.define_unknown_imports_as_traps(compiled)


def _of_ours(box_of: Callable[[int], Caller]) -> dict[str, Callable[..., Any]]:
    return {
        "grant": lambda number, name, arguments: box_of(number).call_grant(name, arguments),
        "sleep": lambda number, seconds: box_of(number).sleep(seconds),
    }


def _of_the_system(box_of: Callable[[int], Caller]) -> dict[str, dict[str, Callable[..., Any]]]:
    def random(number: int, size: int) -> bytes:
        if size > _MOST_RANDOM:  # a list takes up 40 times as much here
            raise TaskFailed(f"the program has broken the interpreter that ran it: it asked for {size} random bytes")
        return box_of(number).world.random(size)

    return {
        "clocks/wall-clock": {
            "now": lambda number: _moment(box_of(number).world.clock.wall()),
            "resolution": lambda _number: _moment(1000),
        },
        "clocks/monotonic-clock": {
            "now": lambda number: box_of(number).world.clock.monotonic(),
            "resolution": lambda _number: 1000,
        },
        "random/random": {
            "get-random-bytes": random,
            "get-random-u64": lambda number: int.from_bytes(box_of(number).world.random(8)),
        },
        "cli/environment": {
            "get-environment": lambda _number: [],
            "get-arguments": lambda _number: [],
            "initial-cwd": lambda _number: None,
        },
        "filesystem/preopens": {"get-directories": lambda _number: []},
    }


def _moment(nanoseconds: int) -> component.Record:
    moment = component.Record()
    moment.seconds, moment.nanoseconds = divmod(nanoseconds, 1_000_000_000)  # type: ignore[attr-defined]
    return moment
