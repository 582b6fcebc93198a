"""An engine in a file: saved whole, known to be whole when it is loaded, and saved by itself."""

import asyncio
import pickle
import threading
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from hybrid_compute.clock import ManualClock
from hybrid_compute.engine import saving
from hybrid_compute.engine.engine import Engine
from hybrid_compute.engine.listeners import Event
from hybrid_compute.errors import EngineError
from tests.engine.counters import Deck, actions, counter
from tests.engine.homes import Make, opening
from tests.faults.watching import until


@pytest.fixture(params=["here", "in a worker"])
async def make(request: pytest.FixtureRequest) -> AsyncIterator[Make]:
    async with opening(request.param) as make:
        yield make


async def test_what_was_saved_is_loaded(make: Make, tmp_path: Path) -> None:
    """State and history, in another engine; in place of what was in the file."""
    engine, other, path = await make(), await make(), tmp_path / "game"
    heard: list[Event] = []
    engine.on("engine:saved", heard.append)
    other.on("engine:restored", heard.append)
    for total in (1, 2):
        await engine.dispatch_async("add")
        await engine.save(path)
        assert await other.load(str(path)) == total
        assert await other.state() == await engine.state() == {"total": total, "seen": []}
        assert await other.history() == await engine.history()
    assert [event.payload for event in heard] == [
        {"path": str(path)},
        {"history": 1},
        {"path": str(path)},
        {"history": 2},
    ]
    assert list(tmp_path.iterdir()) == [path]


def spoilt(data: bytes) -> dict[str, bytes]:
    """What may have become of a file."""
    last = bytes([data[-1] ^ 1])
    return {
        "empty": b"",
        "cut in its head": data[:20],
        "cut at its end": data[:-1],
        "damaged": data[:-1] + last,
        "longer": data + b"\0",
        "of another version": data.replace(b"hc engine 1", b"hc engine 2", 1),
        "foreign": b"\x89PNG and so on",
    }


COMPLAINTS = {
    "empty": "is not the file of an engine",
    "cut in its head": "is damaged or cut short",
    "cut at its end": "is damaged or cut short",
    "damaged": "is damaged or cut short",
    "longer": "is damaged or cut short",
    "of another version": "has form '2', and this version reads form '1'",
    "foreign": "is not the file of an engine",
}


@pytest.mark.parametrize("fault", COMPLAINTS)
async def test_a_file_that_is_not_what_was_saved_changes_nothing(make: Make, tmp_path: Path, fault: str) -> None:
    engine, path = await make(), tmp_path / "game"
    await engine.dispatch_async("add")
    await engine.save(path)
    await engine.dispatch_async("add")
    path.write_bytes(spoilt(path.read_bytes())[fault])
    with pytest.raises(EngineError, match=COMPLAINTS[fault]):
        await engine.load(path)
    assert await engine.dispatch_async("add") == 3
    assert len(await engine.history()) == 3


UNFIT = {
    "no pickle": (b"\x80\x05garbage", "this is no snapshot of an engine: "),
    "cut short": (pickle.dumps((counter(), [], 0), 5)[:-3], "this is no snapshot of an engine: "),
    "another thing": (pickle.dumps([1, 2, 3, 4]), "this is no snapshot of an engine: ValueError"),
    "another history": (pickle.dumps((counter(), ["a", "b"], 0)), "this is no snapshot of an engine: AttributeError"),
    "another state": (pickle.dumps((Deck(), [], 0)), r"its state is a tests\.engine\.counters\.Deck, and here"),
}


@pytest.mark.parametrize(("snapshot", "complaint"), UNFIT.values(), ids=UNFIT)
async def test_a_snapshot_that_does_not_fit_changes_nothing(make: Make, snapshot: bytes, complaint: str) -> None:
    """As far as that can be seen."""
    engine = await make()
    await engine.dispatch_async("add")
    with pytest.raises(EngineError, match=complaint):
        await engine.restore(snapshot)
    assert await engine.state() == {"total": 1, "seen": []}
    assert len(await engine.history()) == 1


async def test_a_snapshot_of_actions_that_are_unknown_here(make: Make) -> None:
    engine, fewer = await make(), await make(dict, type(actions)())
    await engine.dispatch_async("add")
    with pytest.raises(EngineError, match=r"it has done \['add'\], unknown here"):
        await fewer.restore(await engine.snapshot())


async def test_a_file_that_cannot_be_written_is_as_before(make: Make, tmp_path: Path) -> None:
    engine = await make()
    with pytest.raises(OSError, match="nowhere"):
        await engine.save(tmp_path / "nowhere" / "game")
    with pytest.raises(OSError, match="No such file"):
        await engine.load(tmp_path / "game")
    await engine.save(tmp_path / "game")
    (tmp_path / "folder").mkdir()
    with pytest.raises(OSError, match="folder"):
        await engine.save(tmp_path / "folder")
    assert sorted(each.name for each in tmp_path.iterdir()) == ["folder", "game"]


async def test_a_later_save_is_not_overtaken(make: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """However many are under way, one is written at a time, and the file has the last."""
    engine, path = await make(), tmp_path / "game"
    saves, save, free = [], saving.save, threading.Lock()

    def alone(path: Path, snapshot: bytes) -> None:
        assert free.acquire(blocking=False)
        save(path, snapshot)
        free.release()

    monkeypatch.setattr(saving, "save", alone)
    for _ in range(20):
        await engine.dispatch_async("add")
        saves.append(asyncio.create_task(engine.save(path)))
    await asyncio.gather(*saves)
    assert await engine.load(path) == 20


# By itself.


async def test_saving_every_so_often(make: Make, tmp_path: Path) -> None:
    """And once more at the end."""
    clock, path = ManualClock(), tmp_path / "game"
    engine = await make(clock=clock)
    saved: list[Event] = []
    engine.on("engine:saved", saved.append)
    async with engine.autosave(path, every=30.0):
        await until(lambda: clock.waiting)
        for count in (1, 2):
            clock.advance(30.0)
            await until(lambda count=count: len(saved) == count and clock.waiting)
        clock.advance(29.0)
        await engine.dispatch_async("add")
    assert len(saved) == 3
    assert clock.waiting == 0
    assert await engine.load(path) == 1


async def test_saving_that_fails_is_told_and_tried_again(make: Make, tmp_path: Path) -> None:
    clock, path = ManualClock(), tmp_path / "nowhere" / "game"
    engine = await make(clock=clock)
    told: list[Any] = []
    engine.on("engine:error", lambda event: told.append(event.payload))
    async with engine.autosave(path):
        await until(lambda: clock.waiting)
        clock.advance(30.0)
        await until(lambda: told and clock.waiting)
        assert told[0]["phase"] == "autosave"
        assert "nowhere" in told[0]["error"]
        path.parent.mkdir()
        clock.advance(30.0)
        await until(path.exists)
    path.unlink()
    path.parent.rmdir()
    with pytest.raises(OSError, match="nowhere"):
        async with engine.autosave(path):
            pass


def test_an_interval_must_be_one(tmp_path: Path) -> None:
    engine: Engine[Any] = Engine(counter, actions)
    with pytest.raises(ValueError, match="every must be a positive number of seconds, not 0"):
        engine.autosave(tmp_path / "game", every=0)


def test_a_power_cut_leaves_the_old_file_or_the_new(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What was written in part has another name, and goes."""
    path = tmp_path / "game"
    saving.save(path, b"old")

    def cut(handle: int) -> None:
        raise OSError("no power")

    monkeypatch.setattr(saving.os, "fsync", cut)
    with pytest.raises(OSError, match="no power"):
        saving.save(path, b"new")
    assert saving.load(path) == b"old"
    assert list(tmp_path.iterdir()) == [path]
