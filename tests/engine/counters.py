"""Small engines for the tests."""

import os
import time
from pathlib import Path
from typing import Any

from hybrid_compute.engine.actions import ActionRegistry
from hybrid_compute.engine.turn import chance, emit, new_id, now

actions = ActionRegistry()


def counter() -> dict[str, Any]:
    return {"total": 0, "seen": []}


def refuse() -> dict[str, Any]:
    raise ValueError("not today")


@actions.add("add")
def add(state: dict[str, Any], payload: dict[str, int]) -> int:
    """Add, and tell of it."""
    state["total"] += payload.get("by", 1)
    emit("added", {"total": state["total"]})
    return int(state["total"])


@actions.add("total", reads=True)
def total(state: dict[str, Any], payload: Any) -> int:
    return int(state["total"])


@actions.add("keep")
def keep(state: dict[str, Any], payload: Any) -> Any:
    """Keep the payload itself, and give it back."""
    state["seen"].append(payload)
    return payload


@actions.add("change what was kept")
def change(state: dict[str, Any], payload: Any) -> None:
    state["seen"][-1]["changed"] = True


@actions.add("draw lots")
def draw_lots(state: dict[str, Any], payload: Any) -> list[Any]:
    drawn = [now(), chance().random(), new_id(), new_id()]
    state["seen"].append(drawn)
    return drawn


@actions.add("change and fail")
def fail(state: dict[str, Any], payload: Any) -> None:
    state["total"] = -1
    state["seen"].clear()
    emit("added", {"total": -1})
    raise ValueError("it went wrong")


@actions.add("give what cannot travel")
def give(state: dict[str, Any], payload: Any) -> Any:
    state["total"] = -1
    return (each for each in "abc")


@actions.add("tell what cannot travel")
def tell(state: dict[str, Any], payload: Any) -> None:
    state["total"] = -1
    emit("added", (each for each in "abc"))


@actions.add("pretend")
def pretend(state: dict[str, Any], payload: Any) -> None:
    emit("engine:unwatched", None)


@actions.add("mark and wait")
def wait(state: dict[str, Any], payload: dict[str, str]) -> None:
    """Say so in a file, and never end."""
    state["total"] = -1
    with Path(payload["path"]).open("a") as file:
        file.write(f"{os.getpid()}\n")
    time.sleep(3600)


@actions.add("wait for a file")
def wait_for(state: dict[str, Any], payload: dict[str, str]) -> None:
    """Say in another file that it waits, if there is to be one."""
    if "mark" in payload:
        with Path(payload["mark"]).open("a") as file:
            file.write(f"{os.getpid()}\n")
    while not Path(payload["path"]).exists():
        time.sleep(0.001)


@actions.add("die")
def die(state: dict[str, Any], payload: Any) -> None:
    os._exit(3)


class Deck:
    """State with methods."""

    def __init__(self) -> None:
        self.cards = [f"{suit}{rank}" for suit in "HS" for rank in range(1, 6)]

    def draw(self, count: int = 1) -> list[str]:
        if not 0 < count <= len(self.cards):
            raise ValueError(f"there are {len(self.cards)} cards, not {count}")
        return [self.cards.pop() for _ in range(count)]

    def put_back(self, *, cards: list[str]) -> int:
        self.cards += cards
        return len(self.cards)


class Lots:
    """State that is all chance."""

    def __init__(self) -> None:
        self.drawn: list[float] = []
        self.ids: list[str] = []

    def draw(self, times: int) -> list[float]:
        drawn = [chance().random() for _ in range(times)]
        self.drawn += drawn
        self.ids.append(new_id())
        return drawn

    def sort(self) -> None:
        chance().shuffle(self.drawn)
        self.ids.append(f"at {now()}")
