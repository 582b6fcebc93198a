"""`hybrid-compute serve` and `token`: tasks behind HTTP and WebSockets, and the tokens to reach them."""

from __future__ import annotations

from collections.abc import Collection
from importlib.util import find_spec

import click

from hybrid_compute.cli.exits import Misuse, amount
from hybrid_compute.cli.targets import load_module, tasks_of

_NEEDED = ("starlette", "uvicorn", "httptools", "websockets", "prometheus_client")


def serve(
    module: str,
    *,
    host: str,
    port: int,
    tenants: str | None,
    origins: Collection[str],
    tools: Collection[str],
    remember: str | None,
    workers: int | None,
    certificate: str | None,
    key: str | None,
    insecure: bool,
    tracebacks: bool,
    tokens_in_url: bool,
    patience: float,
    longest: float | None,
    body: int,
) -> None:
    """Serve the tasks of a module until SIGINT or SIGTERM."""
    missing = [name for name in _NEEDED if find_spec(name) is None]
    if missing:
        raise Misuse(f"a server needs {' and '.join(missing)}: install hybrid-compute[server]")
    from hybrid_compute.server.app import create_app
    from hybrid_compute.server.limits import Limits
    from hybrid_compute.server.serving import Address, insist_on_tokens, listen, make_server, url_of
    from hybrid_compute.server.tenants import load_tenants

    tasks = tasks_of(load_module(module))
    if not tasks:
        raise Misuse(f"there is no task in {module}: mark functions with @task")
    limits = Limits(longest=longest, body=body << 20)
    address = Address(host=host, port=port, certificate=certificate, key=key)
    try:
        parties = load_tenants(tenants) if tenants is not None else []
        if tenants is not None and not parties:
            raise Misuse(f"there is no tenant in {tenants}, so nobody could come in")
        if unknown := {name for party in parties for name in party.tasks or ()} - set(tasks):
            raise Misuse(f"{tenants} names tasks that are not in {module}: {', '.join(sorted(unknown))}")
        insist_on_tokens(address, has_tenants=bool(parties), insecure=insecure)
        app = create_app(
            tasks,
            workers=workers,
            limits=limits,
            tenants=parties,
            origins=origins,
            tools=tools or None,
            remember=remember,
            insecure=insecure,
            tracebacks=tracebacks,
            tokens_in_url=tokens_in_url,
        )
        server = make_server(app, address, limits, patience=patience, log_level="warning")
    except ValueError as error:
        raise Misuse(str(error)) from error
    try:
        sockets = listen(address)
    except OSError as error:
        raise Misuse(error.strerror or str(error)) from error
    url = url_of(address, sockets[0])
    said = f"{amount(len(tasks), 'task')} at {url}/compute, described at {url}/docs"
    server.when_listening = lambda: click.echo(said)
    server.run(sockets)


def make_token() -> None:
    """Print a new token, and its hash for the file of tenants."""
    from hybrid_compute.server.tenants import hash_token, new_token

    token = new_token()
    click.echo(token)
    click.echo(hash_token(token))
