"""The bytes of what a shader reads as one."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hybrid_compute.gpu.device import Device
from hybrid_compute.gpu.layouts import Layout
from hybrid_compute.gpu.replies import Waiting
from hybrid_compute.gpu.wgsl import Field, reflect
from hybrid_compute.gpu.work import Kernel, Output, Step, Upload, Work

KINDS = [
    *("f32", "u32", "atomic<u32>", "vec2<i32>", "vec3f", "vec4u", "array<vec3f, 2 * TWO>", "array<f32, 3>", "Inner"),
    *(f"mat{columns}x{rows}f" for columns in (2, 3, 4) for rows in (2, 3, 4)),
    "mat2x3<f32>",
]
INNER = "const TWO = 2; struct Inner { @size(TWO * 6) a: f32, @align(16 / TWO) b: u32 }"


@given(kinds=st.lists(st.sampled_from(KINDS), min_size=1, max_size=5))
@settings(max_examples=40)
def test_a_device_finds_as_many_as_there_are(device: Device, kinds: Sequence[str]) -> None:
    """Of structs with such members: for it they have the bytes that they have here."""
    members = ", ".join(f"m{number}: {kind}" for number, kind in enumerate(kinds))
    shader = f"""
        {INNER}
        struct Outer {{ {members} }}
        @group(0) @binding(0) var<storage, read_write> y: array<u32>;
        @group(0) @binding(1) var<storage, read_write> x: array<Outer>;
        @compute @workgroup_size(1) fn main() {{ y[0] = arrayLength(&x); }}"""
    layout = Layout.of("Outer", reflect(shader).structs)
    assert layout is not None
    assert layout.stride == layout.size
    assert layout.size % layout.align == 0
    assert _count(device, shader, 1000 * layout.stride) == 1000
    assert _count(device, shader, 1000 * layout.stride - 4) == 999


def _count(device: Device, shader: str, nbytes: int) -> int:
    array: Any = np.zeros(nbytes // 4, np.uint32)
    there, found = Upload(array, nbytes), Output((1,), "uint32", 4)
    kernel = Kernel("count", shader, "main", [(0, "read_write"), (1, "read_write")])
    device.submit([Work([Step(kernel, [found, there], (1, 1, 1))], [found, there], [found], reply := Waiting())])
    return int(reply.future.result(30)[0])


@pytest.mark.parametrize(
    ("kind", "layout"),
    [
        ("f16", Layout(2, 2, "f16")),
        ("vec3h", Layout(8, 6, "f16")),
        ("mat3x3h", Layout(8, 24, "f16")),
        ("mat4x2<f16>", Layout(4, 16, "f16")),
        ("array<vec3f,2>", Layout(16, 32, "f32")),
        ("array<array<u32,3>,2>", Layout(4, 24, "u32")),
        ("Mixed", Layout(4, 8)),
    ],
)
def test_types_lie_where_the_standard_says(kind: str, layout: Layout) -> None:
    """Also those that not every device has."""
    assert Layout.of(kind, {"Mixed": [Field("a", "f16"), Field("b", "f32")]}) == layout


@pytest.mark.parametrize("kind", ["array<f32>", "bool", "vec2<bool>", "Other", "Odd", "Itself", "array<f32,COUNT>"])
def test_what_only_the_compiler_knows_has_none(kind: str) -> None:
    structs = {"Odd": [Field("a", "f32", size="1 << 4")], "Itself": [Field("a", "Itself")]}
    assert Layout.of(kind, structs) is None
