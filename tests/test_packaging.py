"""What is published works where nothing else is installed."""

import os
import subprocess
import sys
import venv
from pathlib import Path
from zipfile import ZipFile

import pytest

pytestmark = [pytest.mark.slow, pytest.mark.timeout(180)]

REPOSITORY = Path(__file__).parent.parent

SCRIPT = """
import os

from hybrid_compute import BlockingRuntime, task


@task
def double(x: int) -> tuple[int, int]:
    return 2 * x, os.getpid()


if __name__ == "__main__":
    with BlockingRuntime() as rt:
        answer, pid = rt.options(strategy="worker").run(double, 21)
    print(answer, "here" if pid == os.getpid() else "in a worker")
"""


def python(*arguments: object, cwd: Path, executable: str = sys.executable) -> str:
    """What Python prints where neither the working directory nor the environment leads to our sources."""
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    command = [executable, *map(str, arguments)]
    return subprocess.check_output(command, cwd=cwd, env=environment, text=True)


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("wheel")
    python("-m", "build", "--wheel", "--no-isolation", "--outdir", folder, REPOSITORY, cwd=folder)
    [wheel] = folder.glob("*.whl")
    return wheel


def test_the_wheel_holds_the_package_and_its_types(wheel: Path) -> None:
    """Type checkers see our hints, and nothing but the package lands in site-packages."""
    names = ZipFile(wheel).namelist()
    assert "hybrid_compute/py.typed" in names
    assert {name.partition("/")[0].partition("-")[0] for name in names} == {"hybrid_compute"}


def test_the_wheel_works_in_an_empty_environment(wheel: Path, tmp_path: Path) -> None:
    """The wheel brings all that a call in a worker process needs."""
    builder = venv.EnvBuilder(symlinks=os.name == "posix")
    builder.create(tmp_path / "venv")
    executable = builder.ensure_directories(tmp_path / "venv").env_exe
    python("-m", "pip", "--python", executable, "install", "--quiet", wheel, cwd=tmp_path)

    script = tmp_path / "script.py"
    script.write_text(SCRIPT)
    assert python(script, cwd=tmp_path, executable=executable) == "42 in a worker\n"
