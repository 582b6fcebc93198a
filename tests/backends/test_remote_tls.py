"""Over TLS: only a server that somebody vouches for is trusted."""

import asyncio
import shutil
import socket
import ssl
import subprocess
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from hybrid_compute.backends.local import LocalBackend
from hybrid_compute.backends.remote.backend import RemoteBackend
from hybrid_compute.runtime import Runtime
from hybrid_compute.server import Limits, create_app
from hybrid_compute.server.serving import Address, make_server
from tests.backends import remoting
from tests.backends.remoting import TASKS, until

pytestmark = pytest.mark.skipif(shutil.which("openssl") is None, reason="openssl makes the certificate")


def certify(folder: Path) -> tuple[str, str]:
    """A certificate for this machine that nobody has signed but itself, and its key."""
    certificate, key = str(folder / "certificate.pem"), str(folder / "key.pem")
    words = "req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 2 -subj /CN=localhost"
    names = ["-addext", "subjectAltName=IP:127.0.0.1"]
    command = ["openssl", *words.split(), *names, "-keyout", key, "-out", certificate]
    subprocess.run(command, check=True, capture_output=True)
    return certificate, key


@asynccontextmanager
async def serving(certificate: str, key: str) -> AsyncGenerator[int]:
    """The port of a server with this certificate, in this event loop."""
    listener = socket.create_server(("127.0.0.1", 0))
    app = create_app(Runtime([LocalBackend()], tasks=TASKS))
    server = make_server(app, Address(certificate=certificate, key=key), Limits(), patience=0.2, log_level="error")
    running = asyncio.create_task(server._serve([listener]))
    await until(lambda: server.started)
    try:
        yield listener.getsockname()[1]
    finally:
        server.should_exit = True
        await running


@pytest.mark.parametrize("scheme", ["https", "wss"])
async def test_a_certificate_that_nobody_vouches_for_is_not_trusted(scheme: str, tmp_path: Path) -> None:
    """By default the system says who is; a context of one's own may say otherwise."""
    certificate, key = certify(tmp_path)
    async with serving(certificate, key) as port:
        url = f"{scheme}://127.0.0.1:{port}"
        async with Runtime([place := RemoteBackend(url)]):
            assert not place.can_run(remoting.double)
            assert "certificate verify failed" in place.why_not(remoting.double)
        trusting = ssl.create_default_context(cafile=certificate)
        async with Runtime([RemoteBackend(url, ssl=trusting)]) as rt:
            assert await rt.run(remoting.double, 21) == 42
