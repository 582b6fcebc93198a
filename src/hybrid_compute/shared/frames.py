"""Who uses which slot of a triple buffer: one producer, any number of consumers, and nobody waits for anybody.

    LATEST           the newest frame: its number, and the slot that it lies in    written by the producer
    HELD + 0, 1, ..  the slot that each consumer looks at                          written by that consumer

A consumer says which slot it is about to look at, and then looks whether that is the newest one still. If not, the
producer may have been choosing meanwhile, and it tries again with the one that is the newest now. The producer says
first that another slot is the newest, and chooses then, among those that neither it nor a consumer has named.

So of these four, where each side writes before it reads, one side at least sees what the other has written:

    producer    LATEST = another slot    reads HELD
    consumer    HELD = this slot         reads LATEST

Either the producer sees that the slot is held, and leaves it alone, or the consumer sees that it is not the newest any
more, and leaves it. LATEST holds the number as well, so that a slot which has become the newest once more meanwhile
is told from the one that was seen. That needs words on whose order all agree (`words.py`), and nothing else.

With two slots more than there are consumers one is always left: each consumer holds one, and one is the newest.
"""

from __future__ import annotations

from typing import Protocol

from hybrid_compute.shared.block import FREE

LATEST, HELD = FREE, FREE + 1
_SLOTS = 256
"""LATEST is `number * 256 + slot`. Number 0 means that there is no frame yet."""
MOST = 32
"""So many consumers at most."""


class Register(Protocol):
    """Words, as the two ends see them."""

    def __getitem__(self, number: int, /) -> int: ...

    def __setitem__(self, number: int, value: int, /) -> None: ...


class Producer:
    """The end that writes. A new one goes on where another has stopped."""

    def __init__(self, words: Register, consumers: int) -> None:
        self._words = words
        self._held = range(HELD, HELD + consumers)
        self.number, self._newest = divmod(words[LATEST], _SLOTS)

    def vacant(self) -> int:
        """A slot that nobody looks at, nor will before it is published."""
        taken = {self._newest, *(self._words[each] - 1 for each in self._held)}
        return next(slot for slot in range(len(self._held) + 2) if slot not in taken)

    def publish(self, slot: int) -> None:
        """What is in this slot is the newest frame."""
        self.number, self._newest = self.number + 1, slot
        self._words[LATEST] = self.number * _SLOTS + slot


class Consumer:
    """An end that reads: the `index`th of them."""

    def __init__(self, words: Register, index: int) -> None:
        self._words = words
        self._held = HELD + index
        self.number = 0

    def newest(self) -> int | None:
        """The slot of the newest frame, to be looked at until the next call; None if there is none that is newer."""
        seen = self._words[LATEST]
        if seen // _SLOTS == self.number:
            return None
        while True:
            number, slot = divmod(seen, _SLOTS)
            self._words[self._held] = slot + 1
            now = self._words[LATEST]
            if now == seen:
                self.number = number
                return slot
            seen = now

    def leave(self) -> None:
        """It looks at nothing any more."""
        self._words[self._held] = 0
