"""Saving every so often, for as long as a block is open."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from types import TracebackType
from typing import Self

from hybrid_compute.clock import Clock
from hybrid_compute.errors import HybridComputeError


class Autosave:
    """Calls `save` every so many seconds while its block is open, and once more at the end.

    What goes wrong meanwhile is told to `failed`, and tried again the next time; at the end it is raised.
    """

    def __init__(
        self, save: Callable[[], Awaitable[None]], failed: Callable[[Exception], None], every: float, clock: Clock
    ) -> None:
        if not every > 0:
            raise ValueError(f"every must be a positive number of seconds, not {every!r}")
        self._save = save
        self._failed = failed
        self._every = every
        self._clock = clock
        self._saving: asyncio.Task[None] | None = None

    async def _go_on(self) -> None:
        while True:
            await self._clock.sleep(self._every)
            try:
                await self._save()
            except (HybridComputeError, OSError) as error:
                self._failed(error)

    async def __aenter__(self) -> Self:
        self._saving = asyncio.create_task(self._go_on())
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        assert self._saving is not None
        self._saving.cancel()
        await asyncio.wait([self._saving])
        await self._save()
