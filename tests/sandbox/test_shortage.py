"""The system is short of something: no program is blamed for that, and afterwards all is as before."""

from __future__ import annotations

import sys

import pytest

from tests.wasm.outside import ran

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="the limits of other systems are others")

LIMITING = """
    import resource
    from hybrid_compute import BlockingRuntime, WasmBackend
    from hybrid_compute.errors import HybridComputeError
    from hybrid_compute.sandbox import Limits, Sandbox, run_python

    def taken(field):
        (line,) = (each for each in open("/proc/self/status") if each.startswith(field))
        return int(line.split()[1]) << 10

    def tried(attempt, *given):
        try: print(attempt(*given))
        except HybridComputeError as error: print(type(error).__name__, error, error.started, error.backend)
"""


def test_no_addresses(prepared: None) -> None:
    """Called here or at the place that runs guests, whoever asks is told what is missing, and where to look."""
    out, err, code = ran(
        LIMITING
        + """
    def limit(more):
        resource.setrlimit(resource.RLIMIT_AS, (more, resource.RLIM_INFINITY))

    with Sandbox(ready=0) as box, BlockingRuntime([WasmBackend(threads=1)]) as rt:
        calculate = box.task("calculate")
        print(box.run("result = 1"), rt.run(calculate, "result = 1"))
        limit(taken("VmSize") + (1 << 30))
        tried(box.run, "result = 2")
        tried(rt.run, calculate, "result = 2")
        limit(resource.RLIM_INFINITY)
        print(box.run("result = 3"), rt.run(calculate, "result = 3"))
    """
    )
    told = (
        "BackendUnavailable no 4.062 GiB of addresses (not of memory) for a sandbox: "
        "Cannot allocate memory (os error 12); see `ulimit -v` False wasm\n"
    )
    assert (out, err, code) == ("1 1\n" + told * 2 + "3 3\n", "", 0)


def test_no_addresses_for_the_interpreter(prepared: None) -> None:
    """What was compiled is right all the same, and is not thrown away: to make it takes half a minute."""
    out, err, code = ran(
        LIMITING
        + """
    from hybrid_compute.sandbox import prepare
    from hybrid_compute.wasm.engines import engine_for

    engine_for(prepare.PROFILE)
    box = Sandbox(ready=0)
    resource.setrlimit(resource.RLIMIT_AS, (taken("VmSize") + (20 << 20), resource.RLIM_INFINITY))
    tried(box.run, "result = 1")
    print(prepare.is_prepared())
    """
    )
    assert out.startswith("BackendUnavailable no ")
    assert out.endswith(
        " MiB of addresses (not of memory) for a sandbox: Cannot allocate memory (os error 12); see `ulimit -v` "
        "False wasm\nTrue\n"
    )
    assert (err, code) == ("", 0)


def test_no_memory_for_a_program_that_may_have_it(prepared: None) -> None:
    """It says what is the system's; and of its own limit, where the system has more than that."""
    out, err, code = ran(
        LIMITING
        + """
    greedy = "print('begun'); x = [bytes(10**6) for _ in range(150)]; result = len(x)"
    with Sandbox(ready=0) as box, Sandbox(ready=0, limits=Limits(memory=48 << 20)) as small:
        box.run("result = 1"), small.run("result = 1")
        most = taken("VmData") + (100 << 20)
        resource.setrlimit(resource.RLIMIT_DATA, (most, resource.RLIM_INFINITY))
        tried(box.run, greedy)
        tried(small.run, greedy)
        resource.setrlimit(resource.RLIMIT_DATA, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
        tried(box.run, greedy)
    """
    )
    assert out.splitlines() == [
        (
            "BackendUnavailable the program needed more memory than the system gives it, which is less than the 256 "
            "MiB that it may have (Limits.memory): see `ulimit -d`, and how much memory is free True wasm"
        ),
        "LimitExceeded the program needed more memory: its limit of memory is 48 MiB (Limits.memory) True wasm",
        "150",
    ]
    assert (err, code) == ("", 0)
