"""Shaders from small pieces of text: everything round about the lines that compute.

The lines that compute find `group`, the number of their workgroup, in one row whatever the device's limits; `lane`,
their place in it; and `p`, the numbers of the call. Where there are subgroups, `subgroup`, `subgroups` and `sublane`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from hybrid_compute.gpu.wgsl import Access
from hybrid_compute.gpu.work import Kernel

SCALARS = {"float32": "f32", "float16": "f16", "int32": "i32", "uint32": "u32"}
"""What WGSL calls the dtypes of numpy."""
WIDE = {"float32": "f32", "float16": "f32", "int32": "i32", "uint32": "u32"}
"""What is computed with: halves are computed as floats, and rounded when they are stored."""
FLOATS = ("float32", "float16")
LANES = 256
"""Invocations in a workgroup; every device has as many."""


@dataclass(frozen=True, slots=True, eq=False)
class Shader:
    """A kernel, and how its numbers are packed."""

    kernel: Kernel
    format: str


def shader(
    name: str,
    *,
    reads: Mapping[str, str] | None = None,
    writes: Mapping[str, str],
    numbers: Sequence[str] = (),
    floats: Sequence[str] = (),
    body: str,
    declare: str = "",
    lanes: int = LANES,
    subgroups: bool = False,
) -> Shader:
    """A shader with these arrays (name: element type), and these numbers of u32 and f32, in this order.

    Call it in a cached function: kernels are told apart by identity.
    """
    arrays = [(each, kind, "read") for each, kind in (reads or {}).items()]
    arrays += [(each, kind, "read_write") for each, kind in writes.items()]
    members = [*(f"{each}: u32" for each in numbers), *(f"{each}: f32" for each in floats)] or ["unused: u32"]
    lines = ["enable f16;"] if any("f16" in kind for _, kind, _ in arrays) else []
    lines.append(f"struct Numbers {{ {', '.join(members)} }}")
    for number, (each, kind, access) in enumerate(arrays):
        lines.append(f"@group(0) @binding({number}) var<storage, {access}> {each}: array<{kind}>;")
    lines.append(f"@group(0) @binding({len(arrays)}) var<uniform> p: Numbers;")
    lines += [declare, f"@compute @workgroup_size({lanes})", f"fn main({', '.join(_builtins(subgroups))}) {{"]
    lines += ["let group = workgroup.y * groups.x + workgroup.x;", body, "}"]
    bindings: list[tuple[int, Access]] = [
        (number, "read" if access == "read" else "read_write") for number, (_, _, access) in enumerate(arrays)
    ]
    kernel = Kernel(name, "\n".join(lines), "main", [*bindings, (len(arrays), "uniform")])
    return Shader(kernel, f"<{len(numbers)}I{len(floats)}f")


def _builtins(subgroups: bool) -> list[str]:
    names = {
        "workgroup: vec3u": "workgroup_id",
        "groups: vec3u": "num_workgroups",
        "lane: u32": "local_invocation_index",
    }
    if subgroups:
        names |= {"subgroup: u32": "subgroup_id", "subgroups: u32": "num_subgroups"}
        names |= {"sublane: u32": "subgroup_invocation_id"}
    return [f"@builtin({builtin}) {name}" for name, builtin in names.items()]


_TOGETHER = {"sum": ("subgroupAdd", "{0} + {1}"), "max": ("subgroupMax", "max({0}, {1})"),
             "min": ("subgroupMin", "min({0}, {1})")}  # fmt: skip


def together(variable: str, how: str, *, shared: str, subgroups: bool, lanes: int = LANES) -> str:
    """Lines after which `variable` is the sum, maximum or minimum of what it was in all lanes.

    All lanes must come here. `shared` is an array in the workgroup's memory with an element for each lane.
    """
    function, formula = _TOGETHER[how]
    if subgroups:
        return f"""
            {variable} = {function}({variable});
            if (sublane == 0u) {{ {shared}[subgroup] = {variable}; }}
            workgroupBarrier();
            {variable} = {shared}[0];
            for (var other = 1u; other < subgroups; other++) {{
                {variable} = {formula.format(variable, f"{shared}[other]")};
            }}
            workgroupBarrier();
        """
    lines = [f"{shared}[lane] = {variable};", "workgroupBarrier();"]
    half = lanes // 2
    while half:
        joined = formula.format(f"{shared}[lane]", f"{shared}[lane + {half}u]")
        lines += [f"if (lane < {half}u) {{ {shared}[lane] = {joined}; }}", "workgroupBarrier();"]
        half //= 2
    return "\n".join([*lines, f"{variable} = {shared}[0];", "workgroupBarrier();"])


KEYS = """
fn key_of_float(value: f32) -> u32 {
    let bits = bitcast<u32>(value);
    if ((bits & 0x7fffffffu) > 0x7f800000u) { return 0xffffffffu; }
    return select(bits | 0x80000000u, ~bits, bits > 0x80000000u);
}
fn float_of_key(key: u32) -> f32 { return bitcast<f32>(select(~key, key & 0x7fffffffu, key >= 0x80000000u)); }
fn turned(key: u32) -> u32 { return select(~key, key, key == 0xffffffffu); }
"""
"""Whole numbers in the order of floats. Not-a-number is above all, and there is one zero. `turned`, they are in the
opposite order, with not-a-number still above all.

So floats are compared alike everywhere; what a driver makes of not-a-number as a float is its own affair:
https://www.w3.org/TR/WGSL/#floating-point-evaluation.
"""


def key_of(dtype: str, value: str) -> str:
    """The key of a value: a u32 that is in the same order."""
    return {
        "float32": f"key_of_float({value})",
        "float16": f"key_of_float(f32({value}))",
        "int32": f"(bitcast<u32>({value}) ^ 0x80000000u)",
        "uint32": value,
    }[dtype]


def of_key(dtype: str, key: str) -> str:
    """The value that has this key."""
    return {
        "float32": f"float_of_key({key})",
        "float16": f"f16(float_of_key({key}))",
        "int32": f"bitcast<i32>({key} ^ 0x80000000u)",
        "uint32": key,
    }[dtype]
