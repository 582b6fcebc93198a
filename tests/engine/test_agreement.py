"""Random walks: an engine in a worker and one in this process always agree.

Both are told to do the same, valid or not, and must give the same results, errors and events, and have the same
history and state; also after what was undone, restored, forked or compacted on the way.
"""

import asyncio
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any, TypeAlias

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hybrid_compute.engine.engine import Engine, Result
from hybrid_compute.engine.options import WorkerOptions
from hybrid_compute.engine.universal import UniversalWorker
from hybrid_compute.errors import HybridComputeError, NotTransferable
from hybrid_compute.tabletop.actions import ACTIONS
from hybrid_compute.tabletop.plan import Setup, table_plan
from hybrid_compute.tabletop.table import Stack
from tests.engine.counters import Deck, actions, counter

SEED = 42
NOW = 1000.0

Step: TypeAlias = tuple[Any, ...]
Open: TypeAlias = Callable[..., Engine[Any]]


@dataclass
class Walker:
    """One engine on its walk, and all that was seen of it."""

    engine: Engine[Any]
    seen: list[Any] = field(default_factory=list)
    snapshots: list[bytes] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.engine.on("*", lambda event: self.seen.append((event.type, plain(event.payload), event.source)))

    async def walk(self, steps: list[Step]) -> list[Any]:
        for step in steps:
            try:
                self.seen.append(plain(await self.go(*step)))
            except HybridComputeError as error:
                self.seen.append(plain(error))
        self.seen += [plain(await self.engine.history()), plain(await self.engine.state())]
        return self.seen

    async def go(self, what: str, *given: Any) -> Any:
        engine = self.engine
        match what, given:
            case "do", (type, payload, reversible):
                return await engine.dispatch_async(type, payload, reversible=reversible)
            case "at once", (steps,):
                return await asyncio.gather(*(engine.dispatch_checked(*each) for each in steps))
            case "many", (steps, atomic):
                return await engine.dispatch_many(steps, atomic=atomic)
            case "undo", (steps,):
                return await engine.undo(steps)
            case "compact", ():
                return await engine.compact()
            case "look", ():
                return await engine.state(), await engine.history()
            case "snapshot", ():
                self.snapshots.append(await engine.snapshot())
            case "restore", (number,):
                return self.snapshots and await engine.restore(self.snapshots[number % len(self.snapshots)])
            case "replay", ():
                return await engine.replay(await engine.history())
            case "fork", ():
                fork = await engine.fork()
                await engine.shutdown()
                self.engine = fork
                self.__post_init__()
            case _:
                raise AssertionError(f"there is no step {what!r}")


def plain(value: Any) -> Any:
    """A value as it is compared: errors by type and text, objects by what is in them."""
    match value:
        case Result():
            return (value.ok, plain(value.result), plain(value.error))
        case Exception():
            return (type(value).__name__, "" if isinstance(value, NotTransferable) else f"{value}")
        case list() | tuple():
            return [plain(each) for each in value]
        case dict():
            return [(key, plain(each)) for key, each in value.items()]
        case Deck():
            return plain(vars(value))
        case _ if callable(value):
            return "a function"
        case _:
            return repr(value)


def walks(step: st.SearchStrategy[tuple[str, Any]]) -> st.SearchStrategy[list[Step]]:
    """Steps, most of which dispatch something."""
    some = st.lists(step, max_size=6)
    do = st.builds(lambda step, reversible: ("do", *step, reversible), step, st.sampled_from([True] * 19 + [False]))
    many = st.tuples(st.just("many"), some, st.booleans())
    other = [
        st.tuples(st.just("at once"), some),
        st.tuples(st.just("undo"), st.none() | st.integers(0, 70)),
        st.tuples(st.sampled_from(["compact", "look", "snapshot", "replay", "fork"])),
        st.tuples(st.just("restore"), st.integers(0, 3)),
    ]
    long = st.builds(lambda step, times: ("many", [step] * times, False), step, st.integers(40, 60))
    return st.lists(st.one_of(do, do, do, do, many, long, *other), max_size=12)


NUMERIC: list[Any] = [0, -1, 1, 2, 3, 7, 2.5, float("nan"), True]
OTHER: list[Any] = [None, "", "a", "b", "A", [], [1], {}, {"id": "t1"}, len, (each for each in "ab")]
JUNK = st.sampled_from(NUMERIC + OTHER)

COUNTING = st.tuples(
    st.sampled_from([*(each for each in actions if "wait" not in each and each != "die"), "no such", "", "add"]),
    st.fixed_dictionaries({}, optional={"by": st.integers(-5, 5) | JUNK}) | JUNK | st.builds(lambda: lambda: None),
)

DRAWING = st.tuples(
    st.sampled_from(["draw", "put_back", "shuffle", "_private"]),
    st.fixed_dictionaries({}, optional={"count": st.integers(-1, 4) | JUNK, "cards": st.lists(st.text(max_size=2))})
    | JUNK,
)

NAMES = st.sampled_from(["A", "B", "C"])
TOKENS = st.builds(lambda number: {"id": f"t{number}", "name": f"{number}"}, st.integers(0, 9))
IDS = st.sampled_from([f"t{number}" for number in range(10)])
NUMBERS = st.integers(-1, 6)
FIELDS: dict[str, st.SearchStrategy[Any]] = {
    **dict.fromkeys(["name", "from", "to", "agent1", "agent2", "zone", "fromZone", "toZone", "resource"], NAMES),
    **dict.fromkeys(["key", "phase", "label", "winner", "reason", "id"], NAMES),
    **dict.fromkeys(["count", "amount", "seed", "position", "i", "j", "index", "maxTurns", "x", "y"], NUMBERS),
    **dict.fromkeys(["token", "card", "host", "attachment"], TOKENS),
    **dict.fromkeys(["tokenId", "attachmentId", "placementId"], IDS),
    "tokens": st.lists(TOKENS, max_size=3),
    "tokenIds": st.lists(IDS, max_size=3),
    "active": st.booleans(),
    "value": JUNK,
    "state": st.dictionaries(NAMES, NUMBERS),
    "properties": st.dictionaries(NAMES, NUMBERS),
}
PLAYING = st.tuples(
    st.sampled_from([*ACTIONS, *["agent:create", "space:place", "stack:draw", "agent:drawCards"] * 5]),
    st.fixed_dictionaries({key: FIELDS[key] for key in ("name", "zone", "card", "count", "resource", "amount")})
    | st.lists(
        st.sampled_from([*FIELDS]).flatmap(lambda key: st.tuples(st.just(key), FIELDS[key] | JUNK)), max_size=4
    ).map(dict),
)


def counting(**options: Any) -> Engine[Any]:
    return Engine(counter, actions, seed=SEED, now=lambda: NOW, **options)


def drawing(**options: Any) -> Engine[Any]:
    return Engine(Deck, seed=SEED, now=lambda: NOW, **options)


def playing(**options: Any) -> Engine[Any]:
    tokens = [{"id": f"t{number}", "name": f"{number}"} for number in range(10)]
    setup = Setup(stack=Stack(tokens), stacks={"a": Stack(tokens)}, source=["a"])
    return Engine(table_plan(setup, seed=SEED), now=lambda: NOW, **options)


@pytest.fixture(scope="module")
def loop() -> Iterator[asyncio.Runner]:
    with asyncio.Runner() as runner:
        yield runner


@pytest.fixture(scope="module", params=["process", "thread"])
def worker(loop: asyncio.Runner, request: pytest.FixtureRequest) -> Iterator[UniversalWorker]:
    worker = UniversalWorker(request.param)
    yield worker
    loop.run(worker.aclose())


async def agree(open: Open, worker: UniversalWorker, steps: list[Step]) -> None:
    here, there = Walker(open()), Walker(open(workers=worker, worker_options=WorkerOptions(durable=True)))
    ours, theirs = await here.walk(steps), await there.walk(steps)
    for each in (here, there):
        await each.engine.shutdown()
    assert theirs == ours


@given(steps=walks(COUNTING))
@settings(max_examples=30)
def test_counters_agree(loop: asyncio.Runner, worker: UniversalWorker, steps: list[Step]) -> None:
    loop.run(agree(counting, worker, steps))


@given(steps=walks(DRAWING))
@settings(max_examples=30)
def test_a_class_agrees(loop: asyncio.Runner, worker: UniversalWorker, steps: list[Step]) -> None:
    loop.run(agree(drawing, worker, steps))


@given(steps=walks(PLAYING))
@settings(max_examples=30)
def test_tables_agree(loop: asyncio.Runner, worker: UniversalWorker, steps: list[Step]) -> None:
    loop.run(agree(playing, worker, steps))
