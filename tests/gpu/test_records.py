"""The bytes of a uniform."""

import struct

import pytest

from hybrid_compute.errors import InvalidInput
from hybrid_compute.gpu import InvalidShader
from hybrid_compute.gpu.records import Record


def test_members_lie_where_the_standard_says() -> None:
    """The example of the standard, https://www.w3.org/TR/WGSL/#structure-member-layout, as far as it has numbers."""
    record = Record.of(
        "A", (("u", "f32"), ("v", "f32"), ("w", "vec2<f32>"), ("x", "f32"), ("y", "vec3f"), ("z", "f16"))
    )
    assert {member.name: member.offset for member in record.members} == {
        "u": 0, "v": 4, "w": 8, "x": 16, "y": 32, "z": 44,
    }  # fmt: skip
    assert record.size == 48
    packed = record.pack({"u": 1, "v": 2.5, "w": (3, 4), "x": 5, "y": [6, 7, 8], "z": 0.5})
    assert packed == struct.pack("<ffffI", 1, 2.5, 3, 4, 0x40A00000) + bytes(12) + struct.pack("<fffexx", 6, 7, 8, 0.5)


@pytest.mark.parametrize("value", [-1, 1 << 32, 1.5, "1", None, (1, 2)])
def test_what_does_not_fit_a_member_is_refused(value: object) -> None:
    with pytest.raises(InvalidInput, match="n is a u32"):
        Record.of("A", (("n", "u32"),)).pack({"n": value})


@pytest.mark.parametrize("kind", ["bool", "array<f32,4>", "mat4x4<f32>", "vec5<f32>", "Other", "vec3<bool>"])
def test_a_uniform_has_numbers(kind: str) -> None:
    with pytest.raises(InvalidShader, match=r"A\.m is a"):
        Record.of("A", (("m", kind),))
