"""What is declared is held against the shader, where the task is defined."""

import dataclasses
import pickle
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cloudpickle
import numpy as np
import psutil
import pytest

from hybrid_compute import gpu_task
from hybrid_compute.errors import InvalidInput
from hybrid_compute.gpu import InvalidShader, checking
from hybrid_compute.gpu.adapters import choose
from hybrid_compute.gpu.device import Device
from hybrid_compute.gpu.work import Kernel
from hybrid_compute.tasks import Task
from tests.gpu import shaders
from tests.gpu.test_device import run


def define(
    wgsl: str = shaders.ALONG,
    inputs: dict[str, str] | None = None,
    outputs: dict[str, str] | None = None,
    function: Callable[..., Any] | None = None,
    **options: Any,
) -> Task[..., Any]:
    def along(x: Any, slope: float, start: float) -> Any:
        return x

    made = gpu_task(wgsl=wgsl, inputs=inputs or {"x": "f32[n]"}, outputs=outputs or {"y": "f32[n]"}, **options)
    return made(function or along)


def with_n(x: Any, slope: float, start: float, n: int) -> Any:
    return x


def without_start(x: Any, slope: float) -> Any:
    return x


def with_more(x: Any, slope: float, start: float, more: float) -> Any:
    return x + more


NEGATIVE = """
@group(0) @binding(0) var<storage, read> x: array<f32>;
@group(0) @binding(1) var<storage, read_write> y: array<f32>;
@compute @workgroup_size(64)
fn main(@builtin(global_invocation_id) id: vec3u) { if (id.x < arrayLength(&x)) { y[id.x] = -x[id.x]; } }
"""


@pytest.mark.parametrize(
    ("changed", "why"),
    [
        ({"inputs": {"x": "i32[n]"}}, r"x is declared i32\[n\], and the shader has array<f32>"),
        ({"inputs": {"x": "f32[n]", "z": "f32[n]"}}, "z is declared, and the shader binds only line, x, y"),
        ({"inputs": {"x": "f32[n]"}, "outputs": {"x": "f32[n]"}}, "x is an output, and the shader has it as"),
        ({"inputs": {"x": "f32[n]", "y": "f32[n]"}, "outputs": {"x": "f32[n]"}}, "x is an output"),
        ({"wgsl": shaders.ALONG.replace("storage, read>", "storage, read_write>")}, "x is only an input"),
        ({"wgsl": shaders.ALONG.replace("@compute", "")}, "needs one @compute function"),
        ({"entry": "other"}, "has no entry point 'other', but main"),
        ({"function": without_start}, r"nothing gives Line\.start"),
        ({"function": with_more}, "nothing takes the parameter more: .* nor a member of Line"),
        (
            {"function": with_more, "wgsl": NEGATIVE},
            "nothing takes the parameter slope: .* nor a member of the uniform",
        ),
        ({"wgsl": shaders.ALONG.replace("struct Line", "struct Lane")}, "uniform line must be a struct, not Line"),
    ],
)
def test_what_disagrees_with_the_shader_is_told(changed: dict[str, Any], why: str) -> None:
    with pytest.raises(InvalidShader, match=why):
        define(**changed)


@pytest.mark.parametrize(
    ("changed", "why"),
    [
        ({"outputs": {"y": "f32[m]"}}, "m stands in a shape"),
        ({"workgroups": "k"}, "k stands in a shape"),
        ({"workgroups": (1, 2, 3, 4)}, "one to three directions"),
        ({"function": with_n}, "n is a parameter and a size"),
        ({"inputs": {"x": "f64[n]"}}, "'f64"),
        ({"outputs": {"y": "f32[2 * n]"}, "batchable": True}, "must begin with the same name"),
        ({"inputs": {"x": "f32[n]"}, "outputs": {"y": "f32[4]"}, "batchable": True}, "must begin with the same name"),
        ({"outputs": {"y": "f32[n, 2 * n]"}, "batchable": True}, "would grow with the number of calls, by n"),
        (
            {"wgsl": shaders.ALONG.replace("array<f32>", "array<f32, 64>"), "batchable": True},
            "the shader has x as array<f32,64>, of so many rows",
        ),
    ],
)
def test_what_makes_no_sense_is_told(changed: dict[str, Any], why: str) -> None:
    with pytest.raises(ValueError, match=why):
        define(**changed)


# The compiler.


@pytest.fixture
def compiler(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, device: Device) -> Path:
    """Nothing was looked at before; skipped where nobody can look at it."""
    monkeypatch.setenv("HYBRID_COMPUTE_CACHE", str(tmp_path))
    return tmp_path / "wgsl"


@pytest.mark.parametrize("device", ["direct"], indirect=True)
def test_a_shader_that_does_not_compile_is_told_with_its_place(compiler: Path) -> None:
    """Where it is defined, not where it is first called."""
    for _ in range(2):
        with pytest.raises(InvalidShader, match=r"the shader of along is refused at line 8, column \d+:") as caught:
            define(shaders.ALONG.replace("x[id.x] +", "x[id.y.z] +"))
        assert caught.value.line == 8
        assert caught.value.column > 40
    assert not compiler.exists()


@pytest.mark.parametrize("device", ["direct"], indirect=True)
def test_what_was_found_good_is_not_looked_at_again(compiler: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """By no process of this user."""
    define()
    assert len(list(compiler.iterdir())) == 1
    monkeypatch.setattr(checking, "fault", None)
    define()
    with pytest.raises(TypeError):
        define(shaders.ALONG + "// changed")


@pytest.mark.parametrize("device", ["direct"], indirect=True)
def test_it_leaves_no_process_behind(compiler: Path) -> None:
    """Neither one that runs nor one that has ended: others count their children."""
    before = psutil.Process().children(recursive=True)
    define()
    assert psutil.Process().children(recursive=True) == before


@pytest.mark.parametrize("device", ["direct"], indirect=True)
def test_what_this_gpu_cannot_do_is_no_fault_of_a_shader(device: Device, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nor is it found to be good: nobody here can tell."""
    found = choose()
    shader = "enable /* halves */ f16;\n@compute @workgroup_size(1) fn main() { let x = 1h; }"
    assert checking._compiler()("@compute @workgroup_size(1) fn main() { let x = 1; }", "main", []) == {"fault": ""}
    weaker = dataclasses.replace(found, features=found.features - {"shader-f16"})
    monkeypatch.setattr("hybrid_compute.gpu.adapters.choose", lambda: weaker)
    assert checking._compiler()(shader, "main", []) == {"fault": None}
    assert checking._compiler()(shader.replace("enable", "disable"), "main", [])["fault"]


@pytest.mark.parametrize("device", ["direct"], indirect=True)
def test_a_compiler_that_dies_has_found_no_fault(compiler: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nor that there is none: the next definition asks again."""
    with monkeypatch.context() as patched:
        patched.setattr(sys, "executable", "no such program")
        define()
    assert not compiler.exists()
    with pytest.raises(InvalidShader):
        define(shaders.ALONG.replace("line.slope", "line.slop"))


def test_who_cannot_compile_is_asked_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """By each process: an import of many tasks does not wait for each of them."""
    monkeypatch.setenv("HYBRID_COMPUTE_CACHE", str(tmp_path))
    monkeypatch.setattr(checking, "_nobody", [])
    asked: list[Any] = []

    def answer(*_: Any, input: str, **options: Any) -> subprocess.CompletedProcess[str]:
        asked.append(input)
        return subprocess.CompletedProcess([], 0, stdout='{"unknown": "no gpu adapter"}')

    monkeypatch.setattr(subprocess, "run", answer)
    for _ in range(3):
        define()
    assert len(asked) == 1


def test_where_nobody_can_compile_nothing_is_said() -> None:
    """The device will, when it first meets the shader."""
    program = (
        "import sys, importlib.metadata as m\n"
        "def version(name): raise m.PackageNotFoundError(name)\n"
        "m.version = version\n"
        "from tests.gpu.test_definition import define, shaders\n"
        "print(define(shaders.ALONG.replace('line.slope', 'line.slop')).name)"
    )
    said = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert said.stdout == "along\n"


def test_whatever_is_in_a_shader_reaches_the_compiler() -> None:
    told = checking.fault(Kernel("odd", "// \n \0 \u2028 'x' \"y\"", "main", []))
    assert told is None or told


def test_a_uniform_that_not_every_device_takes_is_refused() -> None:
    """Where it is defined: a device would say it of each call."""
    members = ", ".join(f"m{number}: vec4f" for number in range(4097))
    with pytest.raises(InvalidShader, match="Line has 65,568 bytes, and a uniform 65,536 at most"):
        define(shaders.ALONG.replace("n: u32", f"n: u32, {members}").replace("slope: f32, start: f32, ", ""))


# What a definition makes of a call.


@dataclass
class Line:
    slope: float
    start: float
    n: int


@pytest.mark.parametrize("line", [Line(2.0, 1.0, 10), {"slope": 2.0, "start": 1.0, "n": 10}])
def test_a_record_may_be_given_whole(device: Device, line: object) -> None:
    """A dataclass, or anything with what the struct has."""

    def along(x: Any, line: Line) -> Any:
        return x

    x = np.arange(10, dtype=np.float32)
    np.testing.assert_array_equal(run(device, define(function=along), x, line), 2 * x + 1)
    with pytest.raises(InvalidInput, match="line must have what Line has"):
        run(device, define(function=along), x, {"slope": 1.0})


def test_a_shader_may_be_written_in_any_way(device: Device) -> None:
    """That compiles: numbers by other names, which functions use for something else, and a struct of what is given."""

    def negative(x: Any) -> Any:
        return -x

    task = define(
        """
        const size = 2 * 4; const ONE = size / 8;
        struct Given { @builtin(global_invocation_id) id: vec3u, @builtin(num_workgroups) groups: vec3u }
        fn other() -> u32 { const size = 64; return size; }
        @group(0u) @binding(0u) var<storage, read> x: array<f32>;
        @group(ONE - 1) @binding(ONE) var<storage, read_write> y: array<f32>;
        @compute @workgroup_size((size))
        fn main(given: Given) {
            for (var i = given.id.x; i < arrayLength(&x); i += given.groups.x * size) { y[i] = -x[i]; }
        }""",
        function=negative,
    )
    for count in (100, 8 * 65_536):
        x = np.arange(count, dtype=np.float32)
        np.testing.assert_array_equal(run(device, task, x), -x)


def test_a_mask_is_not_passed_over(device: Device) -> None:
    """No gpu sees it, so it would compute with what is masked; any other array of numpy is taken as it is."""
    x = np.arange(4, dtype=np.float32)
    masked = np.ma.masked_greater(x, 2)
    with pytest.raises(InvalidInput, match=r"x must be an array of float32, not a masked array, .* filled\(\.\.\.\)"):
        run(device, shaders.along, masked, 2.0, 1.0)
    np.testing.assert_array_equal(run(device, shaders.along, masked.filled(0), 2.0, 1.0), [1, 3, 5, 1])
    np.testing.assert_array_equal(run(device, shaders.along, x.view(np.recarray), 2.0, 1.0), 2 * x + 1)


@pytest.mark.parametrize("slope", ["2", None, [1.0]])
def test_a_parameter_that_is_no_number_is_refused(device: Device, slope: object) -> None:
    with pytest.raises(InvalidInput, match="slope is a f32"):
        run(device, shaders.along, np.zeros(3, np.float32), slope, 1.0)


def test_it_travels_with_its_twin() -> None:
    """To a worker, where the twin runs: by its name where that can be found, else as it is."""
    assert pickle.loads(pickle.dumps(shaders.along)) is shaders.along
    there = pickle.loads(cloudpickle.dumps(define()))
    np.testing.assert_array_equal(there(np.ones(3, np.float32), 2.0, 1.0), np.ones(3))
