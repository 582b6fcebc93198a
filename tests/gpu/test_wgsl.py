"""What is read from the text of a shader."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hybrid_compute.gpu import InvalidShader
from hybrid_compute.gpu.declarations import split, without_comments
from hybrid_compute.gpu.wgsl import Binding, Entry, Field, reflect

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
        ("@compute @workgroup_size(0) fn main() {}", "@workgroup_size of 0, 1, 1 has no invocations"),
        ("\n\n@compute\n@workgroup_size(a * 2) fn main() {}", r"line 3: @workgroup_size\(a \* 2\) .* 'a' is no const"),
        ("@compute @workgroup_size(1 << 6) fn main() {}", r"line 1: @workgroup_size\(1 << 6\) is not understood"),
        ("@group(0) @binding(1.5) var<storage> x: array<f32>;", r"line 1: @binding\(1.5\) is not understood"),
        ("@group(0) @binding() var<storage> x: array<f32>;", "line 1: x needs"),
        ("@group(0) @binding(0) var image: texture_2d<f32>;", "image is bound, and lies in no buffer"),
    ],
)
def test_what_makes_no_sense_is_told(shader: str, why: str) -> None:
    with pytest.raises(InvalidShader, match=why):
        reflect(shader)


def test_a_fault_has_its_line() -> None:
    """For who shows it beside the text."""
    with pytest.raises(InvalidShader) as caught:
        reflect("// \n\n@compute fn main() {}")
    assert caught.value.line == 3


@pytest.mark.parametrize(
    ("size", "meant"),
    [
        ("(32)", 32),
        ("2 * 16u", 32),
        ("0x20u", 32),
        ("((ONE + 3) * EIGHT)", 32),
        ("EIGHT,\nONE", 8),
        ("LATER", 9),
        ("10 - 2 - 1", 7),
        ("1 + 17 % 10 / 2i", 4),
        ("5 - -3", 8),
        ("in", 3),
    ],
)
def test_attributes_are_reckoned(size: str, meant: int) -> None:
    """From consts that are declared before or after, whatever is between the brackets."""
    found = reflect(f"""
        const EIGHT: u32 = 2u * (ONE + 3); const LATER = EIGHT + 1; const ONE = 1i; const pi = 3.14; const in = 3;
        @ group(ONE - 1) @binding(ONE) var<storage> x: array<f32, EIGHT * 2>;
        @group(0u) @binding(0x0u) var<storage> y: array<f32 ,>;
        @compute @workgroup_size({size}) fn main() {{ }}""")
    assert found.bindings == (Binding(0, "y", "read", "array<f32>"), Binding(1, "x", "read", "array<f32,16>"))
    assert found.entries["main"].workgroup[0] == meant


def test_a_const_that_needs_itself_has_no_value() -> None:
    with pytest.raises(InvalidShader, match="is not understood"):
        reflect("const a = b; const b = a + 1; @compute @workgroup_size(a) fn main() {}")


def test_what_is_within_a_function_declares_nothing() -> None:
    """Its names hide those of the module there, and nowhere else."""
    found = reflect("""
        const size = 8;
        fn before() -> u32 { const size = 64; { const size = 128; } return size; }
        @compute @workgroup_size(size) fn main() { const size = 256; }
        fn after() -> u32 { const size = 512; return size; }""")
    assert found.entries["main"].workgroup == (8, 1, 1)


@pytest.mark.parametrize(
    ("parameters", "counts"),
    [
        ("given: Given", True),
        ("@builtin(local_invocation_index) lane: u32, given: Alias", True),
        ("@builtin(num_workgroups,) groups: vec3u", True),
        ("Given: Other", False),
        ("@builtin(local_invocation_index) num_workgroups: u32", False),
        ("", False),
    ],
)
def test_workgroups_may_be_counted_in_a_struct(parameters: str, counts: bool) -> None:
    found = reflect(f"""
        struct Given {{ @builtin(global_invocation_id) id: vec3u, @builtin( num_workgroups ) groups: vec3u }}
        struct Other {{ @builtin(global_invocation_id) num_workgroups: vec3u }}
        alias Alias = Given;
        @compute @workgroup_size(8) fn main({parameters}) {{}}""")
    assert found.entries["main"].counts_workgroups == counts


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
