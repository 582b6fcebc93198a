"""Callers: each makes one call after another, by chance of this kind or that, and enters what came of it."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Sequence
from random import Random

from benchmarks.soak.ledger import Ledger
from benchmarks.soak.tasks import note, tell, work
from hybrid_compute.runtime import Runtime

LONGEST = 0.02  # seconds of work in one call
BATCH = 20
ITEMS = 50
REST = 0.1  # seconds before the next call after one that failed: a server that is away refuses at once


class Caller:
    """Makes calls until it is told to stop."""

    def __init__(self, rt: Runtime, places: Sequence[str], ledger: Ledger, marks: str, chance: Random) -> None:
        self._rt = rt
        self._places = places
        self._ledger = ledger
        self._marks = marks
        self._chance = chance
        self._stopping = False

    def stop(self) -> None:
        """Make no more calls after the one under way."""
        self._stopping = True

    async def run(self) -> None:
        kinds = (*(self._work, self._keyed_work) * 2, self._note, self._keyed_note, self._stream, self._batch)
        while not self._stopping:
            if not await self._chance.choice(kinds)():
                await asyncio.sleep(REST)

    async def _work(self) -> bool:
        id = self._ledger.begin()
        call = self._rt.options(strategy=self._place()).run(work, self._marks, id, self._seconds())
        return await self._one("call", id, call)

    async def _keyed_work(self) -> bool:
        id = self._ledger.begin()
        verbs = self._rt.options(strategy=self._place(), key=f"call {id}")
        return await self._one("keyed call", id, verbs.run(work, self._marks, id, self._seconds()))

    async def _note(self) -> bool:
        id = self._ledger.begin()
        return await self._one("small call", id, self._rt.options(strategy=self._place()).run(note, self._marks, id))

    async def _keyed_note(self) -> bool:
        id = self._ledger.begin()
        verbs = self._rt.options(strategy=self._place(), key=f"call {id}")
        return await self._one("small keyed call", id, verbs.run(note, self._marks, id))

    async def _one(self, kind: str, id: int, call: Awaitable[int]) -> bool:
        """Whether it went well."""
        try:
            result = await call
        except Exception as error:  # whatever it is, the ledger judges it
            self._ledger.failed(id, kind, error)
            return False
        if result != id:
            self._ledger.wrong(f"a {kind} got the result of another")
        self._ledger.answered(id, kind)
        return True

    async def _stream(self) -> bool:
        kind, id, came = "stream", self._ledger.begin(), 0
        try:
            async with self._rt.options(strategy=self._place()).stream(tell, self._marks, id, ITEMS) as items:
                async for item in items:
                    if item != came:
                        self._ledger.wrong(f"a {kind} brought item {item} where {came} was due")
                    came += 1
        except Exception as error:
            self._ledger.failed(id, kind, error)
            return False
        if came != ITEMS:
            self._ledger.wrong(f"a {kind} ended without an error after {came} of {ITEMS} items")
        self._ledger.answered(id, kind)
        return True

    async def _batch(self) -> bool:
        kind, ids = "call of a batch", [self._ledger.begin() for _ in range(BATCH)]
        inputs = [(self._marks, id, self._seconds() / BATCH) for id in ids]
        try:
            results = await self._rt.options(strategy=self._place()).starmap(work, inputs)
        except Exception as error:
            for id in ids:
                self._ledger.failed(id, kind, error, alone=False)
            return False
        if results != ids:
            self._ledger.wrong("a batch got other results than its own")
        for id in ids:
            self._ledger.answered(id, kind)
        return True

    def _place(self) -> str:
        return self._chance.choice(self._places)

    def _seconds(self) -> float:
        return self._chance.uniform(0, LONGEST)
