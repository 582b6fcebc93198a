"""Stopping a guest: by its leash, at Ctrl-C, at the end of the program. And that nothing runs while no guest does."""

import gc
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from textwrap import dedent

import pytest

from hybrid_compute.wasm import Limits, WasmComponent, memories
from hybrid_compute.wasm.function import WasmFunction
from hybrid_compute.wasm.leash import Leash
from hybrid_compute.wasm.slots import Room
from hybrid_compute.wasm.watch import Watch, leashes, overdue, watch
from tests.faults.watching import wait_until
from tests.wasm.guests import bad, good
from tests.wasm.outside import FORKING

SPIN: WasmFunction[[], None] = bad().task("spin", limits=Limits(time=None)).fn  # type: ignore[assignment]
ADD = good().task("add")


class Spinning:
    """A guest that runs without end, in a thread."""

    def __init__(self) -> None:
        self.leash = Leash()
        self.error: BaseException | None = None
        self.thread = threading.Thread(target=self._run)
        self.thread.start()
        wait_until(lambda: self.leash.tick is not None)

    def _run(self) -> None:
        try:
            SPIN.run(self.leash, (), {})
        except BaseException as error:
            self.error = error


@pytest.fixture
def spinning() -> Iterator[Spinning]:
    one = Spinning()
    yield one
    one.leash.stop(RuntimeError("the test is over"))
    one.thread.join(10)


def test_any_thread_can_stop_a_guest(spinning: Spinning) -> None:
    """With an error of its own."""
    reason = RuntimeError("enough")
    spinning.leash.stop(reason)
    spinning.thread.join(10)
    assert spinning.error is reason


def test_who_stops_a_guest_moves_its_epoch(spinning: Spinning) -> None:
    """It ends at once, and not when the thread that watches looks again: here that is held still."""
    reason = RuntimeError("enough")
    with watch._looking:
        spinning.leash.stop(reason)
        spinning.thread.join(10)
        assert spinning.error is reason


def test_stopping_one_guest_leaves_the_others_running(spinning: Spinning) -> None:
    """They share an engine, whose epoch goes on for all of them."""
    other = Spinning()
    other.leash.stop(RuntimeError("enough"))
    other.thread.join(10)
    assert spinning.thread.is_alive()
    assert ADD(1, 2) == 3


def test_what_is_stopped_before_it_begins_does_not_begin() -> None:
    leash = Leash()
    leash.stop(RuntimeError("too early"))
    with pytest.raises(RuntimeError, match="too early"):
        SPIN.run(leash, (), {})


def test_the_watch_sleeps_while_no_guest_runs(spinning: Spinning) -> None:
    """Nothing here spins while it waits."""
    assert not watch.asleep
    spinning.leash.stop(RuntimeError("enough"))
    spinning.thread.join(10)
    wait_until(lambda: watch.asleep)
    assert ADD(1, 2) == 3
    wait_until(lambda: watch.asleep)
    assert not watch.running


def test_guests_leave_nothing_behind() -> None:
    """Not their leash, not their place in any list."""
    gc.collect()  # the guests that other tests have left to it
    before = len(leashes)
    for _ in range(100):
        ADD(1, 2)
        with pytest.raises(Exception, match="gives up"):
            bad().task("give_up")()
    assert len(leashes) == before
    assert not watch.running


def test_which_engines_are_moved() -> None:
    """Of guests whose time is up, that were told to stop, and now and then of the one in the main thread."""

    def leash(name: str, until: float = 10.0, error: str = "", thread: int = 0) -> Leash:
        made = Leash()
        made.tick = ticks[name] = lambda: name
        made.until, made.thread = until, thread
        made.error = RuntimeError(error) if error else None
        return made

    ticks: dict[str, object] = {}
    main = threading.main_thread().ident or 0
    held = [leash("late", 1.0), leash("told", error="stop"), leash("main", thread=main), leash("going on"), Leash()]
    assert overdue(held, 5.0, for_signals=False) == {ticks["late"], ticks["told"]}
    assert overdue(held, 5.0, for_signals=True) == {ticks["late"], ticks["told"], ticks["main"]}


def program(text: str) -> subprocess.Popen[str]:
    prelude = """
        import threading
        from hybrid_compute.wasm import Limits, WasmModule
        module = WasmModule.from_wat('(module (func (export "spin") (loop br 0)) (func (export "add") '
            '(param i32 i32) (result i32) (i32.add (local.get 0) (local.get 1))))')
        spin, add = module.task("spin", limits=Limits(time=None)), module.task("add", reuse=True)
    """
    return subprocess.Popen(
        [sys.executable, *FORKING, "-c", dedent(prelude) + dedent(text)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
    )


@pytest.mark.skipif(sys.platform == "win32", reason="sends a signal")
@pytest.mark.parametrize("reuse", [False, True], ids=["fresh", "kept"])
def test_an_interrupt_stops_a_guest_in_the_main_thread(reuse: bool) -> None:
    """And is raised where it was called; the handler is then what it was."""
    running = program(f"""
        import signal
        spin = module.task("spin", limits=Limits(time=None), reuse={reuse})
        from hybrid_compute.wasm.watch import watch

        def tell():
            while not watch.running: pass
            print("begun", flush=True)

        add(1, 2)
        threading.Thread(target=tell).start()
        try:
            spin()
        except KeyboardInterrupt:
            print("interrupted", add(1, 2), signal.getsignal(signal.SIGINT) is signal.default_int_handler)
    """)
    assert running.stdout is not None
    assert running.stdout.readline() == "begun\n"
    running.send_signal(signal.SIGINT)
    out, err = running.communicate(timeout=30)
    assert (out, err, running.returncode) == ("interrupted 3 True\n", "", 0)


@pytest.mark.skipif(not hasattr(signal, "setitimer"), reason="sends signals to itself")
def test_signals_are_handled_wherever_they_come_in() -> None:
    """Thousands of them, at every point of a call: each is raised where the guest was called, or the call is right."""
    running = program("""
        import os, random, signal, sys, time
        from hybrid_compute.wasm import slots

        module = WasmModule.from_wat('(module (memory 1) (func (export "f") (param i64) (result i64)'
            '(drop (memory.grow (i32.const 1)))'
            '(i64.store (i32.const 70000) (local.get 0)) (i64.load (i32.const 70000))))')
        calls = [module.task("f"), module.task("f", reuse=True), add]
        armed, raised, lost, over = False, 0, [], False

        def handler(*_):
            global armed, raised
            if armed:
                armed, raised = False, raised + 1
                raise KeyboardInterrupt

        def pester():
            while not over:
                os.kill(os.getpid(), signal.SIGUSR1)
                time.sleep(random.random() * 0.0003)

        sys.unraisablehook = lost.append
        signal.signal(signal.SIGUSR1, handler)
        for call in calls:  # an interrupted import would be Python's affair
            for _ in range(2):
                call(0, 0) if call is add else call(0)
        pest = threading.Thread(target=pester, daemon=True)
        pest.start()
        interrupted = 0
        for number in range(6000):
            call = calls[number % 3]
            try:
                armed = True
                result = call(number, 0) if call is add else call(number)
                armed = False
                assert result == number, (result, number)
            except KeyboardInterrupt:
                interrupted += 1
        over = True
        pest.join()
        print(interrupted == raised, raised > 100, lost)
    """)
    out, err = running.communicate(timeout=50)
    assert (out, err, running.returncode) == ("True True []\n", "", 0)


@pytest.mark.parametrize("how", ["fresh", "kept", "instance"])
@pytest.mark.parametrize(
    ("first", "outcome"), [("handler", "Trap\n"), ("sandbox", "BackendUnavailable\n")], ids=["before", "after"]
)
def test_a_trap_never_ends_the_process(first: str, outcome: str, how: str) -> None:
    """Though `faulthandler` handles the same signals: enabled before, it is passed by; after, guests are refused."""
    running = program(f"""
        import faulthandler
        if "{first}" == "handler":
            faulthandler.enable()
        failing = WasmModule.from_wat(
            '(module (func (export "fail") (param i32) (if (local.get 0) (then unreachable))))')
        instance = failing.open()
        fresh, kept = failing.task("fail"), failing.task("fail", reuse=True)
        fail = {{"fresh": fresh, "kept": kept, "instance": instance["fail"]}}["{how}"]
        for _ in range(3):
            fail(0)
        faulthandler.enable()
        try:
            fail(1)
        except Exception as error:
            print(type(error).__name__)
        faulthandler.disable()
        instance.close()
    """)
    out, err = running.communicate(timeout=30)
    assert (out, err, running.returncode) == (outcome, "", 0)


def test_a_thread_with_a_small_stack_is_refused() -> None:
    """Rather than the guest's recursion end the process.

    In a program of its own: a thread of this one might get the stack of another that has ended, and is larger.
    """
    running = program("""
        add(1, 2)
        def recurse():
            try:
                WasmModule.from_wat('(module (func $deeper (export "run") (call $deeper)))').task("run")()
            except Exception as error:
                print(type(error).__name__, error)

        threading.stack_size(256 << 10)
        thread = threading.Thread(target=recurse)
        thread.start()
        thread.join()
    """)
    out, err = running.communicate(timeout=30)
    assert out.startswith("BackendUnavailable this thread has a stack of ")
    assert " and the guest may use 256: call threading.stack_size(8388608) before" in out
    assert (err, running.returncode) == ("", 0)


@pytest.mark.parametrize("how", ["kept", "instance"])
def test_a_deep_call_within_a_deep_call_is_refused(how: str) -> None:
    """On the short way too: there a host function, called deep in one guest, could end the process by another."""
    running = program(f"""
        nested = '(if (result i64) (i64.eqz (local.get 0)) (then {{}} (i64.const 0)) (else (i64.add (i64.const 1)'
        nested += ' (call $deeper (i64.sub (local.get 0) (i64.const 1))))))'
        head = '(func $deeper (export "run") (param i64) (result i64) '
        deep = WasmModule.from_wat('(module ' + head + nested.format("") + '))')
        outer = WasmModule.from_wat('(module (import "host" "f" (func $f)) ' + head + nested.format("(call $f)") + '))')
        limits = Limits(stack=1 << 20)

        def work():
            kept = "{how}" == "kept"
            inner = deep.task("run", limits=limits, reuse=True) if kept else deep.open(limits=limits)["run"]

            def f() -> None:
                inner(1 << 40)

            print(inner(5), inner(5))
            try:
                outer.task("run", limits=limits, grants={{"f": f}})(25_000)
            except Exception as error:
                print(type(error).__name__, "are left, and the guest may use 1024" in str(error))
            print(inner(5), inner(5))

        threading.stack_size(1536 << 10)
        thread = threading.Thread(target=work)
        thread.start()
        thread.join()
    """)
    out, err = running.communicate(timeout=30)
    assert (out, err, running.returncode) == ("5 5\nBackendUnavailable True\n5 5\n", "", 0)


@pytest.fixture
def interrupting(monkeypatch: pytest.MonkeyPatch) -> Callable[[], None]:
    """From now on Ctrl-C comes while a guest's memory grows; its handler raises in there."""

    def take(_room: Room, _size: int) -> bool:
        monkeypatch.undo()
        signal.raise_signal(signal.SIGINT)
        raise AssertionError("the handler was to raise")

    return lambda: monkeypatch.setattr(Room, "take", take)


COMPONENT = WasmComponent.from_wat("""
    (component
      (core module $code (memory 1) (func (export "grow") (result i32) (memory.grow (i32.const 1))))
      (core instance $i (instantiate $code))
      (func (export "grow") (result s32) (canon lift (core func $i "grow"))))
""")


@COMPONENT.task
def grow() -> int: ...  # type: ignore[empty-body]


def test_an_interrupt_while_memory_grows_is_raised_where_the_guest_was_called(interrupting: Callable[[], None]) -> None:
    """In the next call of whatever guest it would be somebody else's."""
    fresh, kept, instance = good().task("grow"), good().task("grow", reuse=True), good().open(deterministic=True)
    for call in (
        lambda: fresh(1),
        lambda: kept(1),
        lambda: instance["grow"](1),
        grow,
        lambda: instance.begin("grow", 1, slice=10_000).step(),
        lambda: [run.step() for run in [instance.begin("grow_and_spin", slice=1000)] for _ in range(3)],
    ):
        for _ in range(2):
            snapshot = instance.snapshot()
            interrupting()
            with pytest.raises(KeyboardInterrupt):
                call()
            assert not memories.signalled
            instance.restore(snapshot)
            assert ADD(1, 2) == 3
            assert instance["add"](1, 2) == 3
    instance.close()


def test_a_program_ends_while_a_guest_runs() -> None:
    """In a thread of its own, without end. Nothing is printed, and nobody waits."""
    running = program("""
        threading.Thread(target=spin, daemon=True).start()
        add(1, 2)
        while not __import__("hybrid_compute.wasm.watch", fromlist=["watch"]).watch.running: pass
        print("done")
    """)
    out, err = running.communicate(timeout=30)
    assert (out, err, running.returncode) == ("done\n", "", 0)


@pytest.mark.skipif(not hasattr(os, "fork"), reason="forks")
def test_a_forked_child_has_a_sandbox_too() -> None:
    """Compiled before, and compiled there; its guests are watched."""
    running = program("""
        import os
        add(1, 2)
        child = os.fork()
        if child == 0:
            assert add(2, 3) == 5
            assert module.task("add", deterministic=True)(2, 3) == 5
            try:
                module.task("spin", limits=Limits(time=0.02))()
            except Exception as error:
                print(type(error).__name__, flush=True)
            os._exit(0)
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
        assert add(3, 4) == 7
    """)
    out, err = running.communicate(timeout=30)
    assert (out, err, running.returncode) == ("LimitExceeded\n", "", 0)


def test_a_watch_that_could_not_be_started_is_started_for_the_next(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where the system has no more threads that call fails, and no other goes unwatched for it."""
    watching = Watch()

    def no_more(self: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    with monkeypatch.context() as patched, pytest.raises(RuntimeError):
        patched.setattr(threading.Thread, "start", no_more)
        watching.wake()
    assert watching.asleep
    watching.wake()
    wait_until(lambda: watching.asleep, "there was nothing to watch")
    assert watching._thread is not None
    assert watching._thread.is_alive()
