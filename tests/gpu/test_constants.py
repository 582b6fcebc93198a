"""Tables of plans are sent once, and are there as long as there is room; nobody waits for room because of them."""

from typing import Any

import numpy as np
import pytest

from hybrid_compute.errors import InvalidInput, LimitExceeded
from hybrid_compute.gpu import constants, ops
from hybrid_compute.gpu.constants import Constants
from hybrid_compute.gpu.device import Device
from hybrid_compute.gpu.replies import Waiting
from hybrid_compute.gpu.work import Kernel, Work
from tests.faults.watching import wait_until
from tests.gpu import shaders
from tests.gpu.test_device import close, floats, on, opened, result, told, work


@pytest.fixture
def sent(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """The constants that were sent to any device."""
    found: list[Any] = []
    find = Constants.find

    def listening(self: Constants, array: Any, nbytes: int) -> Any:
        buffer, new = find(self, array, nbytes)
        if new:
            found.append(array)
        return buffer, new

    monkeypatch.setattr(Constants, "find", listening)
    return found


def transform(device: Device, x: Any) -> Work:
    function: Any = ops.fft.fn
    made: Work = function.work(function.positional((x,), {}), device.facts, Waiting())
    return made


def check(device: Device, length: int = 64, rows: int = 3) -> None:
    x = floats(2 * rows * length).reshape(rows, length, 2)
    asked = transform(device, x)
    device.submit([asked])
    np.testing.assert_allclose(result(asked), ops.fft(x), atol=1e-3)


def test_they_are_sent_once(sent: list[Any]) -> None:
    """However many calls there are, and whatever else their shapes are; all of it is in the ledger."""
    device = opened()
    assert device.constants is not None
    for rows in (1, 3, 3, 7):
        check(device, 2048, rows)
    assert len(sent) == 2  # the fine roots and the coarse ones
    assert device.constants.nbytes == sum(max(256, each.nbytes) for each in sent)
    together = [transform(device, floats(128).reshape(1, 64, 2)) for _ in range(5)]
    device.submit(together)
    told(together)
    assert len(sent) == 3
    with pytest.raises(ValueError, match="read-only"):
        sent[0][0] = 1
    close(device)


def test_a_recording_has_them_too(device: Device, sent: list[Any]) -> None:
    from tests.gpu.test_sharing import play, recording

    x = floats(2 * 512).reshape(512, 2)
    with recording(device) as g:
        g.returns(ops.fft(ops.fft(g.input("x", x.shape)), True))
    for _ in range(3):
        np.testing.assert_allclose(play(device, g, x), x, atol=1e-5)
    assert len(sent) == 2


def test_there_are_so_many_and_no_more(monkeypatch: pytest.MonkeyPatch, sent: list[Any]) -> None:
    """Those that are used stay; the others are sent again when they are needed."""
    monkeypatch.setattr(constants, "MOST", 2048)
    device = opened()
    assert device.constants is not None
    for length in (16, 32, 64, 32, 16, 128, 256):
        check(device, length)
        assert device.constants.nbytes <= 2048
    assert len(sent) == 5
    check(device, 16)
    assert len(sent) == 6
    check(device, 4096)  # which has more than that by itself
    assert device.constants.nbytes <= 2048
    close(device)


def test_they_make_room_for_others(sent: list[Any]) -> None:
    """Whoever asks for memory gets what they have; and they are back when they are needed and there is room again."""
    device = opened(memory=1 << 20)
    assert device.constants is not None
    check(device, 1024, 1)
    check(device, 512, 1)
    assert device.constants.nbytes == 12 << 10
    kept = []
    with pytest.raises(LimitExceeded):
        while True:
            kept.append(on(device, floats(1000)))
    assert device.constants.nbytes == 0
    del kept[-8:]
    check(device, 512, 1)
    assert len(sent) == 3
    close(device)


def test_at_rest_there_are_none() -> None:
    device = opened()
    memory = device.memory
    assert memory is not None
    check(device)
    device.rest()
    wait_until(lambda: not memory.used)
    check(device)
    close(device)


def test_a_frame_that_fails_has_not_sent_them(device: Device) -> None:
    """They are there for the others, who are tried again."""
    bad = work(device, shaders.along, floats(100), 2.0, 1.0)
    wants = shaders.ALONG.replace("x: array<f32>", "x: array<f32, 5000>")
    for step in bad.steps:
        step.kernel = Kernel("wants", wants, "main", [(0, "read"), (1, "read_write"), (2, "uniform")])
    x = floats(256).reshape(128, 2)
    asked = [transform(device, x), bad, transform(device, x)]
    device.submit(asked)
    first, refused, last = told(asked)
    assert isinstance(refused, InvalidInput)
    for found in (first, last):
        np.testing.assert_allclose(found, ops.fft(x), atol=1e-3)
