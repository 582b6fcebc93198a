"""Build the plug-ins of this folder anew: `python build.py`, or `python build.py score.c` for one of them.

C needs `pip install ziglang==0.17.1`, AssemblyScript needs `npm install --global assemblyscript`. Whoever runs the
plug-ins needs neither: what is built here is kept beside its source. At its end stands which source that was.
"""

import hashlib
import subprocess
import sys
from pathlib import Path

HERE = Path(__file__).parent
C = [sys.executable, "-m", "ziglang", "cc", "--target=wasm32-freestanding", "-O3", "-g0", "-nostdlib", "-Wl,--no-entry"]
PROGRAM = [sys.executable, "-m", "ziglang", "cc", "--target=wasm32-wasi", "-Os", "-s"]
ASSEMBLYSCRIPT = ["asc", "-O3", "--runtime", "stub", "--use", "abort="]


def command(source: Path, built: Path) -> list[str]:
    """How a source is compiled: a program if it has `main`, else functions."""
    if source.suffix == ".ts":
        return [*ASSEMBLYSCRIPT, str(source), "-o", str(built)]
    return [*(PROGRAM if "int main(" in source.read_text() else C), "-o", str(built), str(source)]


def note(source: Path) -> bytes:
    """A custom section, which every runtime passes over: the SHA-256 of the source."""
    content = bytes([len(b"source")]) + b"source" + hashlib.sha256(source.read_bytes()).digest()
    return bytes([0, len(content)]) + content


def build(source: Path) -> None:
    built = source.with_suffix(".wasm")
    subprocess.run(command(source, built), check=True)
    built.write_bytes(built.read_bytes() + note(source))
    built.chmod(0o644)


if __name__ == "__main__":
    sources = [Path(each) for each in sys.argv[1:]]
    for path in sources or [*HERE.glob("*.c"), *HERE.glob("*.ts")]:
        build(path)
