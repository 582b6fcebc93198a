"""How a connection to a server is kept up."""

from __future__ import annotations

from dataclasses import dataclass, fields


@dataclass(frozen=True, slots=True)
class Upkeep:
    """Times in seconds, sizes in bytes."""

    connect: float = 5.0
    """What connecting may take."""
    heartbeat: float = 30.0
    """A WebSocket that was silent for so long is asked whether anybody is there, and given up after half of that."""
    refresh: float = 60.0
    """The list of tasks is asked for again when it is older."""
    first_pause: float = 0.2
    """At most, before a lost server is tried again; twice as long each time after."""
    longest_pause: float = 30.0
    """What those pauses grow to."""
    patience: float = 60.0
    """For a lost server to come back, for a call that has a key and no deadline."""
    connections: int = 100
    """HTTP connections at a time; other calls wait for one."""
    largest: int = 1 << 30
    """What one answer may have."""

    def __post_init__(self) -> None:
        for each in fields(self):
            if not getattr(self, each.name) > 0:
                raise ValueError(f"{each.name} of the upkeep must be positive, not {getattr(self, each.name)!r}")
