"""Several places that stand as one: under one name, opened and closed together.

Which of them a call goes to is for the subclass to say. What the group says of itself follows from its members, so
that a private task leaves this machine through no group that has a member elsewhere.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from contextlib import AsyncExitStack
from typing import Any

from hybrid_compute.backends.base import Backend
from hybrid_compute.calls import Call
from hybrid_compute.clock import Clock
from hybrid_compute.events import Hooks
from hybrid_compute.tasks import AnyTask


class _Shared:
    """What a runtime sets on a group, and the group on each of its members."""

    def __set_name__(self, owner: type, name: str) -> None:
        self._name = name

    def __get__(self, group: Group | None, owner: type) -> Any:
        return self if group is None else getattr(group.members[0], self._name)

    def __set__(self, group: Group, value: Any) -> None:
        for each in group.members:
            setattr(each, self._name, value)


class _Told:
    """What follows from the members, and cannot be set."""

    def __init__(self, tell: Callable[[Sequence[Backend]], Any]) -> None:
        self._tell = tell

    def __set_name__(self, owner: type, name: str) -> None:
        self._name = name

    def __get__(self, group: Group | None, owner: type) -> Any:
        return self if group is None else self._tell(group.members)

    def __set__(self, group: Group, value: Any) -> None:
        raise AttributeError(f"{self._name} of {group!r} is that of its members, and cannot be set")


def _shared() -> Any:  # Any, for the type of the attribute it stands for
    return _Shared()


def _told(tell: Callable[[Sequence[Backend]], Any]) -> Any:
    return _Told(tell)


class Group(Backend):
    """Places that stand as one. Override `run_call` and what else shall choose among them."""

    on_this_machine: bool = _told(lambda members: all(each.on_this_machine for each in members))
    isolates: bool = _told(lambda members: all(each.isolates for each in members))
    provides: frozenset[str] = _told(lambda members: frozenset[str]().union(*(each.provides for each in members)))
    rank: int = _told(lambda members: max(each.rank for each in members))
    hooks: Hooks = _shared()
    clock: Clock = _shared()

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        if "on_this_machine" in vars(cls):
            raise TypeError(f"{cls.__name__} is a group: it is on this machine if all its members are")

    def __init__(self, members: Sequence[Backend], *, name: str) -> None:
        if not members:
            raise ValueError(f"the group {name!r} has no members, so it could run nothing")
        self._members = tuple(members)
        self.name = name
        self.batches = all(each.batches for each in members)

    @property
    def members(self) -> tuple[Backend, ...]:
        """The places of which it is made."""
        return self._members

    def takers(self, task: AnyTask, /) -> Sequence[Backend]:
        """The members that a call of this task might go to now."""
        return [each for each in self.members if lacking(task, each) is None]

    async def start(self) -> None:
        self.check_open()
        await asyncio.gather(*(each.start() for each in self.members))

    async def aclose(self) -> None:
        self.closed = True
        async with AsyncExitStack() as stack:  # each is closed, whatever another raises
            for each in self.members:
                stack.push_async_callback(each.aclose)

    async def run_task(self, task: AnyTask, /, *args: Any, **kwargs: Any) -> Any:
        return await self.run_call(Call(task, args, kwargs))

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self.name!r} of {', '.join(map(repr, self.members))}>"


def lacking(task: AnyTask, place: Backend) -> str | None:
    """Why the place could not run the task, or None."""
    missing = task.needs - place.provides
    if missing:
        return f"it does not provide {', '.join(sorted(missing))}"
    return None if place.can_run(task) else place.why_not(task)
