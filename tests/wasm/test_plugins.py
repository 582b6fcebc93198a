"""Modules that others' compilers have made keep the convention, and are what their sources say."""

import asyncio
import hashlib
import subprocess
import sys
from collections import Counter
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given
from hypothesis import strategies as st

from hybrid_compute import Runtime
from hybrid_compute.backends.wasm import WasmBackend
from hybrid_compute.errors import TaskFailed
from hybrid_compute.wasm import Trap, WasmModule

REPOSITORY = Path(__file__).parents[2]
PLUGINS = REPOSITORY / "examples" / "plugins"
SOURCES = sorted(
    source
    for folder in (PLUGINS, Path(__file__).parent / "programs")
    for source in (*folder.glob("*.c"), *folder.glob("*.ts"))
)

in_c = WasmModule.from_file(PLUGINS / "score.wasm")
in_assemblyscript = WasmModule.from_file(PLUGINS / "words.wasm")
small_texts = st.text(st.sampled_from("abAB é"), max_size=40)


@in_c.task
def score(text: str, words: str) -> float: ...


@in_c.task
def smoothed(values: npt.NDArray[np.float64], weight: float) -> npt.NDArray[np.float64]: ...


@in_c.task
def share(total: int, parts: int) -> int: ...


@in_assemblyscript.task
def counted(text: str) -> str: ...


@in_assemblyscript.task
def shout(text: str) -> str: ...


@pytest.mark.parametrize("source", SOURCES, ids=[source.name for source in SOURCES])
def test_what_is_committed_was_built_from_its_source(source: Path) -> None:
    """Its last section is the SHA-256 of the source; if not, run examples/plugins/build.py."""
    built = source.with_suffix(".wasm").read_bytes()
    assert built.endswith(b"\x06source" + hashlib.sha256(source.read_bytes()).digest())


@pytest.mark.timeout(300)
@pytest.mark.parametrize("source", [each for each in SOURCES if each.suffix == ".c"], ids=lambda each: each.stem)
def test_the_compiler_makes_the_same_of_it_again(source: Path, tmp_path: Path) -> None:
    """Byte for byte, where the compiler is that of `build.py`: what is committed is what the source says."""
    builder = PLUGINS / "build.py"
    if (there := _installed("ziglang")) not in builder.read_text():
        pytest.skip(f"build.py names another compiler than there is here: {there}")
    again = tmp_path / source.name
    again.write_bytes(source.read_bytes())
    subprocess.run([sys.executable, builder, again], check=True)
    assert again.with_suffix(".wasm").read_bytes() == source.with_suffix(".wasm").read_bytes()


def _installed(package: str) -> str:
    try:
        return f"{package}=={version(package)}"
    except PackageNotFoundError:
        return f"no {package}"


def test_every_module_has_its_source() -> None:
    """Nothing is committed that nobody can read."""
    assert sorted(source.with_suffix(".wasm") for source in SOURCES) == sorted(
        path for folder in {source.parent for source in SOURCES} for path in folder.glob("*.wasm")
    )
    assert {source.suffix for source in SOURCES} == {".c", ".ts"}


@given(small_texts, st.lists(st.sampled_from(["a", "ab", "bA", "b"]), max_size=3))
def test_c_counts_as_python_does(text: str, words: list[str]) -> None:
    """Texts of any length go in, and a float comes out."""
    lowered = text.replace("A", "a").replace("B", "b").encode()
    found = sum(lowered[at:].startswith(word.lower().encode()) for word in words for at in range(len(lowered)))
    assert score(text, " ".join(words)) == (1000 * found / len(lowered) if lowered else 0.0)


@given(st.lists(st.floats(-1e9, 1e9), max_size=50), st.floats(0, 1))
def test_arrays_go_into_c_and_come_back(values: list[float], weight: float) -> None:
    """To the last bit."""
    expected, last = list[float](), values[0] if values else 0.0
    for value in values:
        last += weight * (value - last)
        expected.append(last)
    assert smoothed(np.array(values), weight).tolist() == expected


@given(small_texts)
def test_assemblyscript_counts_as_python_does(text: str) -> None:
    """A module with a heap of its own gives back texts that it made."""
    words = [word for word in text.lower().split(" ") if word]
    assert counted(text) == "".join(f"{word} {times}\n" for word, times in Counter(words).items())


def test_texts_cross_as_utf_8() -> None:
    """Both sides keep other encodings to themselves."""
    assert shout("größe 🦀") == "GRÖSSE 🦀!"


def test_a_plugin_that_needs_more_memory_gets_it() -> None:
    """Its `alloc` makes the memory larger, which is where the arguments go then."""
    assert smoothed(np.ones(1_000_000), 0.5).sum() == 1_000_000


async def test_a_plugin_that_fails_names_its_functions() -> None:
    """The names come from the module, as far as its compiler has left them in."""
    async with Runtime([WasmBackend(threads=1)]) as rt:
        with pytest.raises(TaskFailed) as caught:
            await rt.run(share, 1, 0)
        trap = caught.value.__cause__
        assert isinstance(trap, Trap)
        assert [frame.partition(" at ")[0] for frame in trap.frames] == ["score.wasm!divided", "score.wasm!share"]
        assert await asyncio.gather(*(rt.run(share, n, 1) for n in range(20))) == list(range(20))
