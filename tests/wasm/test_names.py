"""What a module says of itself, in messages: its names are of any length, and have any characters."""

import doctest

import pytest

from hybrid_compute.errors import InvalidInput
from hybrid_compute.wasm import Trap, WasmModule, names
from hybrid_compute.wasm.encoding import leb, section
from hybrid_compute.wasm.text import binary

RED = "\x1b[31m"


def named(name: str) -> WasmModule:
    """One whose only function traps, and is called this by the section of names."""
    source = binary('(module (func (export "f") unreachable))', "named")
    encoded = name.encode()
    functions = b"\1\0" + leb(len(encoded)) + encoded
    return WasmModule.from_bytes(source + section(0, b"\4name" + section(1, functions)), "named.wasm")


def test_the_example_is_right() -> None:
    assert doctest.testmod(names).failed == 0


@pytest.mark.parametrize(("name", "frame"), [("a" * 10_000, "a" * 100 + "..."), (RED, "\\x1b[31m"), ("ä→", "ä→")])
def test_names_in_backtraces_are_cut_and_plain(name: str, frame: str) -> None:
    with pytest.raises(Trap) as caught:
        named(name).task("f")()
    assert caught.value.frames[0].startswith(f"module!{frame} at 0x")
    assert len("".join(caught.value.__notes__)) < 300
    assert RED not in str(caught.value) + "".join(caught.value.__notes__)


def test_what_is_exported_is_told_in_part() -> None:
    functions = "".join(f'(func (export "f{number:03}"))' for number in range(100))
    module = WasmModule.from_wat(f'(module (func (export "a{RED}")) {functions})'.replace("\x1b", "\\1b"))
    with pytest.raises(InvalidInput, match=r"it has a\\x1b\[31m, f000, .* and 81 more$"):
        module.task("g")()


@pytest.mark.parametrize("kind", ["(func)", "(global i32)", "(memory 1)"])
def test_imports_are_shown_plain(kind: str) -> None:
    module = WasmModule.from_wat(f'(module (import "{"x" * 5000}\\1b" "{"y" * 5000}\\1b" {kind}) (func (export "f")))')
    with pytest.raises(InvalidInput) as caught:
        module.task("f")()
    assert "\x1b" not in str(caught.value)
    assert len(str(caught.value)) < 600


def test_what_wasmtime_says_is_cut(monkeypatch: pytest.MonkeyPatch) -> None:
    """Here two exports of one name, which it repeats."""
    twice = section(7, b"\2" + 2 * (leb(90_000) + b"\x1b" * 90_000 + b"\0\0"))
    source = binary("(module (func))", "twice")
    at = source.index(section(10, b"\1\2\0\x0b"))
    with pytest.raises(InvalidInput, match="duplicate export") as caught:
        WasmModule.from_bytes(source[:at] + twice + source[at:]).task("f")()
    assert len(str(caught.value)) < 10_000
    assert "\x1b" not in str(caught.value)
    assert caught.value.__cause__ is None
