"""What became of every call, and whether that may be. Nothing here calls anybody.

A byte for each call: a soak of hours must not itself be what fills the memory that it looks at.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence

from hybrid_compute.errors import BackendError, NoBackendAvailable

PENDING, ANSWERED, REFUSED, FAILED = range(4)
"""No outcome yet; a result; an error that says it never began; an error after which it may have."""

SHOWN = 5  # of the calls that broke a promise, by number


class Ledger:
    """The calls so far, by their numbers."""

    def __init__(self) -> None:
        self.outcomes: Counter[tuple[str, str]] = Counter()
        self._states = bytearray()
        self._wrong: Counter[str] = Counter()

    def __len__(self) -> int:
        return len(self._states)

    def begin(self) -> int:
        """The number of a new call."""
        self._states.append(PENDING)
        return len(self._states) - 1

    def answered(self, id: int, kind: str) -> None:
        self._end(id, ANSWERED, kind, "result")

    def failed(self, id: int, kind: str, error: Exception, *, alone: bool = True) -> None:
        """The call ended with an error. Of one that is not `alone`, because many share the error, it says less."""
        if not isinstance(error, BackendError | NoBackendAvailable):
            self.wrong(f"a {kind} ended with {type(error).__name__}: {error}")
        begun = error.started if isinstance(error, BackendError) else not isinstance(error, NoBackendAvailable)
        self._end(id, FAILED if begun or not alone else REFUSED, kind, type(error).__name__)

    def wrong(self, text: str) -> None:
        """Something that may not happen did."""
        self._wrong[text] += 1

    def _end(self, id: int, state: int, kind: str, outcome: str) -> None:
        if self._states[id] != PENDING:
            self.wrong(f"a {kind} ended twice")
        self._states[id] = state
        self.outcomes[kind, outcome] += 1

    def broken(self, marks: Mapping[int, int]) -> Iterator[str]:
        """Every promise that was broken. `marks` says how often each call has begun."""
        for text, count in self._wrong.items():
            yield f"{count} times: {text}"
        yield from self._those("never ended", lambda id, state: state == PENDING)
        yield from self._those("ran more than once", lambda id, state: marks.get(id, 0) > 1)
        yield from self._those("got a result but never began", lambda id, state: state == ANSWERED and id not in marks)
        yield from self._those("got a refusal but began", lambda id, state: state == REFUSED and id in marks)
        if strangers := [id for id in marks if id >= len(self)]:
            yield f"calls ran that nobody made: {_shown(strangers)}"

    def _those(self, did: str, test: Callable[[int, int], bool]) -> Iterator[str]:
        found = [id for id, state in enumerate(self._states) if test(id, state)]
        if found:
            yield f"{len(found)} of {len(self)} calls {did}: {_shown(found)}"


def _shown(ids: Sequence[int]) -> str:
    return ", ".join(map(str, ids[:SHOWN])) + (" ..." if ids[SHOWN:] else "")
