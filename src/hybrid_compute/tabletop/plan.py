"""What an engine with a table is made of."""

from __future__ import annotations

from functools import partial
from typing import Any, Final, NamedTuple

from hybrid_compute.engine.core import Plan
from hybrid_compute.tabletop.actions import ACTIONS
from hybrid_compute.tabletop.plain import check_payload
from hybrid_compute.tabletop.table import Stack, Table


class Setup(NamedTuple):
    """What stands on the table at first. `source` names those of the `stacks` that the source is made of."""

    stack: Stack | None = None
    stacks: dict[str, Stack] = {}  # noqa: RUF012 - nobody changes it
    source: list[str] | None = None
    space: bool = True


EMPTY: Final = Setup()


def table_plan(setup: Setup = EMPTY, *, seed: int, checkpoints: int = 5) -> Plan:
    """An engine with this table, on which the game loop is made ready."""
    return Plan(
        state=partial(laid, setup),
        actions=ACTIONS,
        seed=seed,
        first=("game:loopInit",),
        checkpoints=checkpoints,
        check=check_payload,
    )


def laid(setup: Setup) -> Table:
    """A table with what the setup says."""
    document: dict[str, Any] = {}
    if setup.stack:
        document["stack"] = {"stack": list(setup.stack.tokens), "drawn": [], "discards": []}
    stacks = [setup.stacks[name] for name in setup.source or ()]
    if setup.source is not None:
        document["source"] = {
            "stackIds": [f"stack-{index}" for index in range(len(stacks))],
            "tokens": [token for stack in stacks for token in stack.tokens],
            "burned": [],
            "seed": None,
            "reshufflePolicy": {"threshold": None, "mode": "auto"},
        }
    return Table(document, setup.stack, stacks, setup.space)
