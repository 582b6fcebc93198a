"""`PerTenant`: a place of its own for each tenant, under one name."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from typing import Any

from hybrid_compute.backends.base import Backend
from hybrid_compute.backends.group import Group, lacking
from hybrid_compute.calls import Call
from hybrid_compute.errors import BackendUnavailable
from hybrid_compute.tasks import AnyTask


class PerTenant(Group):
    """Hands each call to the place of the tenant for whom it is made, and to no other.

    `tenant` says who that is, in the context of the call: mostly `get` of a context variable. A call for nobody, or
    for somebody who has no place, is refused.

        >>> tenant: ContextVar[str] = ContextVar("tenant")
        >>> remote = PerTenant({"acme": RemoteBackend(url, token=acmes), "globex": other}, tenant=tenant.get)
    """

    def __init__(
        self, places: Mapping[str, Backend], *, tenant: Callable[[], str | None], name: str = "remote"
    ) -> None:
        super().__init__(list(places.values()), name=name)
        self._places = dict(places)
        self._tenant = tenant

    def can_run(self, task: AnyTask, /) -> bool:
        place = self._place()
        return place is not None and lacking(task, place) is None

    def why_not(self, task: AnyTask, /) -> str:
        place = self._place()
        return self._nobody() if place is None else f"for tenant {self._who()!r}: {lacking(task, place)}"

    def takers(self, task: AnyTask, /) -> Sequence[Backend]:
        place = self._place()
        return [] if place is None else [place]

    async def run_call(self, call: Call, /) -> Any:
        return await self._place_for(call).run_call(call)

    async def run_batch(self, call: Call, inputs: Sequence[tuple[Any, ...]], limit: int | None, /) -> list[Any]:
        return await self._place_for(call).run_batch(call, inputs, limit)

    def stream_call(self, call: Call, /) -> AbstractAsyncContextManager[AsyncIterator[Any]]:
        return self._place_for(call).stream_call(call)

    def _place_for(self, call: Call) -> Backend:
        self.check_open()
        place = self._place()
        if place is None:
            raise BackendUnavailable(
                f"{call.task.name!r} cannot go to {self.name}: {self._nobody()}", backend=self.name
            )
        return place

    def _place(self) -> Backend | None:
        who = self._who()
        return None if who is None else self._places.get(who)

    def _who(self) -> str | None:
        try:
            return self._tenant()
        except LookupError:  # a context variable that nobody has set
            return None

    def _nobody(self) -> str:
        who = self._who()
        return "it is for no tenant" if who is None else f"tenant {who!r} has no place here"
