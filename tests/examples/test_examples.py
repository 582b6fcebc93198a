"""Every example runs as it stands, as a program of its own, and shows what it says it shows."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

FOLDER = Path(__file__).parents[2] / "examples"

SHOWN = {
    "agent_tools": ["audit: Look at so many", "heard: 3 of 3", "got `str` - at `$.invoice.cents[0]`"],
    "blackjack": ["10,000 hands at 100 tables", "won -1.30%", "-3.05% to +1.39%", "the same 100 hands, +5.5 bets"],
    "crunch_files": ["50 % of 100,000 rows", "100,000 rows in 16 calls: {'worker': 16}"],
    "custom_backend": ["whereabouts ran in thread-backend_0, wait_a_little in MainThread", "not thread: it runs plain"],
    "drop_in_executor": ["run_in_executor: 125", "a crash: worker", "after it: 27"],
    "large_arrays": ["4,194,304 bytes each way", "a shared array in a worker: output array is read-only"],
    "offline": ["kept: reading-0 reading-1 reading-2", "stored: 3", "at the server: 17.5 18.0 18.5 19.0"],
    "pipeline": ["300 lines, the first read in ", "left with 5", "in stage 1 of 2, price on worker, on item 1"],
    "plugin": ["score: 107.1", "'the 2'", "contained: share: it divided", "Limits.memory)", "goes on: 3"],
    "progressive_enhancement": ["passed on by worker: ", "computed in a worker", "computed in this process"],
    "prompts": ["refused: the prompt is empty", "to_html    ran at worker", "clean      ran at local"],
    "remote": [
        "is there: 1,007 primes, counted at the server",
        "counted in this process",
        "back: 1,007 primes, counted",
    ],
    "round_trip": ["filled      worker", "filtered    WASM module", "multiplied  ", "plotted     this process"],
    "responsive_web": ["load, in workers", "load, in the loop"],
    "shared_table": ["4 players hold 52 cards", "the spectator saw 52 cards", "twice is once too often: not found"],
    "serve": ['a call:   {"result":1229}', '[{"result":4},{"result":25}]', '{"result":null}', "422", "invalid_input"],
}


def run(path: Path, folder: Path, *options: str) -> str:
    """What an example prints where its folder is not the working directory; it may not complain."""
    command = [sys.executable, *options, str(path)]
    ran = subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=50, check=False)
    assert (ran.returncode, ran.stderr) == (0, "")
    return ran.stdout


def test_every_example_is_listed() -> None:
    """A new example is run too, and what it shows is written down here."""
    assert sorted(SHOWN) == sorted(path.stem for path in FOLDER.glob("*.py"))


@pytest.mark.parametrize("name", SHOWN)
def test_an_example_runs_and_shows_what_it_says(name: str, tmp_path: Path) -> None:
    """An example asserts its own outcome; what the reader is to see is printed."""
    printed = run(FOLDER / f"{name}.py", tmp_path)
    assert [words for words in SHOWN[name] if words not in printed] == []


def test_the_web_example_measures_less_lag_with_workers(tmp_path: Path) -> None:
    """A handler that computes in the loop keeps everybody waiting; with workers the loop stays free."""
    printed = run(FOLDER / "responsive_web.py", tmp_path)
    workers, inside = (float(re.findall(rf"{where} +([\d.]+) ms", printed)[0]) for where in ("workers", "in the loop"))
    assert workers < inside


STAGED = """
import runpy, sys
from hybrid_compute.gpu.adapters import Adapter
Adapter.shares_memory = False
runpy.run_path(sys.argv[1], run_name="__main__")
"""
"""The same example on a card: its memory is not the processor's, and the device moves what the host has written."""


@pytest.mark.parametrize("card", [False, True], ids=["this machine", "a card"])
def test_the_round_trip_counts_every_copy(card: bool, tmp_path: Path) -> None:
    """One mapping of one file in all places, and nothing in pipes.

    To the gpu and back it is one copy each way by the processor, and on a card one each way by the device.
    """
    path = FOLDER / "round_trip.py"
    printed = run(path, tmp_path, *(["-c", STAGED] if card else []))
    places = dict(re.findall(r"(filled|filtered|plotted) .*(file \d+ \+ \d+)", printed))
    assert sorted(places) == ["filled", "filtered", "plotted"]
    assert len(set(places.values())) == 1
    assert int(re.findall(r"(\d+) bytes through pipes", printed)[0]) < 1000
    if "there is no gpu" not in printed:
        [copies] = re.findall(r"there and back: (\S+) copies by the processor, (\S+) by the device", printed)
        assert copies == ("2.0", "2.0" if card or not host_maps() else "0.0")


def host_maps() -> bool:
    """Whether the gpu that is taken here lets the host map what its shaders use. Asked of a driver elsewhere."""
    program = """
from hybrid_compute.gpu.adapters import choose
adapter = choose()
print(adapter.kind in ("integrated", "software") and "mappable-primary-buffers" in adapter.features)
"""
    told = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=50, check=True)
    return told.stdout == "True\n"


@pytest.mark.parametrize("name", SHOWN)
def test_an_example_is_short_and_says_what_it_is_about(name: str) -> None:
    """One idea each, which the first lines name."""
    source = (FOLDER / f"{name}.py").read_text()
    assert source.startswith('"""')
    assert source.count("\n") <= 105
