"""Who is to blame for a device that was lost, or did not come to an end, and who goes on with the next one.

Of calls that were with the device together nobody knows which it was: each goes on alone, and the next one that takes a
device with it is the one. Calls only reckon, so that to begin again does no harm.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from hybrid_compute.errors import BackendError
from hybrid_compute.gpu.work import Suspects, Work


def blame(works: Sequence[Work], error: BackendError) -> Sequence[Work]:
    """Tell who waits for the call that the device was at. If there were several, all of them go on, each alone."""
    works = [each for work in works for each in ([work] if work.split is None else work.split())]
    if len(works) == 1:
        (work,) = works
        if work.suspects is not None:
            work.suspects.left -= 1
        work.reply.failed(error, started=True)
        return ()
    suspects = Suspects()
    for work in works:
        work.suspects = suspects
    return works


def acquitted(works: Iterable[Work], error: BackendError) -> list[Work]:
    """Those that go on; those of whose company too many were guilty fail as they did."""
    going_on: list[Work] = []
    for work in works:
        if work.suspects is not None and not work.suspects.left:
            work.reply.failed(error, started=True)
        else:
            going_on.append(work)
    return going_on
