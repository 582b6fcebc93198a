"""What may be said of an engine's worker: anything else is refused when it is said."""

import math
from typing import Any

import pytest

from hybrid_compute.engine.actions import ActionRegistry
from hybrid_compute.engine.engine import Engine
from hybrid_compute.engine.options import WorkerOptions


@pytest.mark.parametrize(
    ("wrong", "why"),
    [
        ({"timeout": 0}, "timeout must be a positive number of seconds or None, not 0"),
        ({"timeout": -1.0}, "timeout must be a positive number of seconds or None, not -1.0"),
        ({"timeout": math.nan}, "timeout must be a positive number of seconds or None, not nan"),
        ({"batch_window": -0.001}, "batch_window must be a number of seconds, not -0.001"),
        ({"batch_window": math.nan}, "batch_window must be a number of seconds, not nan"),
        ({"batch_limit": 0}, "a batch of at most 0 actions would never be sent"),
        ({"fallback": "remote"}, "fallback is 'local' or None, not 'remote'"),
        ({"mechanism": "web"}, "mechanism is 'process', 'thread' or None, not 'web'"),
        ({"atomic": True}, "atomic is about batches: say batching=True"),
    ],
)
def test_what_makes_no_sense_is_refused(wrong: dict[str, Any], why: str) -> None:
    with pytest.raises(ValueError, match=why):
        WorkerOptions(**wrong)


def test_what_makes_sense_is_taken() -> None:
    """Also at the ends of the ranges."""
    assert WorkerOptions(timeout=None).timeout is None
    assert WorkerOptions(timeout=math.inf, batching=True, batch_window=0, batch_limit=1, atomic=True).batch_limit == 1


class Waits:
    async def wait(self) -> None:
        raise AssertionError("it is no action")


def test_a_coroutine_function_is_no_action() -> None:
    actions = ActionRegistry()
    with pytest.raises(ValueError, match="action 'wait' is a coroutine function"):
        actions.add("wait")(Waits.wait)
    with pytest.raises(ValueError, match="action 'wait' is a coroutine function"):
        Engine(Waits)
    assert len(actions) == 0
