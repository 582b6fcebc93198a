"""The bytes of a uniform."""

import struct
from collections.abc import Sequence

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hybrid_compute.errors import InvalidInput
from hybrid_compute.gpu import InvalidShader
from hybrid_compute.gpu.device import Device
from hybrid_compute.gpu.records import Record
from hybrid_compute.gpu.replies import Waiting
from hybrid_compute.gpu.wgsl import Field, reflect
from hybrid_compute.gpu.work import Kernel, Output, Step, Uniform, Work


def test_members_lie_where_the_standard_says() -> None:
    """The example of the standard, https://www.w3.org/TR/WGSL/#structure-member-layout, as far as it has numbers."""
    kinds = {"u": "f32", "v": "f32", "w": "vec2<f32>", "x": "f32", "y": "vec3f", "z": "f16"}
    record = Record.of("A", [Field(*each) for each in kinds.items()])
    assert {member.name: member.offset for member in record.members} == {
        "u": 0, "v": 4, "w": 8, "x": 16, "y": 32, "z": 44,
    }  # fmt: skip
    assert record.size == 48
    packed = record.pack({"u": 1, "v": 2.5, "w": (3, 4), "x": 5, "y": [6, 7, 8], "z": 0.5})
    assert packed == struct.pack("<ffffI", 1, 2.5, 3, 4, 0x40A00000) + bytes(12) + struct.pack("<fffexx", 6, 7, 8, 0.5)


@pytest.mark.parametrize("value", [-1, 1 << 32, 1.5, "1", None, (1, 2)])
def test_what_does_not_fit_a_member_is_refused(value: object) -> None:
    with pytest.raises(InvalidInput, match="n is a u32"):
        Record.of("A", [Field("n", "u32")]).pack({"n": value})


@pytest.mark.parametrize("kind", ["bool", "array<f32,4>", "mat4x4<f32>", "vec5<f32>", "Other", "vec3<bool>"])
def test_a_uniform_has_numbers(kind: str) -> None:
    with pytest.raises(InvalidShader, match=r"A\.m is a"):
        Record.of("A", [Field("m", kind)])


@pytest.mark.parametrize(
    ("field", "why"),
    [
        (Field("m", "f32", align="12"), r"A\.m: @align\(12\) must be a power of two, and a f32 needs 4"),
        (Field("m", "vec3f", align="8"), r"@align\(8\) must be .* a vec3f needs 16"),
        (Field("m", "f32", align="0"), r"@align\(0\)"),
        (Field("m", "vec2f", size="7"), r"@size\(7\) is too little: a vec2f has 8 bytes"),
        (Field("m", "f32", size="2 * 8"), r"A\.m: 2 \* 8 is not understood"),
    ],
)
def test_what_a_member_cannot_have_is_refused(field: Field, why: str) -> None:
    with pytest.raises(InvalidShader, match=why):
        Record.of("A", [field])


COUNTS = {"f32": 1, "u32": 1, "vec2<i32>": 2, "vec3f": 3, "vec4u": 4}
LEAST = {"f32": 4, "u32": 4, "vec2<i32>": 8, "vec3f": 16, "vec4u": 16}


@st.composite
def members(draw: st.DrawFn) -> tuple[str, str, str]:
    """A type, and perhaps an alignment and a size that it may have."""
    kind = draw(st.sampled_from(sorted(COUNTS)))
    align = draw(st.sampled_from(["", *(str(LEAST[kind] << shift) for shift in range(4))]))
    size = draw(st.just("") | st.integers(4 * COUNTS[kind], 80).map(str))
    return kind, align, size


@given(chosen=st.lists(members(), min_size=1, max_size=6))
@settings(max_examples=40)
def test_a_device_finds_every_member_where_it_was_put(device: Device, chosen: Sequence[tuple[str, str, str]]) -> None:
    """A shader copies them out, whatever is said of their alignments and sizes."""
    fields = [Field(f"m{at}", *each) for at, each in enumerate(chosen)]
    numbers = iter(range(1, 100))
    values = {field.name: [next(numbers) for _ in range(COUNTS[field.type])] for field in fields}
    shader = _copying(fields)
    packed = Record.of("A", reflect(shader).structs["A"]).pack(
        {name: each[0] if len(each) == 1 else each for name, each in values.items()}
    )
    record = Uniform(packed)
    place = Output((sum(map(len, values.values())),), "float32", 4 * sum(map(len, values.values())))
    kernel = Kernel("copy", shader, "main", [(0, "read_write"), (1, "uniform")])
    asked = Work([Step(kernel, [place, record], (1, 1, 1))], [place, record], [place], reply := Waiting())
    device.submit([asked])
    assert reply.future.result(30).tolist() == [number for each in values.values() for number in each]


def _copying(fields: Sequence[Field]) -> str:
    declared = "".join(f"{_said(field)} {field.name}: {field.type}, " for field in fields)
    parts = [
        f"a.{field.name}" + (f"[{at}]" if COUNTS[field.type] > 1 else "")
        for field in fields
        for at in range(COUNTS[field.type])
    ]
    copies = "".join(f"y[{at}] = f32({part}); " for at, part in enumerate(parts))
    return f"""
        struct A {{ {declared} }}
        @group(0) @binding(0) var<storage, read_write> y: array<f32>;
        @group(0) @binding(1) var<uniform> a: A;
        @compute @workgroup_size(1) fn main() {{ {copies} }}"""


def _said(field: Field) -> str:
    return (f"@align({field.align}) " if field.align else "") + (f"@size({field.size})" if field.size else "")
