"""Programs of their own, for tests whose subject is the end of one, its signals or its children."""

import os
import subprocess
import sys
from textwrap import dedent

FORKING = ("-W", "ignore:This process:DeprecationWarning")
"""Since Python 3.12 who forks beside threads is warned, and a guest is watched by one."""

PRELUDE = """
    import os, signal, sys, threading, time
    from hybrid_compute.wasm import Limits, WasmModule

    WAITS = WasmModule.from_wat('''
        (module (import "host" "wait" (func $wait)) (memory 1)
          (func (export "waiting") (loop $again (call $wait) (br $again))))''')
    LOOPS = WasmModule.from_wat('''
        (module (memory 1)
          (func (export "add") (param i32 i32) (result i32) (i32.add (local.get 0) (local.get 1)))
          (func (export "spin") (param i32) (result i32)
            (loop $again (br_if $again (local.get 0))) (i32.const 7))
          (func $deeper (export "deep") (param i32) (result i32)
            (if (result i32) (local.get 0)
              (then (i32.add (i32.const 1) (call $deeper (i32.sub (local.get 0) (i32.const 1)))))
              (else (i32.const 0)))))''')
"""


def ran(text: str, *, timeout: float = 50) -> tuple[str, str, int]:
    """What a program prints, what it complains of, and the code it ends with."""
    done = subprocess.run(
        [sys.executable, *FORKING, "-c", dedent(PRELUDE) + dedent(text)],
        capture_output=True,
        text=True,
        timeout=timeout,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
        check=False,
    )
    return done.stdout, done.stderr, done.returncode
