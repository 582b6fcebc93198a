"""Imports point downwards: a module knows its own floor and those below, and never the package root.

Every import counts, also inside a function or under `if TYPE_CHECKING`: it tells what a module must know.
"""

import ast
from collections.abc import Container, Iterator
from graphlib import CycleError, TopologicalSorter
from importlib.util import resolve_name
from pathlib import Path
from textwrap import dedent
from typing import NamedTuple

import pytest

HOUSE = Path(__file__).parent.parent / "src" / "hybrid_compute"
ROOT = HOUSE.name

FLOORS = {
    0: "arrays calls clock driven errors events reporting schema tasks tracing",
    1: "gpu kernels links sandbox shared wasm",
    2: "backends",
    3: "core pending policy routing runtime strategies timings",
    4: "__init__ agents blocking engine futures llm outbox pipelines portal tabletop",
    5: "__main__ cli demo monitor server",
    6: "testing",  # beside the house: it may look at all of it, and none of it looks back
}
FLOOR = {part: floor for floor, parts in FLOORS.items() for part in parts.split()}


class Import(NamedTuple):
    importer: str
    target: str
    place: str


def part(module: str) -> str:
    """The name by which a module stands on a floor: `links` for `hybrid_compute.links.codec`."""
    return module.split(".")[1] if "." in module else "__init__"


def modules(house: Path) -> dict[str, Path]:
    paths = {path: path.relative_to(house.parent).with_suffix("") for path in sorted(house.rglob("*.py"))}
    return {".".join(name.parts).removesuffix(".__init__"): path for path, name in paths.items()}


def home(name: str, known: Container[str]) -> str:
    """The module that a dotted name is, or else the one that defines it."""
    return name if name in known else name.rpartition(".")[0]


def imports(house: Path) -> Iterator[Import]:
    """Every import of one of our modules by another, wherever in the file it stands."""
    known = modules(house)
    for importer, path in known.items():
        package = importer if path.name == "__init__.py" else importer.rpartition(".")[0]
        for node in ast.walk(ast.parse(path.read_bytes())):
            match node:
                case ast.Import():
                    targets = {alias.name for alias in node.names}
                case ast.ImportFrom():
                    base = resolve_name("." * node.level + (node.module or ""), package)
                    names = [f"{base}.{alias.name}" for alias in node.names]
                    # From the root it is the root that is imported, even where the name is a module below it.
                    targets = {ROOT} if base == ROOT != importer else {home(name, known) for name in names}
                case _:
                    continue
            for target in sorted(targets):
                if target.partition(".")[0] == ROOT:
                    yield Import(importer, target, f"{path.relative_to(house)}:{node.lineno}")


def fault(importer: str, target: str) -> str | None:
    """What is wrong with this import, if anything."""
    if target == ROOT:
        return "imports from the package root: name the module that defines it"
    here, there = FLOOR.get(part(importer)), FLOOR.get(part(target))
    if here is not None and there is not None and there > here:
        return f"imports {target}, which is higher up: floor {there} from floor {here}"
    return None


def complaints(house: Path) -> list[str]:
    """All that is wrong with the imports in this folder."""
    found = list(imports(house))
    parts = {part(module) for module in [*modules(house), *(target for _, target, _ in found)]}
    lost = sorted(parts - FLOOR.keys())
    return [
        *(f"{name} is on no floor: add it to FLOORS in tests/test_layers.py" for name in lost),
        *(f"{place} {reason}" for importer, target, place in found if (reason := fault(importer, target))),
        *cycles(found),
    ]


def cycles(found: list[Import]) -> list[str]:
    graph: dict[str, set[str]] = {}
    for importer, target, _ in found:
        graph.setdefault(importer, set()).add(target)
    try:
        TopologicalSorter(graph).prepare()
    except CycleError as error:
        return ["a cycle: " + " → ".join(reversed(error.args[1]))]
    return []


def build(house: Path, files: dict[str, str]) -> Path:
    for name, source in {"__init__.py": "", **files}.items():
        path = house / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(dedent(source))
    return house


def test_every_import_of_ours_points_downwards() -> None:
    """No module has to know what is built on top of it."""
    assert modules(HOUSE)
    assert complaints(HOUSE) == []


PLANTED = {
    "an import of a higher floor": (
        {"errors.py": "\nimport hybrid_compute.runtime", "runtime.py": ""},
        "errors.py:2 imports hybrid_compute.runtime, which is higher up: floor 3 from floor 0",
    ),
    "a higher floor inside a function": (
        {"links/pipe.py": "def f(): from hybrid_compute.backends.base import x", "backends/base.py": ""},
        "links/pipe.py:1 imports hybrid_compute.backends.base, which is higher up: floor 2 from floor 1",
    ),
    "a higher floor for its types": (
        {
            "policy.py": """\
                from typing import TYPE_CHECKING
                if TYPE_CHECKING:
                    from hybrid_compute.server import App
            """,
            "server.py": "",
        },
        "policy.py:3 imports hybrid_compute.server, which is higher up: floor 5 from floor 3",
    ),
    "a higher floor by a relative import": (
        {"links/pipe.py": "from ..backends import base", "backends/base.py": ""},
        "links/pipe.py:1 imports hybrid_compute.backends.base, which is higher up: floor 2 from floor 1",
    ),
    "an import from the root": (
        {"runtime.py": "from hybrid_compute import errors", "errors.py": ""},
        "runtime.py:1 imports from the package root: name the module that defines it",
    ),
    "an import of the root": (
        {"cli/main.py": "import os, hybrid_compute"},
        "cli/main.py:1 imports from the package root: name the module that defines it",
    ),
    "an import of testing": (
        {"__init__.py": "from hybrid_compute.testing import MockBackend", "testing.py": ""},
        "__init__.py:1 imports hybrid_compute.testing, which is higher up: floor 6 from floor 4",
    ),
    "a module on no floor": (
        {"attic.py": ""},
        "attic is on no floor: add it to FLOORS in tests/test_layers.py",
    ),
    "an import of a module on no floor": (
        {"runtime.py": "from hybrid_compute.attic import x"},
        "attic is on no floor: add it to FLOORS in tests/test_layers.py",
    ),
    "a cycle on one floor": (
        {
            "links/codec.py": "from hybrid_compute.links import pipe",
            "links/pipe.py": "def f(): from hybrid_compute.links.codec import dumps",
        },
        "a cycle: hybrid_compute.links.codec → hybrid_compute.links.pipe → hybrid_compute.links.codec",
    ),
}


@pytest.mark.parametrize(("files", "complaint"), PLANTED.values(), ids=PLANTED)
def test_a_planted_violation_is_caught(files: dict[str, str], complaint: str, tmp_path: Path) -> None:
    """The check above passes because the house is in order, not because the check is blind."""
    assert complaints(build(tmp_path / ROOT, files)) == [complaint]


def test_a_house_in_order_draws_no_complaint(tmp_path: Path) -> None:
    """Downwards and along the floor is fine, the root gathers names, and testing sees everything."""
    house = build(
        tmp_path / ROOT,
        {
            "__init__.py": "from hybrid_compute import errors\nfrom hybrid_compute.runtime import Runtime",
            "errors.py": "import enum",
            "events.py": "from hybrid_compute.errors import TaskError",
            "links/__init__.py": "",
            "links/pipe.py": "from hybrid_compute.errors import TaskError",
            "runtime.py": "from hybrid_compute.links import pipe",
            "cli/__init__.py": "def main(): from hybrid_compute.runtime import Runtime",
            "testing.py": "from hybrid_compute.runtime import Runtime\nfrom hybrid_compute.cli import main",
        },
    )
    assert complaints(house) == []
