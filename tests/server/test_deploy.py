"""What is in `deploy/` fits the command that it starts."""

import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from click.testing import CliRunner

from hybrid_compute.cli.app import app

DEPLOY = Path(__file__).parents[2] / "deploy"


@pytest.mark.parametrize("name", ["hybrid-compute.service", "Dockerfile"])
def test_the_options_that_are_used_are_there(name: str) -> None:
    """An option that is renamed is renamed here too."""
    text = re.sub(r"(?m)^#.*", "", (DEPLOY / name).read_text()).replace("\\\n", " ")
    command = re.search(r"(?m)^(?:ExecStart=|CMD ).*serve.*$", text)
    assert command is not None
    used = set(re.findall(r"--[a-z-]+", command[0]))
    known = CliRunner().invoke(app, ["serve", "--help"]).output
    assert used
    assert used <= set(re.findall(r"--[a-z-]+", known))


def test_the_linter_finds_nothing_in_the_dockerfile() -> None:
    """Not even what it only mentions."""
    linter = Path(sys.executable).with_name("hadolint")
    if not linter.exists():
        pytest.skip("hadolint is not there for this machine")
    ran = subprocess.run([linter, DEPLOY / "Dockerfile"], check=False, capture_output=True, text=True, timeout=30)
    assert (ran.returncode, ran.stdout + ran.stderr) == (0, "")


def test_systemd_takes_the_unit(tmp_path: Path) -> None:
    """Nothing is wrong with it for systemd itself, with a program that is there in place of ours."""
    if shutil.which("systemd-analyze") is None:
        pytest.skip("there is no systemd-analyze here")
    ours = (DEPLOY / "hybrid-compute.service").read_text()
    text, count = re.subn(r"/srv/tasks/\S+/hybrid-compute serve", "/bin/true", ours)
    assert count == 1
    unit = tmp_path / "hybrid-compute.service"
    unit.write_text(text)
    command = ["systemd-analyze", "verify", "--man=no", str(unit)]
    ran = subprocess.run(command, check=False, capture_output=True, text=True, timeout=30)
    assert (ran.returncode, ran.stdout + ran.stderr) == (0, "")
