"""Places that cost something, and the budget they are paid from: never more is spent than there is."""

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Iterator
from contextlib import asynccontextmanager
from decimal import Decimal
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from hybrid_compute.backends.group import Group
from hybrid_compute.backends.local import LocalBackend
from hybrid_compute.backends.priced import Budget, Priced, Spent, exact
from hybrid_compute.backends.remote.backend import RemoteBackend
from hybrid_compute.backends.tenants import PerTenant
from hybrid_compute.backends.wrappers import Limited, Retrying
from hybrid_compute.calls import Call
from hybrid_compute.errors import (
    BackendUnavailable,
    ConnectionLost,
    HybridComputeError,
    InvalidInput,
    LimitExceeded,
    NoBackendAvailable,
    NotTransferable,
    PolicyRefused,
    TaskFailed,
)
from hybrid_compute.runtime import Runtime
from hybrid_compute.tasks import AnyTask, Task, TaskRegistry, task
from hybrid_compute.testing import MockBackend
from tests.server.serving import serving


def work(x: int = 0) -> int:
    return x


def numbers(upto: int) -> Iterator[int]:
    yield from range(upto)


WORK: AnyTask = Task(work, name="work")
OTHER: AnyTask = Task(work, name="other")
NUMBERS: AnyTask = Task(numbers, name="numbers")


def remote(handler: Any = None, **facts: Any) -> MockBackend:
    handlers = [] if handler is None else [handler]
    return MockBackend(*handlers, name="remote", rank=3, on_this_machine=False, **facts)


async def test_calls_are_paid_until_the_budget_is_spent() -> None:
    """To the last call it can pay; then the place is forbidden, with the reason, and nothing is sent."""
    budget = Budget(0.01)
    place = remote()
    async with Runtime([Priced(place, per_call=0.002, budget=budget)], policies=[budget]) as rt:
        for number in range(5):
            assert await rt.run(WORK, number) == number
        assert budget.left == 0
        with pytest.raises(PolicyRefused, match=r"of the budget of 0\.01 0 is left, and a call costs 0\.002"):
            await rt.run(WORK, 5)
    assert len(place.calls) == 5


async def test_a_call_goes_elsewhere_when_the_money_is_spent() -> None:
    """To a place that costs nothing."""
    budget = Budget(2)
    async with Runtime([LocalBackend(), Priced(remote(), per_call=1, budget=budget)], policies=[budget]) as rt:
        dear = rt.options(strategy=lambda task, places: sorted(places, key=lambda place: place.name != "remote"))
        assert await asyncio.gather(*(dear.run(WORK, number) for number in range(5))) == list(range(5))
        assert {name: tally.calls for name, tally in rt.stats()["work"].items()} == {"remote": 2, "local": 3}


async def test_many_calls_at_once_spend_no_more_than_there_is() -> None:
    """Also where nobody made the budget a rule: then it is a limit of the place."""
    budget = Budget(3)
    async with Runtime([Priced(remote(), per_call=1, budget=budget)]) as rt:
        answers = await asyncio.gather(*(rt.run(WORK, number) for number in range(10)), return_exceptions=True)
    refused = [each for each in answers if isinstance(each, LimitExceeded)]
    assert len(refused) == 7
    assert not any(each.started for each in refused)
    assert budget.spent == 3


async def test_what_each_task_has_cost_is_reported() -> None:
    """The dearest first."""
    budget = Budget(10.0)
    async with Runtime([Priced(remote(), per_call=0.1, budget=budget)]) as rt:
        await rt.run(OTHER)
        for _ in range(3):
            await rt.run(WORK)
        assert await rt.run(NUMBERS, 4) == [0, 1, 2, 3]
    assert next(iter(budget.report().items())) == ("work", Spent(3, 0.3))
    assert budget.report() == {"work": Spent(3, 0.3), "other": Spent(1, 0.1), "numbers": Spent(1, 0.1)}
    assert (budget.spent, budget.left) == (0.5, 9.5)


@pytest.mark.parametrize(
    ("error", "paid"),
    [
        (BackendUnavailable("away"), 0),
        (ConnectionLost("cut", started=True), 1),
        (InvalidInput("not so"), 0),
        (TaskFailed("its own fault"), 1),
    ],
)
async def test_what_never_began_costs_nothing(error: HybridComputeError, paid: int) -> None:
    """What may have begun does, however it ended."""

    def fails(task: AnyTask, *args: Any) -> Any:
        raise error

    budget = Budget(1)
    async with Runtime([Priced(remote(fails), per_call=1, budget=budget)]) as rt:
        with pytest.raises(type(error)):
            await rt.run(WORK)
        assert budget.spent == paid
        with pytest.raises(type(error) if not paid else LimitExceeded):
            async with rt.stream(NUMBERS, 3) as items:
                await anext(items)
        assert budget.spent == paid


@task
def same(x: Any) -> Any:
    return x


@task
def odd(x: int) -> Any:
    return object()


@task
def steps(upto: int) -> Iterator[int]:
    yield from range(upto)


@pytest.mark.parametrize("scheme", ["http", "ws"])
async def test_a_value_that_cannot_be_sent_costs_nothing(scheme: str) -> None:
    """A result that cannot come back does: its task has run."""
    budget = Budget(1000)
    with serving(TaskRegistry([same, odd])) as served:
        place = RemoteBackend(f"{scheme}://127.0.0.1:{served.port}")
        async with Runtime([Priced(place, per_call=1, budget=budget)]) as rt:
            for verb in (rt.run(same, lambda: 1), rt.map(same, [1, lambda: 1])):
                with pytest.raises(NotTransferable):
                    await verb
            assert budget.spent == 0
            with pytest.raises(NotTransferable):
                await rt.run(odd, 1)
            assert budget.spent == 1
            with pytest.raises(NotTransferable):
                await rt.map(odd, [1, 2])
            assert budget.spent == 3
            with pytest.raises(NotTransferable):
                await rt.map(same, [*range(300), lambda: 1])
            assert budget.spent == 304


@pytest.mark.parametrize("seen", [0, 1, 4])
async def test_an_error_of_the_reader_gives_no_stream_back(seen: int) -> None:
    """However it looks: the stream was begun."""
    budget = Budget(10)
    with serving(TaskRegistry([steps])) as served:
        async with Runtime([place := Priced(RemoteBackend(served.url), per_call=1, budget=budget)]):
            with pytest.raises(BackendUnavailable, match="something else"):
                async with place.stream_call(Call(steps, (5,))) as items:
                    for number in range(seen):
                        assert await anext(items) == number
                    raise BackendUnavailable("something else")
            assert budget.spent == 1


async def test_a_stream_that_fails_after_its_first_item_is_paid() -> None:
    """Though the error says that nothing has begun."""

    class Breaking(MockBackend):
        @asynccontextmanager
        async def stream_call(self, call: Call, /) -> AsyncGenerator[AsyncIterator[Any]]:
            async def items() -> AsyncGenerator[Any]:
                yield 0
                raise BackendUnavailable("it went away")

            yield items()

    budget = Budget(10)
    async with Runtime([Priced(Breaking(name="remote"), per_call=1, budget=budget)]) as rt:
        with pytest.raises(BackendUnavailable, match="it went away"):
            async with rt.stream(NUMBERS, 3) as items:
                assert [item async for item in items] == [0]
    assert budget.spent == 1


async def test_a_map_costs_as_many_calls_as_it_has() -> None:
    """All of it is paid first, or none."""
    budget = Budget(10)
    async with Runtime([Priced(_Batching(name="remote"), per_call=1, budget=budget)]) as rt:
        assert await rt.map(WORK, range(8)) == list(range(8))
        with pytest.raises(LimitExceeded, match="3 of 'work' would cost 3, and 2 is left"):
            await rt.map(WORK, range(3))
        assert budget.report() == {"work": Spent(8, 8.0)}


class _Batching(MockBackend):
    batches = True

    async def run_batch(self, call: Any, inputs: Any, limit: int | None, /) -> list[Any]:
        return [call.task.fn(*args) for args in inputs]


async def test_a_budget_finds_its_place_in_any_wrapping() -> None:
    """Retries and limits around it change nothing; nor do places that it does not pay for."""
    budget, other = Budget(0), Budget(1)
    place = Retrying(Limited(Priced(remote(), per_call=1, budget=budget), calls=2))
    assert budget(WORK, place) is not None
    assert other(WORK, place) is None
    assert budget(WORK, LocalBackend()) is None
    async with Runtime([place], policies=[budget]) as rt:
        with pytest.raises(PolicyRefused):
            await rt.run(WORK)


async def test_a_budget_finds_its_place_in_a_group() -> None:
    """That of the tenant for whom the call is: the others may have all the money there is."""
    spent, rich = Budget(0), Budget(10)
    places = {"poor": Priced(remote(), per_call=1, budget=spent), "rich": Priced(remote(), per_call=1, budget=rich)}
    who = ["poor"]
    group = Retrying(PerTenant(places, tenant=lambda: who[0]))
    async with Runtime([group], policies=[spent, rich]) as rt:
        for verb in (rt.run(WORK), rt.run(NUMBERS, 3), rt.map(WORK, range(3))):
            with pytest.raises(PolicyRefused, match="of the budget of 0 0 is left"):
                await verb
        assert rt.explain(WORK).place is None
        who[0] = "rich"
        assert await rt.run(WORK, 3) == 3
        who[0] = "nobody"
        with pytest.raises(NoBackendAvailable):
            await rt.run(WORK)


def test_a_group_is_forbidden_when_all_its_members_are() -> None:
    """As long as there is another way, it is for the group to find it."""

    class Either(Group):
        def can_run(self, task: AnyTask, /) -> bool:
            return True

    budget, free = Budget(1), LocalBackend()
    dear, cheap = (Priced(remote(), per_call=amount, budget=budget) for amount in (2, 1))
    assert budget(WORK, Either([dear], name="remote")) is not None
    assert budget(WORK, Either([dear, cheap], name="remote")) is None
    assert budget(WORK, Either([dear, free], name="remote")) is None
    budget.pay("work", 1, exact(1))
    assert budget(WORK, Either([dear, cheap], name="remote")) is not None
    assert budget(WORK, Either([dear, remote(refuses=lambda task: "not here")], name="remote")) is not None


async def test_a_map_that_the_budget_cannot_pay_is_refused() -> None:
    """Nothing of it runs and nothing is spent, though it could pay a part; at a place that is free it does run."""
    budget = Budget(3)
    place = Priced(_Batching(name="remote", rank=3), per_call=1, budget=budget)
    async with Runtime([place], policies=[budget]) as rt:
        with pytest.raises(PolicyRefused, match="5 of 'work' would cost 5, and 3 is left") as refused:
            await rt.map(WORK, range(5))
        assert list(refused.value.refusals) == ["remote"]
        assert budget.spent == 0
        assert await rt.map(WORK, range(3)) == [0, 1, 2]
    budget = Budget(3)
    place = Priced(_Batching(name="remote", rank=3), per_call=1, budget=budget)
    async with Runtime([place, LocalBackend()], policies=[budget], strategy="in_order") as rt:
        assert await rt.map(WORK, range(5)) == list(range(5))


async def test_a_retry_is_paid_again() -> None:
    """Each time it may have begun."""
    lost = [ConnectionLost("cut", started=True)]

    def fails_once(task: AnyTask, *args: Any) -> Any:
        if lost:
            raise lost.pop()
        return task.fn(*args)

    budget = Budget(10)
    async with Runtime([Retrying(Priced(remote(fails_once), per_call=1, budget=budget), delay=0)]) as rt:
        assert await rt.run(Task(work, name="work", pure=True), 7) == 7
    assert budget.spent == 2


@given(st.integers(1, 500), st.integers(1, 2000))
def test_sums_are_exact(cents: int, calls: int) -> None:
    """As on paper: a thousand times a tenth of a cent is a euro, and not almost."""
    price, budget = exact(cents / 1000), Budget(cents * calls / 1000)
    paid = 0
    while budget.can_pay(price):
        budget.pay("work", 1, price)
        paid += 1
    assert paid == calls
    assert budget.left == 0
    assert budget.spent == float(Decimal(cents * calls) / 1000)


def test_amounts_are_numbers_of_any_kind() -> None:
    """As they come from settings, from tables, from a till."""
    assert exact(np.float64(0.1)) == exact(Decimal("0.1")) == exact(0.1) == Decimal("0.1")
    assert exact(3) == exact(np.int64(3)) == 3
    assert Budget(np.float64(1.5)).left == Budget(Decimal("1.5")).left == 1.5


def test_amounts_below_nothing_are_refused() -> None:
    """A budget of less than nothing, a call that pays its caller, and what is no number."""
    for amount in (-1, float("nan")):
        with pytest.raises(ValueError, match="amount"):
            Budget(amount)
        with pytest.raises(ValueError, match="amount"):
            Priced(remote(), per_call=amount, budget=Budget(1))


def test_a_budget_shows_how_it_stands() -> None:
    """In logs and at a prompt."""
    budget = Budget(2.5)
    budget.pay("work", 1, exact(0.5))
    assert repr(budget) == "<Budget of 2.5, 0.5 spent>"
