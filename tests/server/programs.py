"""A server that the tests start, to kill it or to ask it to stop: `python -m tests.server.programs NOTEBOOK`.

It says on its output which port it listens at.
"""

import socket
import sys

from hybrid_compute.server.app import create_app
from hybrid_compute.server.limits import Limits
from hybrid_compute.server.serving import Address, make_server
from tests.server import tasks

if __name__ == "__main__":
    limits = Limits()
    app = create_app(tasks.registry(), limits=limits, remember=sys.argv[1] or None, workers=1)
    listener = socket.create_server(("127.0.0.1", 0))
    sys.stdout.write(f"{listener.getsockname()[1]}\n")
    sys.stdout.flush()
    make_server(app, Address(port=0), limits, patience=20, log_level="warning").run([listener])
