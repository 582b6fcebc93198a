"""`hybrid-compute sandbox prepare`: the interpreter of sandboxes, made before anybody waits for it."""

from __future__ import annotations

from time import perf_counter

import click

from hybrid_compute.cli import screen
from hybrid_compute.errors import BackendUnavailable


def prepare(*, anew: bool) -> None:
    """Make what is missing, with a bar for whoever watches. Raises `BackendUnavailable` if it cannot be made."""
    try:
        from hybrid_compute.sandbox import prepare as making
    except ModuleNotFoundError as error:
        raise BackendUnavailable(
            f"sandboxes need wasmtime, which is not there ({error}): pip install 'hybrid-compute[sandbox]'",
            backend="wasm",
        ) from error
    if making.is_prepared() and not anew:
        click.echo("The Python sandbox is ready.")
        return
    began = perf_counter()
    with screen.bar(screen.console(stderr=True)) as bar:
        shown = bar.add_task("preparing the Python sandbox", total=len(making.STEPS) + 1)

        def tell(step: str) -> None:
            bar.update(shown, advance=1, description=step)

        making.prepare(tell, anew=anew)
        bar.update(shown, advance=1, description="done")
    click.echo(f"The Python sandbox is ready, after {perf_counter() - began:.0f} s.")
