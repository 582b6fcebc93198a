"""What is read from the text of a shader."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hybrid_compute.gpu import InvalidShader
from hybrid_compute.gpu.wgsl import Binding, Entry, Field, reflect, split, without_comments

SHADER = """
// @group(0) @binding(9) var<storage> nothing: array<f32>;
/* a /* nested */ comment, with // a line in it */ const WIDE: u32 = 64u;
alias Row = vec4<f32>;
struct Params { @align(16) a: f32, @size( WIDE ) @align(8u) b: vec2<f32>, n: u32, }
@group(0) @binding(1) var<storage, read_write> y : array< Row > ;
@binding(0) @group(0) var<storage> x: array<f32, 64>;
@group(0) @binding(2) var<uniform> params: Params;
var<workgroup> shared_row: array<f32, 64>;
fn helper(a: f32) -> f32 { return a; }
@compute @workgroup_size(WIDE, 2)
fn main(@builtin(global_invocation_id) id: vec3u) { y[id.x] = Row(helper(x[0])); }
@compute @workgroup_size(8)
fn other(@builtin(num_workgroups) count: vec3u) {}
"""


def test_what_a_shader_declares_is_found() -> None:
    """However it is written."""
    found = reflect(SHADER)
    assert found.bindings == (
        Binding(0, "x", "read", "array<f32,64>"),
        Binding(1, "y", "read_write", "array<vec4<f32>>"),
        Binding(2, "params", "uniform", "Params"),
    )
    assert found.structs == {
        "Params": (Field("a", "f32", align="16"), Field("b", "vec2<f32>", "8", "64"), Field("n", "u32"))
    }
    assert found.entries == {"main": Entry("main", (64, 2, 1), False), "other": Entry("other", (8, 1, 1), True)}


@pytest.mark.parametrize(
    ("shader", "why"),
    [
        ("@group(1) @binding(0) var<storage> x: array<f32>;", "line 1: x needs @group\\(0\\)"),
        ("\n@group(0) var<storage> x: array<f32>;", "line 2: x needs"),
        ("@group(0) @binding(0) var<private> x: f32;", "lies in private"),
        (
            "@group(0) @binding(0) var<storage> x: array<f32>; @group(0) @binding(0) var<storage> y: array<f32>;",
            "same @binding\\(0\\)",
        ),
        ("@compute fn main() {}", "main has no @workgroup_size"),
        ("@compute @workgroup_size(a * 2) fn main() {}", "write a number"),
    ],
)
def test_what_makes_no_sense_is_told(shader: str, why: str) -> None:
    with pytest.raises(InvalidShader, match=why):
        reflect(shader)


@given(st.lists(st.sampled_from(["/*", "*/", "//", "\n", "a", " ", "*", "/"])))
def test_without_comments_everything_stays_in_its_place(pieces: list[str]) -> None:
    """The same lines of the same length; of comments nothing is left, and of the rest everything."""
    text = "".join(pieces)
    bare = without_comments(text)
    assert [len(line) for line in bare.split("\n")] == [len(line) for line in text.split("\n")]
    assert all(after in (before, " ") for before, after in zip(text, bare, strict=True))
    assert without_comments(bare) == bare
    if "//" not in text and "/*" not in text:
        assert bare == text


def test_commas_in_brackets_part_nothing() -> None:
    assert split("a, array<f32, 4>, min(b, c), ") == ["a", "array<f32, 4>", "min(b, c)"]
