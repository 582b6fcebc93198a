"""Plug-ins that are not trusted: in C and AssemblyScript, each call in a sandbox of its own, made in microseconds.

pip install 'hybrid-compute[wasm]'
python examples/plugin.py
"""

# mypy: disable-error-code="empty-body"
import asyncio
from pathlib import Path

import numpy as np
import numpy.typing as npt

from hybrid_compute import Runtime
from hybrid_compute.backends.wasm import WasmBackend
from hybrid_compute.errors import LimitExceeded, TaskFailed
from hybrid_compute.wasm import Limits, WasmModule

PLUGINS = Path(__file__).parent / "plugins"
in_c = WasmModule.from_file(PLUGINS / "score.wasm")  # from score.c
in_assemblyscript = WasmModule.from_file(PLUGINS / "words.wasm")  # from words.ts


@in_c.task
def score(text: str, words: str) -> float: ...


@in_c.task
def smoothed(values: npt.NDArray[np.float64], weight: float) -> npt.NDArray[np.float64]: ...


@in_c.task
def share(total: int, parts: int) -> int: ...


@in_assemblyscript.task(limits=Limits(time=1.0, memory=1 << 20))
def counted(text: str) -> str: ...


async def main() -> None:
    async with Runtime([WasmBackend()]) as rt:
        print("score:", await rt.run(score, "Red, and blue, and RED again", "red again"))
        print("smoothed:", await rt.run(smoothed, np.array([1.0, 3.0, 5.0, 5.0]), 0.5))
        print("words:", (await rt.run(counted, "the cat and the dog")).split("\n"))
        try:
            await rt.run(share, 3, 0)
        except TaskFailed as error:
            print("contained:", error.__cause__)
        try:
            await rt.run(counted, "many words " * 100_000)
        except LimitExceeded as error:
            print("contained:", error)
        print("and goes on:", await rt.run(share, 12, 4))


asyncio.run(main())
