"""A place for each tenant: every call goes to that of its own, and to no other."""

import asyncio
from collections.abc import Iterator
from contextvars import ContextVar
from typing import Any

import pytest

from hybrid_compute.backends.group import Group
from hybrid_compute.backends.local import LocalBackend
from hybrid_compute.backends.tenants import PerTenant
from hybrid_compute.backends.worker import WorkerBackend
from hybrid_compute.calls import Call
from hybrid_compute.clock import ManualClock
from hybrid_compute.errors import BackendClosed, BackendUnavailable, NoBackendAvailable, PolicyRefused
from hybrid_compute.events import Hooks
from hybrid_compute.runtime import Runtime
from hybrid_compute.tasks import AnyTask, Task
from hybrid_compute.testing import MockBackend
from hybrid_compute.testing.tasks import add, count

tenant: ContextVar[str] = ContextVar("tenant")


def who(x: int = 0) -> str:
    raise AssertionError("this runs at no place of these tests")


def numbers(upto: int) -> Iterator[str]:
    raise AssertionError("nor does this")
    yield ""


WHO: AnyTask = Task(who, name="who")
NUMBERS: AnyTask = Task(numbers, name="numbers")


def place(name: str, **facts: Any) -> MockBackend:
    def answer(task: AnyTask, *args: Any) -> Any:
        return [name] * args[0] if task.streams else name

    return MockBackend(answer, name=name, rank=3, on_this_machine=False, **facts)


async def test_each_call_goes_to_the_place_of_its_tenant() -> None:
    """Though many are under way at once."""
    remote = PerTenant({"acme": place("a"), "globex": place("b")}, tenant=tenant.get)
    async with Runtime([remote]) as rt:

        async def ask(name: str) -> Any:
            tenant.set(name)
            await asyncio.sleep(0)
            return await rt.run(WHO)

        names = ["acme", "globex"] * 20
        answers = await asyncio.gather(*(asyncio.create_task(ask(name)) for name in names))
        assert answers == ["a", "b"] * 20


async def test_streams_and_maps_go_there_too() -> None:
    """Whatever the verb."""
    remote = PerTenant({"acme": place("a"), "globex": place("b")}, tenant=tenant.get)
    token = tenant.set("globex")
    async with Runtime([remote]) as rt:
        assert await rt.map(WHO, range(3)) == ["b"] * 3
        async with rt.stream(NUMBERS, 2) as items:
            assert [item async for item in items] == ["b", "b"]
    tenant.reset(token)


async def test_batches_go_there_where_all_places_take_them() -> None:
    """A place among them that takes none gets its calls one by one."""
    token = tenant.set("acme")
    async with Runtime([remote := PerTenant({"acme": WorkerBackend(1)}, tenant=tenant.get)]) as rt:
        assert remote.batches
        assert await rt.starmap(add, [(number, 1) for number in range(300)]) == list(range(1, 301))
        assert await rt.run(count, 3) == [0, 1, 2]
    tenant.reset(token)
    assert not PerTenant({"acme": place("a")}, tenant=tenant.get).batches


async def test_a_call_for_nobody_goes_to_nobody() -> None:
    """Not to the first tenant, and not to the last; another place may take it."""
    remote = PerTenant({"acme": place("a")}, tenant=tenant.get)
    async with Runtime([remote]) as rt:
        with pytest.raises(NoBackendAvailable, match="it is for no tenant"):
            await rt.run(WHO)
        token = tenant.set("initech")
        with pytest.raises(NoBackendAvailable, match="tenant 'initech' has no place here"):
            await rt.run(WHO)
        with pytest.raises(BackendUnavailable, match="tenant 'initech' has no place here") as caught:
            await remote.run_call(Call(WHO))
        assert not caught.value.started
        tenant.reset(token)
    async with Runtime([remote2 := PerTenant({"acme": place("a")}, tenant=tenant.get), LocalBackend()]) as rt:
        assert not remote2.can_run(add)
        assert await rt.run(add, 1, 2) == 3


async def test_nobody_is_not_the_tenant_with_an_empty_name() -> None:
    """Whose place then would be that of all who forget to say who they are."""
    remote = PerTenant({"": place("a")}, tenant=tenant.get)
    async with Runtime([remote]) as rt:
        with pytest.raises(NoBackendAvailable, match="it is for no tenant"):
            await rt.run(WHO)
        token = tenant.set("")
        assert await rt.run(WHO) == "a"
        tenant.reset(token)


async def test_the_place_of_the_tenant_must_be_able() -> None:
    """What the place of another could do is no help."""
    remote = PerTenant(
        {"acme": place("a", refuses=lambda task: "it is full"), "globex": place("b", provides={"gpu"})},
        tenant=tenant.get,
    )
    token = tenant.set("acme")
    assert remote.provides >= {"cpu", "gpu"}
    assert remote.why_not(WHO) == "for tenant 'acme': it is full"
    assert not remote.can_run(Task(who, needs={"gpu"}))
    assert remote.why_not(Task(who, needs={"gpu"})) == "for tenant 'acme': it does not provide gpu"
    tenant.set("globex")
    assert remote.can_run(Task(who, needs={"gpu"}))
    tenant.reset(token)


async def test_a_private_task_goes_to_no_group_with_a_member_elsewhere() -> None:
    """Not even for a tenant whose own place is here."""
    group = PerTenant({"acme": MockBackend(name="here"), "globex": place("there")}, tenant=lambda: "acme")
    assert not group.on_this_machine
    async with Runtime([group]) as rt:
        with pytest.raises(PolicyRefused, match="private"):
            await rt.run(Task(who, name="who", private=True))
    assert PerTenant({"acme": MockBackend()}, tenant=lambda: "acme").on_this_machine


async def test_a_group_is_opened_and_closed_as_one() -> None:
    """With the clock and the hooks of its runtime."""
    a, b = place("a"), place("b")
    clock = ManualClock()
    async with Runtime([PerTenant({"x": a, "y": b}, tenant=lambda: "x")], clock=clock) as rt:
        assert a.clock is b.clock is clock
        assert a.hooks is b.hooks is rt.hooks
    assert a.closed
    assert b.closed
    with pytest.raises(BackendClosed):
        await PerTenant.run_call(rt.backends[0], Call(WHO))  # type: ignore[arg-type]


def test_what_a_group_says_of_its_members_cannot_be_set() -> None:
    """It follows from them."""
    group = PerTenant({"x": place("a", isolates=True), "y": place("b")}, tenant=lambda: "x", name="far")
    assert (group.name, group.rank, group.isolates) == ("far", 3, False)
    assert repr(group).startswith("<PerTenant 'far' of ")
    for name in ("on_this_machine", "isolates", "provides", "rank"):
        with pytest.raises(AttributeError, match=name):
            setattr(group, name, getattr(group, name))
    with pytest.raises(TypeError, match="is a group"):
        type("Forged", (Group,), {"on_this_machine": True})
    group.hooks = hooks = Hooks()
    assert all(each.hooks is hooks for each in group.members)
