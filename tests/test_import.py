"""Importing the package stays light."""

import subprocess
import sys

OPTIONAL = {
    "aiohttp",
    "click",
    "joblib",
    "loky",
    "mcp",
    "numpy",
    "psutil",
    "ray",
    "rich",
    "starlette",
    "uvicorn",
    "uvloop",
    "wasmtime",
    "wgpu",
}

SCRIPT = """
import sys
before = set(sys.modules)
import hybrid_compute
print(*{name.partition(".")[0] for name in sys.modules.keys() - before})
"""


def test_importing_the_package_loads_no_optional_library() -> None:
    """Whoever needs a few tasks on workers pays for no GPU, web server or terminal library."""
    ran = subprocess.run([sys.executable, "-c", SCRIPT], capture_output=True, text=True, check=True)
    loaded = set(ran.stdout.split())
    assert "hybrid_compute" in loaded
    assert not loaded & OPTIONAL
