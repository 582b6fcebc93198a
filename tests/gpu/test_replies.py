"""Who waits for a work is told, in the place where he waits."""

import asyncio
from collections import deque
from typing import Any

from hybrid_compute.gpu.replies import Asked, Batch, Joined, Mailbox, settle


class Guarded(deque[Any]):
    """Letters that may be put in and counted by one thread at a time."""

    def __init__(self, box: Mailbox) -> None:
        super().__init__()
        self._box = box

    def append(self, letter: Any) -> None:
        assert self._box._lock.locked()
        super().append(letter)


async def test_of_two_threads_one_wakes_the_loop() -> None:
    """Both the old device and the new one may have something to tell: if each saw the other's letter, nobody would."""
    box = Mailbox(asyncio.get_running_loop())
    box._letters = Guarded(box)
    answers = [asyncio.get_running_loop().create_future() for _ in range(40)]
    posting = (asyncio.to_thread(box.post, settle, answer, number) for number, answer in enumerate(answers))
    await asyncio.gather(*posting)
    assert await asyncio.gather(*answers) == list(range(40))


async def test_calls_that_were_joined_are_counted() -> None:
    """They have more time than one."""
    box = Mailbox(asyncio.get_running_loop())
    asked = [Asked((), box) for _ in range(5)]
    assert asked[0].calls == 1
    assert Joined(asked, box).calls == 5
    assert Batch(9, box).part(2, 7).calls == 5


async def test_one_letter_that_fails_holds_up_no_other() -> None:
    loop, told = asyncio.get_running_loop(), list[dict[str, Any]]()
    loop.set_exception_handler(lambda _, context: told.append(context))
    box, answer = Mailbox(loop), loop.create_future()
    box.post(lambda: 1 / 0)
    box.post(settle, answer, 3)
    assert await answer == 3
    assert isinstance(told[0]["exception"], ZeroDivisionError)
