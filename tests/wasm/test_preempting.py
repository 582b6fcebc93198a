"""Calls that go on a piece at a time: they yield at the same points each time, and are held by the same limits."""

import gc
import hashlib
import json
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hybrid_compute.errors import BackendClosed, BackendUnavailable, InvalidInput, LimitExceeded
from hybrid_compute.wasm import Limits, Trap, held, leash
from hybrid_compute.wasm.instances import run
from hybrid_compute.wasm.instances.instance import Instance
from hybrid_compute.wasm.instances.run import Run, in_turns
from hybrid_compute.wasm.watch import watch
from tests.wasm.kept import GRANTS, MODULE, double, opened

pytestmark = pytest.mark.skipif(sys.version_info >= (3, 14), reason="this Python takes the other stack for an overflow")


def finished(one: Run[Any]) -> Any:
    while not one.step():
        pass
    return one.result


def trace(instance: Instance, one: Run[Any]) -> list[str]:
    """What the memory is after each step."""
    seen = []
    while not one.step():
        seen.append(hashlib.sha256(instance.memory).hexdigest())
    return [*seen, str(one.result)]


def test_in_pieces_it_gives_what_it_gives_at_once() -> None:
    with opened(deterministic=True) as instance, opened(deterministic=True) as other:
        run = instance.begin("work", 20_000, 7, slice=10_000)
        assert (run.slices, run.done) == (0, False)
        assert finished(run) == other["work"](20_000, 7)
        assert run.done
        assert run.step()
        assert 0 <= run.slices - other.fuel_used // 10_000 <= 1
        assert instance.fuel_used == other.fuel_used
        assert instance.snapshot() == other.snapshot()


@settings(max_examples=20, deadline=None)
@given(count=st.integers(1, 3000), slice=st.integers(200, 30_000))
def test_it_yields_at_the_same_points_each_time(count: int, slice: int) -> None:
    def traced() -> list[str]:
        with opened(deterministic=True) as instance:
            instance["work"](10, 3)
            return trace(instance, instance.begin("work", count, 5, slice=slice))

    assert traced() == traced()


def test_several_take_turns_in_a_fixed_order() -> None:
    def traced() -> list[tuple[int, int, str]]:
        instances = [opened(deterministic=True) for _ in range(4)]
        counts = (500, 5000, 50, 2000)
        runs = [each.begin("work", n, n, slice=5000) for each, n in zip(instances, counts, strict=True)]
        seen = [(i, runs[i].slices, hashlib.sha256(instances[i].memory).hexdigest()) for i in in_turns(runs)]
        for each in instances:
            each.close()
        return seen

    first = traced()
    assert first == traced()
    order = [index for index, _, _ in first]
    slices = [order.count(index) for index in range(4)]
    assert slices[1] > slices[3] > slices[0] > slices[2] >= 1
    assert order == [index for turn in range(slices[1]) for index in range(4) if turn < slices[index]]


def test_one_that_fails_does_not_hold_up_the_others() -> None:
    with opened(limits=Limits(fuel=100_000)) as a, opened(deterministic=True) as b, opened(deterministic=True) as c:
        runs = [a.begin("spin", slice=10_000), b.begin("trap", slice=10_000), c.begin("work", 5000, 1, slice=10_000)]
        list(in_turns(runs))
        with pytest.raises(LimitExceeded, match="its limit of fuel is 100000 units"):
            _ = runs[0].result
        with pytest.raises(Trap, match="unreachable"):
            _ = runs[1].result
        assert isinstance(runs[2].result, int)
        for failed in (a, b):
            with pytest.raises(Trap, match="half written"):
                failed["nothing"]()


def test_until_it_is_over_its_instance_takes_no_other_call() -> None:
    with opened(deterministic=True) as instance:
        before, nothing = instance.snapshot(), instance["nothing"]
        run = instance.begin("work", 10_000, 7, slice=10_000)
        assert not run.step()
        for use in (
            nothing,
            lambda: instance["add"],
            lambda: instance.begin("nothing", slice=5),
            instance.snapshot,
            instance.fork,
            lambda: instance.restore(before),
            lambda: instance.empty(3),
        ):
            with pytest.raises(RuntimeError, match=r"in it is not over: step\(\) or cancel\(\) it first"):
                use()
        with pytest.raises(RuntimeError, match="is not over: step"):
            _ = run.result
        assert instance.memory.any()  # it can be looked into
        finished(run)
        assert instance["count"](0) == 10_000


def test_afterwards_the_instance_is_as_any_other() -> None:
    """Though its calls go another way from then on."""
    with MODULE.open(deterministic=True, grants=GRANTS, limits=Limits(time=0.3)) as instance:
        finished(instance.begin("work", 10, 7, slice=10))
        assert instance["add"](2, 3) == 5
        assert instance["ask"](5) == 6
        assert instance["remember"](2.5) == 0.0
        assert instance["remember"](0.0) == 2.5
        values = instance.empty(50, "float32")
        values[:] = 3
        instance.function(double)(values)
        assert values.tolist() == [6.0] * 50
        assert instance["grow"](3) == 2
        kept = instance.snapshot()
        with pytest.raises(Trap, match="unreachable"):
            instance["trap"]()
        instance.restore(kept)
        with pytest.raises(LimitExceeded, match="its limit of time"):
            instance["spin"]()
        instance.restore(kept)
        with pytest.raises(InvalidInput):
            instance["add"]("2", 3)
        assert finished(instance.begin("add", 1, 2, slice=10)) == 3


def test_a_restore_makes_a_smaller_memory_grow_afterwards_too() -> None:
    with opened(deterministic=True) as instance, opened(deterministic=True) as other:
        finished(instance.begin("nothing", slice=10))
        other["grow"](5)
        instance.restore(other.snapshot())
        assert len(instance.memory) == 7 << 16


def test_a_cancelled_one_is_over() -> None:
    with opened(deterministic=True) as instance:
        before = instance.snapshot()
        for steps in (0, 3):
            run = instance.begin("spin", slice=1000)
            for _ in range(steps):
                assert not run.step()
            run.cancel()
            run.cancel()
            assert run.step()
            with pytest.raises(RuntimeError, match=f"plain: spin was cancelled after {steps} slices"):
                _ = run.result
            with pytest.raises(Trap, match="half written"):
                instance["count"](1)
            instance.restore(before)
            assert instance["count"](0) == 0


def test_closing_its_instance_ends_it() -> None:
    instance = opened(deterministic=True)
    run = instance.begin("spin", slice=1000)
    run.step()
    instance.close()
    assert run.step()
    with pytest.raises(RuntimeError, match="its instance was closed"):
        _ = run.result
    run.cancel()
    with pytest.raises(BackendClosed):
        instance.begin("spin", slice=1000)


def test_one_that_is_forgotten_in_the_middle_is_given_back() -> None:
    for _ in range(20):
        run = opened(deterministic=True).begin("spin", slice=1000)
        run.step()
    del run
    gc.collect()


def test_only_the_time_that_it_runs_counts(monkeypatch: pytest.MonkeyPatch) -> None:
    waited = 0.0
    real = run.monotonic
    for module in (run, held, leash):
        monkeypatch.setattr(module, "monotonic", lambda: real() + waited)
    with opened(deterministic=True, limits=Limits(time=30.0)) as instance:
        one = instance.begin("work", 2000, 7, slice=5000)
        while not one.step():
            waited += 100.0
        assert one.slices > 3
        assert isinstance(one.result, int)


def test_all_its_pieces_have_one_limit_of_time() -> None:
    with opened(deterministic=True, limits=Limits(time=0.1)) as instance:
        one = instance.begin("spin", slice=1_000_000)
        while not one.step():
            pass
        with pytest.raises(LimitExceeded, match=r"its limit of time is 0\.1 s"):
            _ = one.result
        assert one.slices > 1
        assert not watch.running


def test_a_piece_without_end_is_stopped() -> None:
    with opened(deterministic=True, limits=Limits(time=0.05)) as instance:
        one = instance.begin("spin", slice=1 << 60)
        assert one.step()
        with pytest.raises(LimitExceeded, match="time"):
            _ = one.result


def test_host_functions_have_room_on_its_stack() -> None:
    """As much as in a thread: what they call may be nested deeply itself."""
    nested = "[" * 900 + "]" * 900

    def ask(question: int) -> int:
        return question + len(json.loads(nested))

    with MODULE.open(deterministic=True, grants={"ask": ask}) as instance:
        assert finished(instance.begin("ask_often", 20, slice=50)) == 230


def test_its_own_calls_are_nested_as_deeply_as_ever_and_no_deeper() -> None:
    with opened(deterministic=True) as instance:
        assert finished(instance.begin("recurse", 2000, slice=100)) == 2000
        one = instance.begin("recurse", 10_000_000, slice=100_000)
        while not one.step():
            pass
        with pytest.raises(LimitExceeded, match="stack"):
            _ = one.result


def test_what_a_host_function_raises_ends_it() -> None:
    def ask(question: int) -> int:
        raise KeyError(question)

    with MODULE.open(deterministic=True, grants={"ask": ask}) as instance:
        one = instance.begin("ask_often", 5, slice=10_000)
        assert one.step()
        with pytest.raises(KeyError):
            _ = one.result


def test_any_thread_may_take_the_next_step() -> None:
    with opened(deterministic=True) as instance, opened(deterministic=True) as other:
        one = instance.begin("work", 5000, 7, slice=5000)
        threads = set[int]()

        def step(_: int) -> bool:
            threads.add(threading.get_ident())
            return one.step()

        while not one.done:
            with ThreadPoolExecutor(3) as pool:
                list(pool.map(step, range(6)))
        assert one.result == other["work"](5000, 7)
        assert len(threads) > 1


def test_arrays_and_stubs_are_for_it_too() -> None:
    with opened(deterministic=True) as instance:
        values = instance.empty(2000, "float32")
        values[:] = 1
        one = instance.begin(double, values, slice=1000)
        one.step()
        assert 1 < values.mean() < 2
        assert finished(one) is None
        assert values.mean() == 2


@pytest.mark.parametrize("slice", [0, -5])
def test_what_cannot_be_begun_is_refused(slice: int) -> None:
    with opened(deterministic=True) as instance:
        with pytest.raises(InvalidInput, match="at least 1 unit of fuel"):
            instance.begin("nothing", slice=slice)
        with pytest.raises(InvalidInput, match="takes 2 arguments, not 1"):
            instance.begin("add", 1, slice=10)
        with pytest.raises(InvalidInput, match="argument 'arg0' must be int"):
            instance.begin("add", "1", 2, slice=10)
        assert instance["add"](1, 2) == 3
    with opened() as instance:
        with pytest.raises(InvalidInput, match=r"uses no fuel: open it with deterministic=True or Limits\(fuel="):
            instance.begin("nothing", slice=10)
        with pytest.raises(InvalidInput, match="uses no fuel"):
            _ = instance.fuel_used


def test_a_python_that_would_not_survive_it_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "version_info", (3, 14, 0))
    with opened(deterministic=True) as instance, pytest.raises(BackendUnavailable, match=r"use Python 3\.13 or older"):
        instance.begin("nothing", slice=10)
