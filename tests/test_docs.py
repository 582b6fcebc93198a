"""The documentation tells the truth: what it shows runs, what it lists is all there is, where it points is something.

A page is one program: its ```python blocks run in order, in one process of their own, each at its own line number, so
that a traceback names the line of the page. Four words after the language say more:

    file=NAME     not run, but put into the folder where the page runs, under this name
    from=PATH     stands in that file word for word, and runs here as well
    background    a command that goes on until the end of the page, or until another one takes its place
    notest        left alone: it needs a person

A ```text block right after a ```python block is what that block prints. In a ```console block the lines after `$` are
commands, and what follows each is its output. `...` stands for anything, and on pages where something goes on in the
background, port 8000 for one that is free.
"""

import doctest
import importlib
import os
import re
import shutil
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from types import FunctionType, ModuleType

import pytest

import hybrid_compute
from hybrid_compute import (
    errors,
    events,
    gpu,
    kernels,
    policy,
    sandbox,
    schema,
    server,
    shared,
    strategies,
    testing,
    wasm,
)
from hybrid_compute.backends import wrappers

REPOSITORY = Path(__file__).parents[1]
PAGES = [REPOSITORY / "README.md", *sorted((REPOSITORY / "docs").rglob("*.md"))]
MARK = "\u241e a block begins \u241e"  # what nobody prints by accident


@dataclass(frozen=True, slots=True)
class Block:
    """One fenced block of a page. `line` is that of its opening fence, counted from 0."""

    line: int
    language: str
    words: tuple[str, ...]
    text: str
    expected: str | None = None

    def word(self, name: str) -> str | None:
        """What stands after `name=` in the first line."""
        return next((word.partition("=")[2] for word in self.words if word.startswith(f"{name}=")), None)


def blocks(page: str) -> Iterator[Block]:
    """The blocks of a page, each with what it is said to print."""
    found = re.finditer(r"(?ms)^```(\w+)([^\n]*)\n(.*?)^```[ ]*\n(?:\n*^```text\n(.*?)^```)?", page + "\n")
    for block in found:
        language, words, text, expected = block.groups()
        yield Block(page.count("\n", 0, block.start()), language, tuple(words.split()), text, expected)


def of(page: Path) -> list[Block]:
    return [block for block in blocks(page.read_text()) if "notest" not in block.words]


def program(page: list[Block]) -> list[Block]:
    """The blocks that are run as Python."""
    return [block for block in page if block.language == "python" and block.word("file") is None]


def script(running: list[Block]) -> str:
    """The program that a page is, with every statement at its line of the page, and a mark before each block."""
    lines: list[str] = []
    for block in running:
        lines += [""] * (block.line - len(lines))
        lines += [f"print({MARK!r}, flush=True)", *block.text.splitlines()]
    return "\n".join(lines) + "\n"


def put_files(page: list[Block], folder: Path) -> None:
    for block in page:
        if (name := block.word("file")) is not None:
            (folder / name).write_text(block.text)


def run(command: list[str], folder: Path) -> subprocess.CompletedProcess[str]:
    environment = environment_in(folder)
    return subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, timeout=50, check=False)


def environment_in(folder: Path) -> dict[str, str]:
    path = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])
    return {**os.environ, "PATH": path, "PYTHONPATH": str(folder), "COLUMNS": "100", "TERM": "dumb"}


@contextmanager
def going_on(block: Block, folder: Path) -> Iterator[None]:
    """The one command of this block runs, and has printed what the block says."""
    command, _, expected = block.text.removeprefix("$ ").partition("\n")
    process = subprocess.Popen(
        ["bash", "-c", f"exec 2>&1; exec {command}"],
        cwd=folder,
        env=environment_in(folder),
        stdout=subprocess.PIPE,
        text=True,
    )
    try:
        assert process.stdout is not None
        printed = "".join(process.stdout.readline() for _ in expected.splitlines())
        assert same(expected, printed), printed
        yield
    finally:
        process.terminate()
        rest, _ = process.communicate(timeout=30)
        assert "Traceback" not in rest, rest


def same(expected: str, printed: str) -> bool:
    return doctest.OutputChecker().check_output(expected, printed, doctest.ELLIPSIS)


def id_of(page: Path) -> str:
    return page.relative_to(REPOSITORY).as_posix()


# What is shown runs


@pytest.mark.timeout(180)  # the first of all tests that needs a sandbox makes its interpreter
@pytest.mark.parametrize("page", [page for page in PAGES if program(of(page))], ids=id_of)
def test_a_page_runs_and_prints_what_it_says(page: Path, tmp_path: Path) -> None:
    """Who copies the blocks of a page into a file, one after the other, sees what the page shows."""
    running = program(of(page))
    insist_on_sandbox(running)
    insist_on_gpu(running)
    put_files(of(page), tmp_path)
    copy = tmp_path / f"{page.stem.replace('-', '_')}.py"
    copy.write_text(script(running))
    ran = run([sys.executable, str(copy)], tmp_path)
    assert ran.returncode == 0, ran.stderr
    assert ran.stderr == ""
    printed = ran.stdout.split(f"{MARK}\n")[1:]
    wrong = [
        f"{id_of(page)}:{block.line + 1} says:\n{block.expected}but prints:\n{output}"
        for block, output in zip(running, printed, strict=True)
        if block.expected is not None and not same(block.expected, output)
    ]
    assert not wrong, "\n".join(wrong)


@pytest.mark.parametrize("page", [page for page in PAGES if any(b.language == "console" for b in of(page))], ids=id_of)
def test_the_commands_of_a_page_print_what_it_says(page: Path, tmp_path: Path) -> None:
    """Commands are shown with what they really print, on either stream."""
    everything = with_free_port(of(page))
    put_files(everything, tmp_path)
    insist_on_programs(everything)
    with ExitStack() as background:
        for block in everything:
            if block.language == "console":
                if "background" in block.words:
                    background.close()
                    background.enter_context(going_on(block, tmp_path))
                else:
                    insist_on_output(block, tmp_path)


def insist_on_output(block: Block, folder: Path) -> None:
    """Run the commands of a block, and compare what they print with what it says."""
    texts = re.findall(r"(?m)^\$ (.*)\n((?:(?!\$ ).*\n)*)", block.text)
    ran = run(["bash", "-c", "exec 2>&1\n" + "".join(map(marked, (command for command, _ in texts)))], folder)
    for (command, expected), printed in zip(texts, ran.stdout.split(f"{MARK}\n"), strict=False):
        ended = printed if printed.endswith("\n") or not printed else printed + "\n"
        assert same(expected, ended), f"$ {command}\n{printed}"


def with_free_port(page: list[Block]) -> list[Block]:
    """The blocks with a port that is free for 8000, where something goes on in the background."""
    if not any("background" in block.words for block in page):
        return page
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = str(listener.getsockname()[1])
    return [replace(block, text=block.text.replace("8000", port)) for block in page]


def insist_on_gpu(running: list[Block]) -> None:
    """Skip what needs an adapter where there is none."""
    if any("GpuBackend" in block.text for block in running):
        from hybrid_compute.errors import BackendUnavailable
        from hybrid_compute.gpu.adapters import choose

        try:
            choose()
        except BackendUnavailable as error:
            pytest.skip(str(error))


def insist_on_sandbox(running: list[Block]) -> None:
    """Prepare what a page with sandboxes needs, or skip the page where that is not installed."""
    if any("hybrid_compute.sandbox" in block.text for block in running):
        pytest.importorskip("componentize_py")
        importlib.import_module("hybrid_compute.sandbox").Sandbox.prepare()


def insist_on_programs(page: list[Block]) -> None:
    """Skip a page whose commands are not installed here."""
    commands = {command for block in page for command in re.findall(r"(?m)^\$ (curl|node) ", block.text)}
    if missing := [command for command in sorted(commands) if shutil.which(command) is None]:
        pytest.skip(f"there is no {' and no '.join(missing)} here")


def marked(command: str) -> str:
    """A command, and a mark behind its output that leaves its exit code alone."""
    return f"{command}\n{{ code=$?; echo '{MARK}'; (exit $code); }}\n"


QUOTING = [(page, block) for page in PAGES for block in blocks(page.read_text()) if block.word("from") is not None]


@pytest.mark.parametrize(("page", "block"), QUOTING, ids=[f"{id_of(page)}:{block.line + 1}" for page, block in QUOTING])
def test_a_quoted_file_says_the_same(page: Path, block: Block) -> None:
    """What a page quotes from an example stands there word for word."""
    quoted = REPOSITORY / str(block.word("from"))
    assert block.text in quoted.read_text()


# Where it points is something


def test_every_link_within_the_documentation_leads_somewhere() -> None:
    """Files and headings that a page points to are there."""
    dead: list[str] = []
    for page in PAGES:
        for target in re.findall(r"\]\((?!https?:)([^)\s]+)\)", prose(page)):
            path, _, heading = target.partition("#")
            there = (page.parent / path).resolve() if path else page
            if not there.exists() or (heading and heading not in headings(there)):
                dead.append(f"{id_of(page)}: {target}")
    assert dead == []


def test_every_page_can_be_reached_from_the_readme() -> None:
    """There is no page that only those find who list the folder."""
    reached: set[Path] = set()
    todo = [REPOSITORY / "README.md"]
    while todo:
        page = todo.pop()
        if page not in reached and page in PAGES:
            reached.add(page)
            todo += [(page.parent / link).resolve() for link in re.findall(r"\]\(([^)#\s]+)", prose(page))]
    assert sorted(map(id_of, PAGES)) == sorted(map(id_of, reached))


def test_every_block_says_its_language() -> None:
    """A block without a language would be run by nobody and checked by nobody."""
    for page in PAGES:
        fences = re.findall(r"(?m)^```(.*)$", page.read_text())
        assert all(fences[::2]), id_of(page)
        assert not any(fences[1::2]), id_of(page)


def prose(page: Path) -> str:
    return re.sub(r"(?ms)^```.*?^```", "", page.read_text())


def headings(page: Path) -> set[str]:
    """The anchors that a page's headings get on the usual hosts."""
    titles = re.findall(r"(?m)^#+ (.*)$", prose(page))
    return {re.sub(r"[^\w\- ]", "", title.lower()).replace(" ", "-") for title in titles}


# What it lists is all there is


def rows(page: str, heading: str) -> list[list[str]]:
    """The cells of the first table below a heading, without its head."""
    text = (REPOSITORY / "docs" / page).read_text().partition(f"# {heading}\n")[2]
    table = re.search(r"(?m)^\|.*\n\|[-| :]+\n((?:\|.*\n)*)", text)
    assert table is not None, f"{page} has no table below {heading!r}"
    return [[cell.strip() for cell in line.strip("|").split(" | ")] for line in table[1].splitlines()]


def names(page: str, heading: str) -> list[str]:
    return [cells[0].strip("` ") for cells in rows(page, heading)]


def public(module: ModuleType, kind: type) -> set[str]:
    """The functions or classes that a module defines for others."""
    found = vars(module).items()
    return {
        name for name, each in found if isinstance(each, kind) and each.__module__ == module.__name__ and name[0] != "_"
    }


def test_the_reference_lists_every_public_name() -> None:
    """The page of names is the list of names."""
    assert sorted(names("reference/api.md", "From the package root")) == sorted(hybrid_compute.__all__)


def test_the_reference_lists_every_verb_of_a_runtime() -> None:
    """All that a runtime offers is on the page, and nothing else is."""
    runtime = {name for name in dir(hybrid_compute.Runtime) if not name.startswith("_")}
    # For those who build on it.
    internal = {"clock", "find", "lanes", "promised", "run_here", "run_promised", "settings", "under"}
    assert {name.partition("(")[0] for name in names("reference/api.md", "Runtime")} == runtime - internal


LISTED = {
    "Gpu": set(gpu.__all__),
    "Kernels": set(kernels.__all__),
    "Sandbox": set(sandbox.__all__),
    "WebAssembly": set(wasm.__all__),
    "Strategies": public(strategies, FunctionType) - {"resolve"},  # which makes one of a name, for the runtime
    "Policies": public(policy, FunctionType) - {"forbidden", "may_pass_on", "unable"},  # which the runtime asks
    "Events": public(events, type) - {"Hooks"},
    "Wrappers": public(wrappers, type) - {"Recorded"},  # what `Recording` keeps
    "Schemas": public(schema, FunctionType),
    "For tests": set(testing.__all__),
    "Server": set(server.__all__),
    "Shared memory": set(shared.__all__),
}


@pytest.mark.parametrize("heading", LISTED)
def test_the_reference_lists_all_of(heading: str) -> None:
    """What a user may import from a module is on the page, and nothing else is."""
    assert set(names("reference/api.md", heading)) == LISTED[heading]


def test_the_page_on_errors_draws_the_tree_of_the_code() -> None:
    """The tree is drawn once, in the code; the page shows the same."""
    drawn = re.search(r"(?m)^    HybridComputeError\n(?:    .*\n)+", errors.__doc__ or "")
    assert drawn is not None
    tree = "".join(line[4:] + "\n" for line in drawn[0].splitlines())
    assert tree in (REPOSITORY / "docs" / "topics" / "errors.md").read_text()


def test_the_page_on_errors_lists_every_wire_code() -> None:
    """An error is known by its code to programs in other languages."""
    told = {cells[0].strip("`"): cells[1].strip("`") for cells in rows("topics/errors.md", "Codes on the wire")}
    assert told == {name: getattr(errors, name).code for name in errors.__all__}


def test_the_page_on_the_command_line_lists_every_exit_code() -> None:
    """What a script can meet in `$?` is written down."""
    from hybrid_compute.cli.exits import MEANING

    told = {int(cells[0]): cells[1] for cells in rows("howto/command-line.md", "Exit codes")}
    assert told == {int(code): meaning for code, meaning in MEANING.items()}
