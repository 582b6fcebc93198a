"""A module that is kept alive: its functions, who may use them when, and what is left after a call went wrong."""

import gc
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

pytest.importorskip("wasmtime")

from hybrid_compute.errors import BackendClosed, BackendUnavailable, InvalidInput, LimitExceeded
from hybrid_compute.wasm import Limits, Trap, WasmModule, slots, stack
from hybrid_compute.wasm.instances.instance import Instance
from tests.wasm.kept import GRANTS, MODULE, add, opened


@pytest.fixture(params=[False, True], ids=["quick", "with hosts"])
def instance(request: pytest.FixtureRequest) -> Any:
    """One whose functions of numbers go the shortest way, and one where every call goes the long one."""
    with MODULE.open(grants=GRANTS) if request.param else opened() as instance:
        yield instance


def test_a_function_is_called_by_its_name_or_by_a_stub(instance: Instance) -> None:
    typed = instance.function(add)
    assert [typed(2, 3), typed(b=5, a=2), instance["add"](4, 5), instance.function("add")(1, 1)] == [5, 7, 9, 2]
    assert instance["add"] is instance["add"]
    assert typed.__name__ == "add"


@given(a=st.integers(-(2**31), 2**32 - 1), b=st.integers(-(2**31), 2**32 - 1))
def test_numbers_come_back_as_the_guest_has_them(a: int, b: int) -> None:
    """Also those that the shortest way does not take, because they are unsigned."""
    total = (a + b) & 0xFFFFFFFF
    with opened() as instance:
        instance["nothing"]()
        assert instance["add"](a, b) == (total - 2**32 if total >> 31 else total)


def test_state_is_kept_between_calls(instance: Instance) -> None:
    count = instance["count"]
    assert [count(1) for _ in range(5)] == [1, 2, 3, 4, 5]
    assert instance["remember"](1.5) == 0.0
    assert instance["remember"](2.5) == 1.5


@pytest.mark.parametrize("arguments", [(1,), (1, 2, 3), ("1", 2), (1, 1.5), (1, None), (1, 2**40)])
def test_arguments_that_do_not_fit_are_refused_and_nothing_is_lost(
    instance: Instance, arguments: tuple[Any, ...]
) -> None:
    instance["count"](41)
    with pytest.raises(InvalidInput, match="add"):
        instance["add"](*arguments)
    assert instance["count"](1) == 42
    assert instance["add"](1, 2) == 3


def test_what_the_module_does_not_have_is_refused_when_the_handle_is_made(instance: Instance) -> None:
    def load(at: int) -> str: ...

    with pytest.raises(InvalidInput, match=r"exports no function 'lode'; it has add, alloc"):
        instance["lode"]
    with pytest.raises(InvalidInput, match=r"load is declared as \(at: int\) -> str"):
        instance.function(load)
    with pytest.raises(InvalidInput, match="says too little"):
        instance["pointer"]


def trapping(instance: Instance) -> None:
    with pytest.raises(Trap, match="unreachable"):
        instance["trap"]()


def out_of_bounds(instance: Instance) -> None:
    with pytest.raises(Trap, match="beyond the end of its memory") as caught:
        instance["load"](2 << 16)
    assert caught.value.code == "MEMORY_OUT_OF_BOUNDS"


@pytest.mark.parametrize("goes_wrong", [trapping, out_of_bounds])
def test_after_a_trap_nothing_runs_until_a_snapshot_is_restored(
    instance: Instance, goes_wrong: Callable[[Instance], None]
) -> None:
    instance["count"](5)
    before = instance.snapshot()
    for _ in range(2):
        goes_wrong(instance)
        with pytest.raises(Trap, match=r"half written: restore a snapshot, or open another instance"):
            instance["count"](1)
        with pytest.raises(Trap, match="half written"):
            instance.snapshot()
        assert len(instance.memory) == 2 << 16  # it can be looked into
        instance.restore(before)
        assert instance["count"](0) == 5


def test_each_limit_holds_for_each_call() -> None:
    with opened(limits=Limits(time=0.05)) as instance:
        instance["nothing"]()
        with pytest.raises(LimitExceeded, match=r"plain ran for longer: its limit of time is 0\.05 s") as caught:
            instance["spin"]()
        assert caught.value.backend == "wasm"
    with opened(limits=Limits(fuel=10_000)) as instance:
        for _ in range(10):  # each call begins with all of it
            instance["work"](100, 1)
        with pytest.raises(LimitExceeded, match=r"its limit of fuel is 10000 units"):
            instance["work"](10_000, 1)
    with opened(limits=Limits(memory=1 << 20)) as instance:
        assert instance["grow"](14) == 2
        assert instance["grow"](1) == -1
        assert instance["add"](1, 1) == 2
        with pytest.raises(LimitExceeded, match=r"its limit of memory is 1 MiB"):
            instance["alloc"](1 << 20)
    with MODULE.open(limits=Limits(host_calls=2), grants=GRANTS) as instance:
        assert [instance["ask"](each) for each in range(5)] == [1, 2, 3, 4, 5]


def test_a_denied_page_is_forgotten_by_the_next_call() -> None:
    with opened(limits=Limits(memory=1 << 20)) as instance:
        assert instance["grow"](100) == -1
        trapping(instance)


def test_threads_take_turns(instance: Instance) -> None:
    """No call is lost and none runs in the middle of another one, whichever way each goes."""

    def many(_: int) -> None:
        for _ in range(500):
            instance["count"](1)

    with ThreadPoolExecutor(4) as threads:
        list(threads.map(many, range(4)))
    assert instance["count"](0) == 2000


def test_a_call_in_the_middle_of_its_own_call_is_refused() -> None:
    """By a host function: it would wait for itself."""

    def ask(question: int) -> int:
        return int(instance["add"](question, 1))

    with MODULE.open(grants={"ask": ask}) as instance:
        with pytest.raises(RuntimeError, match="kept is used in the middle of its own call"):
            instance["ask"](1)


def test_what_a_host_function_raises_is_raised_by_the_call() -> None:
    def ask(question: int) -> int:
        raise KeyError(question)

    with MODULE.open(grants={"ask": ask}) as instance, pytest.raises(KeyError):
        instance["ask"](1)


def test_ctrl_c_stops_a_call_on_the_shortest_way() -> None:
    def interrupt() -> None:
        while not memory[0]:  # it says so itself when it is under way
            pass
        os.kill(os.getpid(), signal.SIGINT)

    with opened() as instance:
        memory = instance.memory
        instance["nothing"]()
        thread = threading.Thread(target=interrupt)
        thread.start()
        with pytest.raises(KeyboardInterrupt):
            instance["spin"]()
        thread.join()
        with pytest.raises(Trap, match="half written"):
            instance["nothing"]()


def test_a_thread_with_too_small_a_stack_is_refused(instance: Instance, monkeypatch: pytest.MonkeyPatch) -> None:
    """Also when the last call went the shortest way in another thread: it would be the end of the process."""
    instance["nothing"]()
    caught: list[BaseException] = []

    def call() -> None:
        try:
            instance["nothing"]()
        except BackendUnavailable as error:
            caught.append(error)

    monkeypatch.setattr(stack, "_bounds", lambda: (0, 256 << 10))  # a real one may be one that is left over, and larger
    thread = threading.Thread(target=call)
    thread.start()
    thread.join()
    assert "threading.stack_size" in str(caught[0])
    instance["nothing"]()


def test_a_closed_instance_says_so(instance: Instance) -> None:
    call = instance["nothing"]
    call()
    instance.close()
    instance.close()
    for use in (
        call,
        instance.snapshot,
        lambda: instance.memory,
        lambda: instance.empty(5),
        lambda: instance.function(add)(1, 2),
    ):
        with pytest.raises(BackendClosed, match=r"this instance of (kept|plain) is closed"):
            use()
    assert repr(instance).endswith("closed>")


def test_one_that_nobody_holds_gives_its_memory_back() -> None:
    before = set(slots.used)
    instance = opened()
    number = (set(slots.used) - before).pop()
    call = instance["nothing"]
    del instance
    gc.collect()
    call()  # a function holds its instance
    assert number in slots.used
    del call
    gc.collect()
    assert number not in slots.used


def test_without_wasmtime_it_names_the_extra() -> None:
    code = """
import sys
sys.modules["wasmtime"] = None
from hybrid_compute.wasm import WasmModule
from hybrid_compute.errors import BackendUnavailable
try:
    WasmModule.from_bytes(bytes([0, 97, 115, 109, 1, 0, 0, 0])).open()
except BackendUnavailable as error:
    print(error)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=30, check=True)
    assert "pip install 'hybrid-compute[wasm]'" in done.stdout


def test_a_module_that_is_none_is_refused() -> None:
    with pytest.raises(InvalidInput, match="no module that can be run"):
        WasmModule.from_bytes(b"\0asm\x01\0\0\0\x02\xff").open()
    with pytest.raises(InvalidInput, match=r"imports host\.ask .* which it was not granted"):
        MODULE.open()
