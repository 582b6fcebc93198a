"""Guests that are called in the middle of a call of theirs: by the handler of a signal, by an argument, by a child."""

import os
import threading

import pytest

from hybrid_compute.wasm import stack
from tests.wasm.guests import good
from tests.wasm.outside import ran


@pytest.mark.parametrize("times", [1, 2])
def test_a_handler_may_call_the_kept_task_that_it_interrupts(times: int) -> None:
    """It has another guest then; the one that is interrupted goes on, and its limits hold."""
    out, err, code = ran(f"""
        spin = LOOPS.task("spin", limits=Limits(time=0.5), reuse=True)
        spin(0), spin(0)

        def handler(*_):
            for _ in range({times}):
                print("in the handler:", spin(0))

        signal.signal(signal.SIGALRM, handler)
        signal.setitimer(signal.ITIMER_REAL, 0.1)
        try:
            spin(1)
        except Exception as error:
            print(type(error).__name__, error)
        print(spin(0))
    """)
    handled = "in the handler: 7\n" * times
    assert (out, err, code) == (
        f"{handled}LimitExceeded spin ran for longer: its limit of time is 0.5 s (Limits.time)\n7\n",
        "",
        0,
    )


def test_a_handler_that_traps_does_not_take_the_guest_away() -> None:
    """The one that is interrupted between two steps of its call."""
    out, err, code = ran("""
        add = LOOPS.task("add", reuse=True)
        deep = LOOPS.task("deep", reuse=True)
        wrong, over, between = 0, False, threading.Event()

        def handler(*_):
            global wrong
            if over:
                return
            signal.signal(signal.SIGUSR1, signal.SIG_IGN)
            wrong += add(500, 500) != 1000
            try:
                deep(1 << 30)
            except Exception:
                pass
            wrong += deep(3) != 3
            signal.signal(signal.SIGUSR1, handler)

        def pester():
            while not over:
                os.kill(os.getpid(), signal.SIGUSR1)
                between.wait(0.0002)

        add(1, 1), deep(2)
        signal.signal(signal.SIGUSR1, handler)
        pest = threading.Thread(target=pester)
        pest.start()
        for number in range(20_000):
            wrong += add(number, 1) != number + 1
            wrong += deep(5) != 5
        over = True
        pest.join()
        print(wrong)
    """)
    assert (out, err, code) == ("0\n", "", 0)


class Reentrant:
    """A number that calls the guest it is given to, when it is asked what it is."""

    def __init__(self, add: object) -> None:
        self.add = add

    def __index__(self) -> int:
        assert self.add(500, 500) == 1000  # type: ignore[operator]
        return 1


def test_an_argument_may_call_the_function_that_it_is_given_to() -> None:
    add = good().task("add", reuse=True)
    assert [add(2, 3), add(2, 3)] == [5, 5]
    assert add(10, Reentrant(add)) == 11
    assert add(10, Reentrant(add)) == 11


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system cannot fork")
@pytest.mark.parametrize("how", ["kept", "instance", "fresh"])
def test_time_is_limited_in_a_forked_child(how: str) -> None:
    """On the short ways too, which know what they know from before."""
    out, err, code = ran(f"""
        limits = Limits(time=0.2)
        ways = {{
            "kept": lambda: LOOPS.task("spin", limits=limits, reuse=True),
            "instance": lambda: LOOPS.open(limits=limits)["spin"],
            "fresh": lambda: LOOPS.task("spin", limits=limits),
        }}
        spin = ways["{how}"]()
        spin(0), spin(0)
        if not os.fork():
            signal.alarm(20)
            print(spin(0))
            try:
                spin(1)
            except Exception as error:
                print(type(error).__name__)
            sys.stdout.flush()
            os._exit(0)
        print(os.waitstatus_to_exitcode(os.wait()[1]))
    """)
    assert (out, err, code) == ("7\nLimitExceeded\n0\n", "", 0)


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system cannot fork")
def test_a_guest_whose_function_forks_is_limited_in_the_child() -> None:
    out, err, code = ran("""
        child = None

        def wait() -> None:
            global child
            if child is None:
                child = os.fork()
                signal.alarm(20)

        waiting = WAITS.task("waiting", grants={"wait": wait}, limits=Limits(time=0.3, host_calls=None))
        try:
            waiting()
        except Exception as error:
            told = type(error).__name__
        ended = os.waitstatus_to_exitcode(os.wait()[1]) if child else "in the child"
        print(told, ended, flush=True)
        os._exit(0)
    """)
    assert (out, err, code) == ("LimitExceeded in the child\nLimitExceeded 0\n", "", 0)


@pytest.mark.parametrize("how", ["fresh", "kept", "instance"])
def test_what_is_left_of_the_stack_counts(how: str) -> None:
    """And not how large all of it is: called deep, a guest that recurses would end the process.

    So deep that little is left, and not as deep as where Python 3.12 refuses calls through C.
    """
    out, err, code = ran(f"""
        limits = Limits(stack=256 << 10)

        def down(depth, call):
            return list(map(down, [depth - 1], [call]))[0] if depth else call()

        def work():
            deep = LOOPS.open(limits=limits)["deep"] if "{how}" == "instance" else LOOPS.task(
                "deep", limits=limits, reuse="{how}" == "kept")
            print(deep(5), deep(5), down(20, lambda: deep(5)))
            try:
                down(500, lambda: deep(1 << 30))
            except Exception as error:
                print(type(error).__name__, "are left" in str(error))
            print(deep(5), deep(5))

        threading.stack_size(512 << 10)
        thread = threading.Thread(target=work)
        thread.start()
        thread.join()
    """)
    assert (out, err, code) == ("5 5 5\nBackendUnavailable True\n5 5\n", "", 0)


def test_threads_are_told_from_those_that_had_their_number_before() -> None:
    stacks: list[object] = []
    for _ in range(3):
        thread = threading.Thread(target=lambda: stacks.append(stack.here.stack))
        thread.start()
        thread.join()
    assert len(set(map(id, stacks))) == 3
    assert stack.here.stack is stack.here.stack


def test_a_program_ends_while_guests_wait_in_functions_of_the_host() -> None:
    """Their threads are in the midst of what would be freed."""
    out, err, code = ran("""
        inside = threading.Semaphore(0)

        def wait() -> None:
            inside.release()
            time.sleep(2)

        waiting = WAITS.task("waiting", grants={"wait": wait}, limits=Limits(time=None))
        threading.stack_size(8 << 20)
        for _ in range(3):
            threading.Thread(target=waiting, daemon=True).start()
        for _ in range(3):
            inside.acquire()
        print("over")
    """)
    assert (out, err, code) == ("over\n", "", 0)


def test_a_handler_may_call_what_is_being_compiled() -> None:
    out, err, code = ran("""
        from hybrid_compute.wasm import program

        def signalling(*args):
            program.load = load
            signal.raise_signal(signal.SIGUSR1)
            return load(*args)

        load, program.load = program.load, signalling
        add = LOOPS.task("add")
        signal.signal(signal.SIGUSR1, lambda *_: print("in the handler:", add(2, 3)))
        print(add(3, 4), add(4, 5))
    """)
    assert (out, err, code) == ("in the handler: 5\n7 9\n", "", 0)
