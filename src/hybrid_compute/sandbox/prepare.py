"""The interpreter of sandboxes, made once on a machine and kept in the cache of this user.

    guest/*.py ── componentize-py, 15 s ──> a component, 30 MB ── wasmtime, 7 s ──> machine code, 47 MB

The first part is done again when the guest's source changes, the second also for another wasmtime or processor.
"""

from __future__ import annotations

import hashlib
import importlib.util
import os
import shutil
import subprocess
import sys
import tempfile
import time
import warnings
from collections.abc import Callable, Generator
from contextlib import contextmanager
from importlib.metadata import version
from pathlib import Path

import wasmtime
from wasmtime import component

from hybrid_compute.errors import BackendUnavailable
from hybrid_compute.sandbox.shortage import no_addresses
from hybrid_compute.wasm.cache import Cache, folder, machine
from hybrid_compute.wasm.engines import Profile, engine_for

STACK = 4 << 20
"""Bytes. With less, what is deeply nested ends in a trap and not in a `RecursionError` that a program can catch."""
PROFILE = Profile(stack=STACK, components=True)

Tell = Callable[[str], object]
"""Is told what is being done now."""
MAKER = "componentize-py==0.25.1"
"""What makes it, and which Python it is; as in `pyproject.toml`. It need not be installed where it was made before."""
STEPS = ("making the interpreter", "compiling it")

_GUEST = Path(__file__).parent / "guest"
_APP = "hybrid_compute.sandbox.guest.app"
_PATIENCE = 600
_OLD = 30 * 24 * 3600


def is_prepared() -> bool:
    """Whether the first sandbox of this process will be there in milliseconds."""
    cache = _cache()
    return cache is not None and cache.find(_name("code")) is not None


def prepare(tell: Tell | None = None, *, anew: bool = False) -> None:
    """Make the interpreter of sandboxes, if this machine does not have it yet; `anew` makes it in any case.

    Raises `BackendUnavailable` if componentize-py is not installed, or fails.
    """
    cache = _cache()
    if cache is None:
        raise BackendUnavailable("the interpreter of sandboxes has nowhere to be kept: see the warning", backend="wasm")
    with _alone(cache.folder):
        if anew or cache.find(_name("code")) is None:
            _make(cache, tell or _ignore, anew=anew)


def load(engine: wasmtime.Engine) -> component.Component:
    """The interpreter, from the cache; made now if it is not there. Raises `BackendUnavailable`."""
    cache = _cache()
    if cache is None:  # each process makes its own
        return component.Component(engine, _component())
    for attempt in (1, 2):
        found = cache.find(_name("code"))
        if found is None:
            prepare(_say)
            found = cache.find(_name("code"))
        try:
            return component.Component.deserialize_file(engine, str(found))
        except wasmtime.WasmtimeError as error:
            if short := no_addresses(error):
                raise short from error
            # It is of another build of wasmtime.
            cache.discard(_name("code"))
            if attempt == 2:
                raise
    raise AssertionError


def _make(cache: Cache, tell: Tell, *, anew: bool) -> None:
    kept = None if anew else cache.find(_name("component"))
    if kept is None:
        tell(STEPS[0])
        kept = cache.store(_name("component"), _component())
    tell(STEPS[1])
    compiled = component.Component(engine_for(PROFILE).engine, kept.read_bytes())
    cache.store(_name("code"), bytes(compiled.serialize()))
    _discard_old(cache)


def _discard_old(cache: Cache) -> None:
    """Those of other versions, if nobody has used them for long: they are large."""
    for path in cache.folder.glob("python-*"):
        try:
            if not path.suffix and time.time() - path.stat().st_atime > _OLD:
                cache.discard(path.name)
        except FileNotFoundError:  # another process has done the same
            continue


def _component() -> bytes:
    """The interpreter with our runner in it, made by componentize-py in a process of its own."""
    if importlib.util.find_spec("componentize_py") is None:
        raise BackendUnavailable(
            "the interpreter of sandboxes is made by componentize-py, once on a machine, and that is not installed: "
            "pip install 'hybrid-compute[sandbox]'",
            backend="wasm",
        )
    with tempfile.TemporaryDirectory(prefix="hybrid-compute-") as scratch:
        place = Path(scratch)
        _lay_out(place)
        ran = subprocess.run(
            [sys.executable, "-c", "import sys, componentize_py; sys.exit(componentize_py.script())", *_ARGUMENTS],
            cwd=place,
            env=_environment(place),
            capture_output=True,
            text=True,
            timeout=_PATIENCE,
            check=False,
        )
        if ran.returncode:
            raise BackendUnavailable(
                f"componentize-py {version('componentize-py')} could not make the interpreter of sandboxes: "
                f"{_told(ran)}",
                backend="wasm",
            )
        return (place / "python.wasm").read_bytes()


_ARGUMENTS = (
    *("--quiet", "--wit-path", "sandbox.wit", "--world", "sandbox"),
    *("componentize", "--python-path", "app", "--output", "python.wasm", _APP),
)


def _lay_out(place: Path) -> None:
    """Nothing but the guest, under its own name; and an empty folder in the place of what else is installed here."""
    package = place / "app" / "hybrid_compute" / "sandbox"
    shutil.copytree(_GUEST, package / "guest", ignore=shutil.ignore_patterns("__pycache__"))
    for each in (package, package.parent):
        (each / "__init__.py").touch()
    (place / "sandbox.wit").write_bytes((_GUEST / "sandbox.wit").read_bytes())
    (place / "nothing" / "lib" / "python3" / "site-packages").mkdir(parents=True)


def _environment(place: Path) -> dict[str, str]:
    """No more than what it needs: whatever it could import would become a part of the interpreter."""
    needed = ("SYSTEMROOT", "TEMP", "TMP", "TMPDIR", "PYTHONPATH", "LD_LIBRARY_PATH")
    kept = {name: os.environ[name] for name in needed if name in os.environ}
    return {**kept, "VIRTUAL_ENV": str(place / "nothing")}


def _told(ran: subprocess.CompletedProcess[str]) -> str:
    """The end of what it said, without the stack of its own code."""
    said = (ran.stderr or ran.stdout).partition("Stack backtrace:")[0].strip()
    return said[-1000:] or f"it exited with {ran.returncode}"


def _name(what: str) -> str:
    """What it is kept as: different for what must be made anew."""
    digest = hashlib.sha256(f"{what}, {MAKER}".encode())
    for path in sorted(_GUEST.iterdir()):
        if path.is_file():
            digest.update(path.name.encode() + b"\0" + path.read_bytes())
    if what == "code":
        digest.update(repr((PROFILE, machine())).encode())
    return f"python-{digest.hexdigest()[:32]}"


def _cache() -> Cache | None:
    try:
        return Cache(folder() / "sandbox")
    except OSError as error:
        warnings.warn(f"the interpreter of sandboxes cannot be kept, and takes long to make: {error}", stacklevel=3)
        return None


@contextmanager
def _alone(place: Path) -> Generator[None]:
    """One process at a time, where there are such locks; else two do the same work, and the last one's is kept."""
    if sys.platform == "win32":
        yield
        return
    import fcntl

    with open(place / "lock", "a") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def _say(step: str) -> None:
    """A word to the person who waits, if there is one."""
    if sys.stderr is not None and sys.stderr.isatty():
        print(f"hybrid-compute: the Python sandbox, once on this machine: {step} ...", file=sys.stderr)  # noqa: T201


def _ignore(_step: str) -> None:
    """Nobody waits for it."""
