"""A server of the soak in this process: `python -m benchmarks.soak.server PORT FILE`; the file is for its keys."""

from __future__ import annotations

import sys

from benchmarks.serve import run
from benchmarks.soak.tasks import TASKS
from hybrid_compute.server import Limits, create_app
from hybrid_compute.server.serving import Address, make_server

WORKERS = 2
PATIENCE = 5.0  # seconds for the calls under way when it is told to stop


def main(port: str, remember: str) -> None:
    app = create_app(TASKS, workers=WORKERS, remember=remember)
    run(make_server(app, Address(port=int(port)), Limits(), patience=PATIENCE, log_level="error"))


if __name__ == "__main__":
    main(*sys.argv[1:])
