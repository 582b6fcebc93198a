"""Several servers that stand as one: the nearest is asked, the next when it fails, and none twice without leave."""

import asyncio
from collections.abc import AsyncGenerator, Generator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from hybrid_compute.backends.remote.backend import RemoteBackend
from hybrid_compute.backends.remote.health import Circuit
from hybrid_compute.backends.remote.nearest import Nearest
from hybrid_compute.backends.remote.upkeep import Upkeep
from hybrid_compute.calls import Call
from hybrid_compute.clock import ManualClock
from hybrid_compute.errors import (
    BackendClosed,
    BackendUnavailable,
    ConnectionLost,
    NoBackendAvailable,
    PolicyRefused,
    TaskFailed,
    TaskTimeout,
)
from hybrid_compute.runtime import Runtime
from hybrid_compute.tasks import Task
from tests.backends import remoting
from tests.backends.remoting import QUICK, TASKS, Relay, relay, until
from tests.backends.test_remote_contract import RemoteContract
from tests.backends.test_remote_contract import served as contract_served  # noqa: F401  # a fixture
from tests.server.serving import Served, serving

FAR = 0.05


@pytest.fixture(scope="module")
def served() -> Generator[Served]:
    with serving(TASKS, patience=0.2) as running:
        yield running


@asynccontextmanager
async def near_and_far(served: Served) -> AsyncGenerator[tuple[Relay, Relay]]:
    async with relay(served.port) as near, relay(served.port) as far:
        far.delay = FAR
        yield near, far


def place(line: Relay, name: str, upkeep: Upkeep = QUICK) -> RemoteBackend:
    return RemoteBackend(f"ws://127.0.0.1:{line.port}", name=name, upkeep=upkeep)


async def test_the_nearest_is_asked(served: Served) -> None:
    """By what was measured at the start, whatever the order in which they were given."""
    async with near_and_far(served) as (near, far):
        async with Runtime([nearest := Nearest([place(far, "far"), place(near, "near")])]) as rt:
            distances = nearest.distances
            assert distances["far"] is not None
            assert distances["near"] is not None
            assert distances["far"] >= 2 * FAR > distances["near"]
            far.cut()  # whoever went there would be lost
            assert await asyncio.gather(*(rt.run(remoting.double, number) for number in range(20))) == [
                *range(0, 40, 2)
            ]
            assert rt.stats()["double"]["remote"].failed == 0


async def test_the_next_is_asked_where_nothing_was_sent(served: Served) -> None:
    """A server that is away fails no call, and the nearer one is asked again when it is back."""
    async with near_and_far(served) as (near, far):
        async with Runtime([nearest := Nearest([place(near, "near"), place(far, "far")])]) as rt:
            await near.stop()
            assert await rt.run(remoting.double_again, 21) == 42  # the cut may have hit it on its way
            await until(lambda: not nearest.members[0].can_run(remoting.double))
            assert await rt.run(remoting.double, 21) == 42
            assert "near: " in nearest.why_not(remoting.double)
            assert "it is tried again in" in nearest.why_not(remoting.double)
            await near.start()
            await until(lambda: nearest.members[0].can_run(remoting.double))
            await far.stop()
            assert await rt.run(remoting.double_again, 21) == 42


async def test_a_call_that_may_have_begun_is_not_sent_to_another(served: Served, tmp_path: Path) -> None:
    """Unless its task is pure."""
    pure = Task(remoting.note_and_hold.fn, name="note_and_hold", pure=True)
    async with near_and_far(served) as (near, far):
        async with Runtime([Nearest([place(near, "near"), place(far, "far")])]) as rt:
            once = asyncio.create_task(rt.run(remoting.note_and_hold, str(tmp_path), "once"))
            again = asyncio.create_task(rt.run(pure, str(tmp_path), "again"))
            await until(
                lambda: len((tmp_path / "log").read_text().split()) == 2 if (tmp_path / "log").exists() else False
            )
            near.cut()
            with pytest.raises(ConnectionLost) as caught:
                await once
            assert caught.value.backend == "near"
            await until(lambda: len((tmp_path / "log").read_text().split()) == 3)
            (tmp_path / "go").touch()
            assert await again == "again"
    assert sorted((tmp_path / "log").read_text().split()) == ["again", "again", "once"]


async def test_a_server_that_fails_again_and_again_is_left_alone(served: Served) -> None:
    """Its circuit opens; after its rest one call tries it; when that goes well it is as before."""
    clock = ManualClock()
    near, far = _Shaky("near"), _Shaky("far")
    nearest = Nearest([near, far], circuit=lambda: Circuit(failures=2, rest=10.0))
    nearest.clock = clock
    near.broken = True
    for _ in range(5):
        assert await nearest.run_task(remoting.double_again, 21) == 42
    assert near.asked == 2
    assert "left alone for a while" in nearest.why_not(remoting.double)
    clock.advance(10.0)
    assert await nearest.run_task(remoting.double_again, 21) == 42  # it tried, and failed
    assert near.asked == 3
    clock.advance(10.0)
    near.broken = False
    assert await nearest.run_task(remoting.double_again, 21) == 42
    assert near.asked == 3
    clock.advance(10.0)
    for _ in range(3):
        assert await nearest.run_task(remoting.double_again, 21) == 42
    assert near.asked == 6
    near.broken = far.broken = True
    for _ in range(2):
        with pytest.raises(ConnectionLost):
            await nearest.run_task(remoting.double_again, 21)
    assert not nearest.can_run(remoting.double)
    with pytest.raises(BackendUnavailable, match=r"no server of 'remote' can run 'double_again': near: it has failed"):
        await nearest.run_task(remoting.double_again, 21)
    await nearest.aclose()


class _Shaky(RemoteBackend):
    """Answers by itself, or fails, as it is told; what it was asked is counted."""

    def __init__(self, name: str) -> None:
        super().__init__("http://127.0.0.1:1", name=name)
        self.broken = False
        self.asked = 0
        self.error: Exception | None = None

    async def run_call(self, call: Call, /) -> object:
        self.asked += 1
        if self.broken:
            raise self.error or ConnectionLost("cut", backend=self.name, started=True)
        return call.task.fn(*call.args)

    async def probe(self) -> float:
        return 0.001 if self.name == "near" else 0.1


@pytest.mark.parametrize("error", [TaskFailed("its own fault"), TaskTimeout("too late")])
async def test_an_error_of_the_task_is_an_answer(error: Exception) -> None:
    """It opens no circuit, and no other server is asked."""
    near, far = _Shaky("near"), _Shaky("far")
    near.broken, near.error = True, error
    nearest = Nearest([near, far], circuit=lambda: Circuit(failures=1))
    for _ in range(3):
        with pytest.raises(type(error)):
            await nearest.run_task(remoting.double_again, 21)
    assert (near.asked, far.asked) == (3, 0)
    await nearest.aclose()


async def test_distances_are_measured_again_now_and_then() -> None:
    """While there are calls; who is nearer now is asked now."""
    clock = ManualClock()
    near, far = _Shaky("near"), _Shaky("far")
    nearest = Nearest([near, far], every=30.0)
    nearest.clock = clock
    await nearest._measure()
    await nearest.run_task(remoting.double, 1)
    assert (near.asked, far.asked) == (1, 0)
    near.name, far.name = far.name, near.name  # they have changed places
    clock.advance(23.0)
    await nearest.run_task(remoting.double, 1)
    assert nearest._measuring is None
    for _ in range(20):
        clock.advance(37.0)
        await nearest.run_task(remoting.double, 1)
        assert nearest._measuring is not None
        await nearest._measuring
    before = far.asked
    await nearest.run_task(remoting.double, 1)
    assert far.asked == before + 1
    await nearest.aclose()


async def test_a_task_goes_to_a_server_that_can_run_it() -> None:
    """What one provides, another need not."""
    plain = RemoteBackend("http://127.0.0.1:1", name="plain", tasks=["double"])
    gpu = RemoteBackend("http://127.0.0.1:2", name="gpu", tasks=["double"], provides={"gpu"})
    nearest = Nearest([plain, gpu])
    wanted = Task(remoting.double.fn, name="double", needs={"gpu"})
    assert nearest.provides == {"cpu", "gpu"}
    assert nearest.can_run(wanted)
    assert [each.backend.name for each in nearest._order(wanted)] == ["gpu"]
    assert not nearest.can_run(remoting.process)
    assert "plain: it is not in the list given to it" in nearest.why_not(remoting.process)
    await nearest.aclose()


async def test_streams_and_batches_go_to_the_nearest_too(served: Served, tmp_path: Path) -> None:
    """A stream goes on elsewhere only while it has delivered nothing."""
    async with near_and_far(served) as (near, far):
        async with Runtime([nearest := Nearest([place(near, "near"), place(far, "far")])]) as rt:
            assert await rt.map(remoting.double, range(300)) == [*range(0, 600, 2)]
            async with rt.stream(remoting.numbers, 100) as items:
                assert [item async for item in items] == [*range(100)]
            with pytest.raises(ConnectionLost):
                async with rt.stream(remoting.numbered, str(tmp_path)) as items:
                    async for item in items:
                        if item == 5:
                            near.cut()
            await near.stop()
            await until(lambda: not nearest.members[0].can_run(remoting.double))
            async with rt.stream(remoting.numbers, 100) as items:
                assert [item async for item in items] == [*range(100)]


async def test_a_private_task_goes_to_no_group() -> None:
    """And no group can be told otherwise."""
    nearest = Nearest([RemoteBackend("http://127.0.0.1:1", name="a", upkeep=QUICK)])
    assert not nearest.on_this_machine
    with pytest.raises(AttributeError, match="cannot be set"):
        nearest.on_this_machine = True
    with pytest.raises(TypeError, match="is a group"):
        type("Forged", (Nearest,), {"on_this_machine": True})
    nearest._servers[0].backend.can_run = lambda task: True  # type: ignore[method-assign]
    async with Runtime([nearest]) as rt:
        with pytest.raises(PolicyRefused, match="private"):
            await rt.run(Task(remoting.double.fn, name="double", private=True), 1)


async def test_where_all_are_away_there_is_a_reason_for_each(served: Served) -> None:
    """In the error, by name."""
    members = [RemoteBackend("http://127.0.0.1:1", name=name, upkeep=QUICK) for name in ("a", "b")]
    async with Runtime([Nearest(members)]) as rt:
        with pytest.raises(NoBackendAvailable, match=r"a: .*Connection refused.*b: .*Connection refused"):
            await rt.run(remoting.double, 1)


async def test_a_closed_group_says_so() -> None:
    """Its members are closed with it."""
    nearest = Nearest([RemoteBackend("http://127.0.0.1:1", name="a")])
    await nearest.aclose()
    await nearest.aclose()
    assert nearest.members[0].closed
    with pytest.raises(BackendClosed):
        await nearest.run_task(remoting.double, 1)


def test_a_group_of_nobody_is_refused() -> None:
    """It could run nothing."""
    with pytest.raises(ValueError, match="no members"):
        Nearest([])


class TestNearestOfOne(RemoteContract):
    @pytest.fixture(autouse=True)
    def _reached(self, contract_served: Served) -> None:  # noqa: F811
        type(self).server = contract_served

    def make_backend(self) -> Nearest:
        return Nearest([RemoteBackend(self.server.socket_url, name="one")])
