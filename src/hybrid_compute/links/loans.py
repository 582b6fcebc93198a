"""What one link has lent to its peer, and borrowed from it.

lender                         borrower
hold(loans)    -- frame -->    borrow(descriptor) -> view
returned(ids)  <-- RELEASE --  take_returns()         once the view's last use has gone
"""

from __future__ import annotations

import functools
import struct
from collections import deque
from collections.abc import Callable, Iterable, Sequence

from hybrid_compute.links.arena import Arena, Descriptor, Segment
from hybrid_compute.links.codec import Loan
from hybrid_compute.links.commons import OPEN
from hybrid_compute.links.frames import DROP, RELEASE, frame

Announce = Callable[[Segment], None]
Fetch = Callable[[int], Segment]


class Loans:
    """The shared-memory side of one link. `announce` shows the peer a segment, `fetch` gets one that it showed.

    What one end no longer knows of, be it given up or never received, it tells the other in a DROP frame.
    """

    def __init__(self, arena: Arena, peer: int, announce: Announce, fetch: Fetch) -> None:
        self.arena = arena
        self._peer = peer
        self._announce = announce
        self._fetch = fetch
        self._shown: set[int] = set()
        self._lent: dict[int, Loan] = {}
        self._returns: deque[int] = deque()
        self._drops: deque[int] = deque()
        arena.watchers.append(self._forgotten)
        self.copied = 0  # bytes that the peer copied for what was borrowed
        self.active = False  # nothing was ever borrowed: nothing to give back

    def hold(self, loans: Sequence[Loan]) -> None:
        """Keep what is about to be described to the peer, and show it the segments it has not seen.

        Raises `NoMemory`, and keeps nothing, if one of them cannot be shown.
        """
        for loan in loans:
            key = loan.segment.key
            if key >> 32 != self._peer and key not in self._shown:
                self._announce(loan.segment)
                self._shown.add(key)
        self._lent.update((loan.number, loan) for loan in loans)

    def recall(self, loans: Sequence[Loan]) -> None:
        """Let go of what was held for a peer that has not been told of it after all."""
        for loan in loans:
            self._lent.pop(loan.number, None)

    def borrow(self, descriptor: Descriptor) -> memoryview:
        """A view of what the descriptor names: writable if nobody else can see that memory, or all may write to it."""
        number, key, offset, size, exclusive = descriptor
        self.active = True
        self.copied += size if exclusive else 0
        segment = self.arena.known(key)
        while segment is None:
            try:
                fetched = self._fetch(key)
            except BaseException:
                self._returns.append(number)
                self._drops.append(key)
                raise
            self.arena.admit(fetched)
            segment = self.arena.known(key)
        view = self.arena.borrow(segment, offset, size, functools.partial(self._returns.append, number))
        return view if exclusive or key & OPEN else view.toreadonly()

    def decline(self, descriptors: Iterable[Descriptor]) -> None:
        """Give back what was never borrowed."""
        self.active = True
        self._returns.extend(number for number, *_ in descriptors)

    @property
    def due(self) -> bool:
        """Whether there may be something to give back, or to forget."""
        return bool(self._drops) or (self.active and bool(self._returns or self.arena.gone))

    def take_returns(self) -> bytes:
        """Frames for the peer: RELEASE of all loans whose last use has gone, DROP of all segments that are no more."""
        self.arena.settle()
        numbers = [self._returns.popleft() for _ in range(len(self._returns))]
        keys = [self._drops.popleft() for _ in range(len(self._drops))]
        told = frame(RELEASE, body=struct.pack(f"<{len(numbers)}I", *numbers)) if numbers else b""
        return told + frame(DROP, body=struct.pack(f"<{len(keys)}Q", *keys)) if keys else told

    def dropped(self, body: bytes) -> None:
        """The peer knows of these segments no more: show it those of ours again, and forget its own."""
        for key in struct.unpack(f"<{len(body) // 8}Q", body):
            self._shown.discard(key)
            if key >> 32 == self._peer or not self._peer:  # the parent also speaks of what its other workers had
                self.arena.drop(key)

    def returned(self, body: bytes) -> None:
        """The peer gave these loans back."""
        for number in struct.unpack(f"<{len(body) // 4}I", body):
            self._lent.pop(number, None)

    def forget(self) -> None:
        """The peer is gone, and with it every loan."""
        self._lent.clear()
        self.arena.watchers.remove(self._forgotten)

    def _forgotten(self, key: int) -> None:
        """Nobody has that segment any more: the peer need not keep it, if it was shown to it."""
        if key in self._shown:
            self._shown.discard(key)
            self._drops.append(key)
