"""Which worker a call goes to: plain decisions from what is known to a link, or to none.

Waking a second worker costs more than a microtask does, so microtasks are packed on a worker that is awake. Longer
calls take an idle worker. When all are busy, short calls are read ahead: sent behind others, up to a millisecond of
expected work, so that a worker never waits for its parent. A call longer than that, or never measured, waits in the
parent, where it can still go anywhere.
"""

from __future__ import annotations

from collections.abc import Iterable

from hybrid_compute.links.link import BUSY, Link

PACK = 50e-6
AHEAD = 1e-3
LONGEST_AHEAD = 0.5e-3
MOST_AHEAD = 512
START = 2e-3
"""Work in line from which another worker pays: about what it takes to start one."""


def pack_on(links: Iterable[Link], cost: float) -> Link | None:
    """A worker that is awake and done within `PACK`: the busiest such."""
    best = None
    for link in links:
        if link.load > 0.0 and link.load + cost <= PACK and not link.concurrent and (not best or link.load > best.load):
            best = link
    return best


def read_ahead_on(links: Iterable[Link], cost: float) -> Link | None:
    """The least busy worker that will be through its calls soon. Refilled only when half empty: fewer writes."""
    if cost > LONGEST_AHEAD:
        return None
    open_to_more = [
        link
        for link in links
        if 0.0 < link.load <= AHEAD / 2 and not link.concurrent and len(link.sent) <= MOST_AHEAD / 2
    ]
    return min(open_to_more, key=lambda link: link.load, default=None)


def share_with(links: Iterable[Link], most: int) -> Link | None:
    """A worker that runs only coroutines and streams, fewer than `most`: they let others run beside them."""
    # By counting, not by load: a sum of many small numbers that come and go does not return to nought.
    sharing = [
        link for link in links if link.load < BUSY and 0 < link.concurrent < most and link.concurrent == len(link.sent)
    ]
    return min(sharing, key=lambda link: link.concurrent, default=None)


def should_start(cost: float, waiting: int, workers: int, size: int) -> bool:
    """Whether to start another worker for `waiting` calls that found no idle one."""
    return workers < size and (workers == 0 or cost * waiting >= START)


def budget(link: Link, cost: float) -> float:
    """Up to which load calls of this cost may be put on the link in one go."""
    return PACK if link.load + cost <= PACK else AHEAD
