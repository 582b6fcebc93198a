"""What has been measured about each task, and what `auto` makes of it.

Times are kept per task and per size of its arguments: a task that is quick on ten bytes may be slow on ten million,
and `fib(5)` says nothing about `fib(40)`. Run time is as the place reports it, without queueing; overhead is what the
place costs besides. `decide` turns one profile into a choice; everything else here only remembers.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass
from itertools import islice
from time import perf_counter
from types import FunctionType
from typing import Any, Literal, TypeAlias

from hybrid_compute.calls import Call
from hybrid_compute.tasks import AnyTask, PerTask

Choice: TypeAlias = Literal["inline", "local", "default"]

LEAVING = 20e-6
"""Seconds it takes to leave the process and come back, before it has been measured here."""
ENOUGH = 5
"""Measured runs before a choice is made from them."""
MOST_NEEDED = 20_000
"""So many, at the most, of a task that has blocked the event loop before."""
NEVER_FAR = 30e-6
"""Nor does one that takes longer than this on average, wherever the way out is slow: others would wait for it."""
NEVER_LONG = 500e-6
"""A task that recently took longer than this does not run in the event loop, however short it is on average."""
HEAVY = 1 << 20
"""Bytes to be copied from which the way there and back may cost more than the work."""
EXPLORE = 64
"""One call in so many of a heavy task tries the place that was not chosen, in case things have changed."""


class Estimate:
    """Run time and overhead of one task at one place, in seconds."""

    __slots__ = ("count", "moved", "overhead", "run", "worst")

    def __init__(self) -> None:
        self.count = 0
        self.run = 0.0
        self.worst = 0.0
        self.overhead = 0.0
        self.moved = 0.0

    def add(self, run: float, overhead: float | None, moved: int) -> None:
        """Learn from one run; `overhead` is None when the call had to queue."""
        self.count += 1
        weight = max(0.2, 1 / self.count)
        self.run += (run - self.run) * weight
        self.worst = max(run, self.worst * 0.9)
        self.moved += (moved - self.moved) * weight
        if overhead is not None:
            # What delays a reply besides the way itself is no overhead of the place: down at once, up slowly.
            rising = self.overhead and overhead > self.overhead
            self.overhead = self.overhead + (overhead - self.overhead) * 0.05 if rising else overhead

    @property
    def total(self) -> float:
        return self.run + self.overhead

    def __repr__(self) -> str:
        overhead = f" + {duration(self.overhead)} overhead" if self.overhead else ""
        return f"{duration(self.run)}{overhead}, {self.count} run{'s' if self.count > 1 else ''}"


def duration(seconds: float) -> str:
    """Seconds in a unit that fits.

    >>> duration(0.0000123), duration(0.0456), duration(7.89)
    ('12.3 µs', '45.6 ms', '7.89 s')
    """
    if seconds < 1e-3:
        return f"{seconds * 1e6:.1f} µs"
    return f"{seconds * 1e3:.1f} ms" if seconds < 1 else f"{seconds:.2f} s"


class Profile:
    """All that is known of one task on arguments of one size, and the choice it led to."""

    __slots__ = ("choice", "limit", "needed", "places", "seen", "skip", "strikes")

    def __init__(self) -> None:
        self.needed = ENOUGH  # runs in a row, all quick, before it is trusted in the event loop
        self.places: dict[str, Estimate] = {}
        self.choice: Choice = "default"
        self.limit = 0.0
        self.strikes = 0
        self.seen = 0
        self.skip = 0  # calls to leave unmeasured: what is well known is only sampled

    def add(self, place: str, call: Call, seconds: float) -> None:
        """Learn from a call that ended well at `place` after `seconds`."""
        if call.ran is None:
            return
        estimate = self.places.get(place)
        if estimate is None:
            estimate = self.places[place] = Estimate()
        overhead = None if call.queued else max(0.0, seconds - call.ran)
        estimate.add(call.ran, overhead, call.sent + call.received)
        self.seen += 1
        self.skip = 7 if self.seen > 16 else 0
        self.choice = decide(self)
        if self.choice == "inline":
            self.limit = LEAVING + estimate.overhead
            self.strikes = 0

    def sample(self, place: str, call: Call, began: float) -> None:
        """`add`, but what is well known already is only added now and then."""
        self.skip -= 1
        if self.skip < 0:
            self.add(place, call, perf_counter() - began)

    def slow(self, seconds: float) -> None:
        """A run in the event loop took longer than leaving the process would have. Twice, or far too long: no more.

        It may come back when it has been quick for long enough, which is longer each time it blocked the loop.
        """
        self.strikes += 1
        if seconds > NEVER_LONG:
            self.needed = min(8 * self.needed, MOST_NEEDED)
        if self.strikes > 1 or seconds > NEVER_LONG:
            self.choice = "default"
            self.places.clear()


def decide(profile: Profile) -> Choice:
    """Where a task with this profile is best run.

    `inline`, in the event loop: measured far below the cost of leaving the process, and never long.
    `local`, in a thread: so much must be copied to a worker that the way costs more than it gains.
    `default`: wherever the order of places says.
    """
    away = profile.places.get("worker")
    here = profile.places.get("local")
    if away is None:
        return "default"
    if away.moved < HEAVY:
        short = away.run < min(max(LEAVING, away.overhead) / 2, NEVER_FAR)
        return "inline" if short and away.count >= profile.needed and away.worst < NEVER_LONG else "default"
    if away.overhead < away.run / 10:
        return "default"
    if here is None:
        return "local"
    explore = profile.seen % EXPLORE == 0
    return "local" if (here.total < away.total) != explore else "default"


def weigh(args: tuple[Any, ...], kwargs: dict[str, Any]) -> int:
    """The size class of a call's arguments: bits of its largest number, length or byte count."""
    size = 0
    for value in args:
        kind = type(value)
        if kind is int:
            bits = value.bit_length()
        elif kind is str or kind is bytes:
            bits = len(value).bit_length()
        elif kind is float:
            bits = _weigh_number(value)
        elif kind is bool or value is None:
            continue
        else:
            bits = _weigh_any(value)
        if bits > size:
            size = bits
    return max(size, weigh(tuple(kwargs.values()), {})) if kwargs else size


def _weigh_any(value: Any, most: int = 64) -> int:
    """Bits of anything, looking at `most` parts of it at the most; beyond that, parts are taken to be alike.

    A part has a quarter of that to look at, so that what is deep, or refers to itself, is soon over.
    """
    kind = type(value)
    if kind is dict:
        return _weigh_parts(len(value), value.values(), most)
    if kind is list or kind is tuple:
        return _weigh_parts(len(value), value, most)
    if hasattr(kind, "__float__") and not hasattr(kind, "__len__"):  # numpy's scalars, and decimals
        return _weigh_number(value)
    nbytes = _nbytes(value)
    if nbytes is not None:
        return nbytes.bit_length()
    if isinstance(value, dict):
        return _weigh_parts(len(value), value.values(), most)
    if isinstance(value, list | tuple | set | frozenset):
        return _weigh_parts(len(value), value, most)
    if isinstance(value, int):
        return value.bit_length()
    if isinstance(value, type | FunctionType):
        return 0
    if hasattr(value, "__len__"):
        try:
            return len(value).bit_length()
        except Exception:  # its author's code: a size that cannot be had is no reason to fail the call
            return 0
    parts = getattr(value, "__dict__", None)
    return _weigh_parts(len(parts), parts.values(), most) if parts else 0


def _weigh_number(value: Any) -> int:
    """Bits before the point; what is no number after all has none."""
    try:
        return max(0, math.frexp(value)[1])
    except Exception:  # its author's code, as below
        return 0


def _nbytes(value: Any) -> int | None:
    try:
        nbytes = value.nbytes
    except Exception:  # nearly always because it has none; else its author's code, as below
        return None
    return nbytes if isinstance(nbytes, int) else None


def _weigh_parts(count: int, parts: Iterable[Any], most: int) -> int:
    if not most:
        return count.bit_length()
    total = 0
    for part in parts if count <= most else islice(parts, most):
        kind = type(part)
        if kind is str or kind is bytes:
            bits = len(part).bit_length()
        elif kind is int:
            bits = part.bit_length()
        else:
            bits = weigh((part,), {}) if kind in _PLAIN else _weigh_any(part, most // 4)
        total += 1 << min(60, bits)
    return (total if count <= most else total * count // most).bit_length()


_PLAIN = frozenset({int, str, bytes, float, bool, type(None)})


@dataclass(slots=True)
class Tally:
    """What one task has used of one place."""

    calls: int = 0
    failed: int = 0
    sent: int = 0
    received: int = 0


class TaskTimings:
    """Profiles of one task by the size of its arguments, and its tally by place."""

    __slots__ = ("name", "profiles", "tallies")

    def __init__(self, task: AnyTask) -> None:
        self.name = task.name
        self.profiles: dict[int, Profile] = {}
        self.tallies: dict[str, Tally] = {}

    def profile(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Profile:
        size = weigh(args, kwargs)
        profile = self.profiles.get(size)
        if profile is None:
            profile = self.profiles[size] = Profile()
        return profile

    def tally(self, place: str) -> Tally:
        tally = self.tallies.get(place)
        if tally is None:
            tally = self.tallies[place] = Tally()
        return tally

    def mean(self, place: str) -> float | None:
        """Mean total seconds at a place over all sizes, weighted by runs; None if it was never measured."""
        known = [profile.places[place] for profile in self.profiles.values() if place in profile.places]
        count = sum(each.count for each in known)
        return sum(each.total * each.count for each in known) / count if count else None


class Timings:
    """All measurements of one runtime."""

    def __init__(self) -> None:
        self.tasks: PerTask[TaskTimings] = PerTask(TaskTimings)

    def __getitem__(self, task: AnyTask) -> TaskTimings:
        return self.tasks[task]
