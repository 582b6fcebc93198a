"""What one event loop has asked a gpu for: the calls of this turn, and the answers that it waits for."""

from __future__ import annotations

import asyncio
from collections import defaultdict
from collections.abc import Callable, Sequence
from functools import partial

from hybrid_compute.gpu.computable import Computable
from hybrid_compute.gpu.facts import Facts
from hybrid_compute.gpu.replies import Answer, Asked, Joined, Mailbox, refuse
from hybrid_compute.gpu.work import Reply, Work


class Desk:
    """Where the calls of an event loop are taken down, so that those of one turn go together."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self.box = Mailbox(loop)
        self.awaited: set[Answer] = set()
        self._coming: defaultdict[Computable, list[Asked]] = defaultdict(list)

    def ask(self, asked: Asked, function: Computable, send: Callable[[Desk], None]) -> None:
        """Take a call down. `send` is called at the end of the turn, once for all of them."""
        if not self._coming:
            self.box.loop.call_soon(send, self)
        self._coming[function].append(asked)

    def works(self, facts: Facts) -> list[Work]:
        """What a device has to do for all that was asked since this was called last."""
        coming, self._coming = self._coming, defaultdict(list)
        works: list[Work] = []
        for function, asked in coming.items():
            wanted = [each for each in asked if each.is_wanted]
            works += function.works([each.args for each in wanted], facts, partial(_waiting, wanted, self.box))
        return works

    def refuse(self, error: BaseException) -> None:
        """Tell all that wait. In its event loop."""
        for answer in list(self.awaited):
            refuse(answer, error)


def _waiting(asked: Sequence[Asked], box: Mailbox, begin: int, end: int) -> Reply:
    """Who waits for the calls from one number to another."""
    return asked[begin] if end - begin == 1 else Joined(asked[begin:end], box)
