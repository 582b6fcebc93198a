"""What is kept of a run on a gpu, and what is not."""

from __future__ import annotations

import pytest

from benchmarks.gpu_results import TESTS, counts, described, file_name, why_not
from hybrid_compute.gpu.adapters import Adapter, Kind

XML = """<testsuites><testsuite tests="5">
<testcase classname="tests.gpu.test_a" name="test_it" />
<testcase classname="tests.gpu.test_a" name="test_that[1]"><failure message="no">no</failure></testcase>
<testcase classname="tests.gpu.test_a" name="test_other"><skipped message="none">none</skipped></testcase>
<testcase classname="tests.gpu.test_b" name="test_one"><error message="no">no</error></testcase>
<testcase classname="tests.gpu.test_b" name="test_two" />
</testsuite></testsuites>"""


def adapter(name: str, kind: Kind) -> Adapter:
    return Adapter(name, kind, "Vulkan", "1.0", frozenset({"subgroup", "shader-f16"}), wgpu=None)


def test_tests_are_counted_and_those_that_failed_are_named() -> None:
    failed = ["tests.gpu.test_a.test_that[1]", "tests.gpu.test_b.test_one"]
    assert counts(XML) == {"passed": 2, "skipped": 1, "failed": failed}


@pytest.mark.parametrize(
    ("name", "file"),
    [
        ("NVIDIA H100 80GB HBM3", "nvidia-h100-80gb-hbm3.json"),
        ("llvmpipe (LLVM 15.0.6, 256 bits)", "llvmpipe-llvm-15-0-6-256-bits.json"),
    ],
)
def test_a_file_is_called_as_the_device(name: str, file: str) -> None:
    assert file_name(name) == file


def test_what_computes_on_the_processor_is_refused_unless_asked_for() -> None:
    assert "the only adapter is llvmpipe (software, Vulkan, 1.0)" in why_not(
        adapter("llvmpipe", "software"), software=False
    )
    assert why_not(adapter("llvmpipe", "software"), software=True) == ""
    assert why_not(adapter("a card", "discrete"), software=False) == ""


def test_the_adapter_is_told_as_plain_values() -> None:
    assert described(adapter("a card", "discrete")) == {
        "name": "a card",
        "kind": "discrete",
        "api": "Vulkan",
        "driver": "1.0",
        "features": ["shader-f16", "subgroup"],
    }


def test_all_tests_of_the_gpu_are_run() -> None:
    assert {"tests/gpu", "tests/shared", "tests/backends/test_gpu.py", "tests/backends/test_gpu_contract.py"} <= set(
        TESTS
    )
