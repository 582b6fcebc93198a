"""What lies between the steps of a recording shares memory, and nobody notices."""

import itertools
from collections.abc import Sequence
from typing import Any

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from hybrid_compute import gpu_task
from hybrid_compute.gpu import ops
from hybrid_compute.gpu.device import Device
from hybrid_compute.gpu.memory import rounded
from hybrid_compute.gpu.recording import Recording
from hybrid_compute.gpu.sharing import Life, Sharing
from tests.gpu import shaders
from tests.gpu.test_device import Waiting, close, floats, opened, result

lives = st.builds(
    lambda first, length, nbytes: Life(first, first + length, nbytes),
    st.integers(0, 30),
    st.integers(0, 10),
    st.integers(4, 1 << 20),
)


@given(st.lists(lives, max_size=40))
def test_none_shares_with_another_that_is_needed_at_the_same_time(lives: Sequence[Life]) -> None:
    """Each fits into its piece, and there are no more pieces than arrays that are needed at once."""
    sharing = Sharing.of(lives)
    placed = list(zip(lives, sharing.piece, strict=True))
    for (one, piece), (other, same) in itertools.combinations(placed, 2):
        if one.first <= other.last and other.first <= one.last:
            assert piece != same
    for life, piece in placed:
        assert life.nbytes <= sharing.sizes[piece]
    assert len(sharing.sizes) == max(sum(each.first <= at <= each.last for each in lives) for at in range(41))
    assert sum(sharing.sizes) <= sum(each.nbytes for each in lives)


def test_a_chain_of_ten_takes_the_memory_of_two() -> None:
    """What one step leaves to the next; all of it is there again when the next playing begins."""
    device = opened()
    assert device.memory is not None
    x = floats(100_000)
    with recording(device) as g:
        y: Any = g.input("x", x.shape)
        for number in range(10):
            y = ops.scale(y, 1.5) if number % 2 else shaders.along(y, 0.5)
        g.returns(y)
    played = [play(device, g, x) for _ in range(3)]
    expected = x
    for number in range(10):
        expected = ops.scale(expected, 1.5) if number % 2 else shaders.along(expected, 0.5)
    for each in played:
        np.testing.assert_allclose(each, expected, rtol=1e-5)
    assert device.memory.free == 2 * rounded(x.nbytes)
    close(device)


@gpu_task(
    wgsl="""
    @group(0) @binding(0) var<storage, read> x: array<f32>;
    @group(0) @binding(1) var<storage, read> y: array<f32>;
    @group(0) @binding(2) var<storage, read_write> z: array<f32>;
    @compute @workgroup_size(64)
    fn main(@builtin(global_invocation_id) id: vec3u) {
        if (id.x < arrayLength(&z) && id.x % 2 == 0) { z[id.x] = (x[id.x] + y[id.x]) * 0.5; }
    }
    """,
    inputs={"x": "f32[n]", "y": "f32[n]"},
    outputs={"z": "f32[n]"},
)
def halves(x: shaders.Floats, y: shaders.Floats) -> shaders.Floats:
    """Writes every other element, and leaves the zeros of the others."""
    return np.where(np.arange(len(x)) % 2 == 0, (x + y) * np.float32(0.5), np.float32(0))


@given(
    pairs=st.lists(st.tuples(st.integers(0, 99), st.integers(0, 99), st.booleans()), min_size=1, max_size=12),
    out=st.lists(st.integers(0, 99), min_size=1, max_size=4),
    stay=st.booleans(),
)
@settings(max_examples=40)
def test_whatever_is_recorded_gives_what_the_twins_do(
    device: Device, pairs: list[tuple[int, int, bool]], out: list[int], stay: bool
) -> None:
    """However its arrays are read again later, come out, or are never read at all; each time it is played."""
    x = floats(200)
    made: list[Any] = [x]
    with recording(device) as g:
        symbols: list[Any] = [g.input("x", x.shape)]
        for one, other, whole in pairs:
            task = ops.add if whole else halves
            given_to = one % len(made), other % len(made)
            symbols.append(task(*(symbols[each] for each in given_to)))
            made.append(task(*(made[each] for each in given_to)))
        chosen = sorted({1 + each % (len(made) - 1) for each in out})
        g.returns(*(symbols[each] for each in chosen), stay=stay)
    for _ in range(2):
        found = play(device, g, x)
        for each, got in zip(chosen, found if len(chosen) > 1 else [found], strict=True):
            np.testing.assert_allclose(np.asarray(got), made[each], rtol=1e-5)


def recording(device: Device) -> Recording:
    assert device.facts is not None
    return Recording(device.facts, lambda work: device.submit([work]))


def play(device: Device, recording: Recording, x: Any) -> Any:
    asked = recording.work({"x": x}, Waiting())
    device.submit([asked])
    return result(asked)
