"""Does again what another program's engine has done, and shows the state: `python -m tests.engine.again KIND LOG`."""

import asyncio
import pickle
import sys
from pathlib import Path
from typing import Any

from hybrid_compute.engine.engine import Engine
from hybrid_compute.tabletop.plan import Setup, table_plan
from hybrid_compute.tabletop.table import Stack
from tests.engine.counters import Deck, Lots, actions, counter

SEED = 42
TOKENS = [{"id": f"t{number}", "kind": "card"} for number in range(20)]


def engine_of(kind: str) -> Engine[Any]:
    """A new engine of one of the kinds whose replay is tested."""
    match kind:
        case "table":
            return Engine(table_plan(Setup(stack=Stack(TOKENS)), seed=SEED))
        case "functions":
            return Engine(counter, actions, seed=SEED)
        case "class":
            return Engine(Lots, seed=SEED)
        case _:
            return Engine(Deck, seed=SEED)


async def shown(engine: Engine[Any]) -> str:
    """All that its state is."""
    state = await engine.state()
    return repr(vars(state) if hasattr(state, "__dict__") else state)


async def main(kind: str, log: str) -> None:
    engine = engine_of(kind)
    await engine.replay(pickle.loads(Path(log).read_bytes()))
    sys.stdout.write(await shown(engine))


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:]))
