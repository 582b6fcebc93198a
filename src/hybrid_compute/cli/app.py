"""What can be typed, and what becomes of an error. Each command imports what it needs when it runs."""

from __future__ import annotations

import asyncio
import os
import sys
import traceback
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, TypeVar

import click

from hybrid_compute.cli.exits import MEANING, Exit, LineFailed, code_for, line_for
from hybrid_compute.errors import TaskFailed

F = TypeVar("F", bound=Callable[..., Any])


def perform(arguments: Sequence[str]) -> int:
    """Do what was typed; the exit code. An error becomes one line on standard error."""
    for stream in (sys.stdout, sys.stderr):
        if stream is not None:  # a sign that the terminal does not know is no reason to fail
            stream.reconfigure(errors="replace")  # type: ignore[union-attr]  # what Python opens at the start can
    try:
        with app.make_context("hybrid-compute", list(arguments) or ["--help"]) as context:
            app.invoke(context)
        sys.stdout.flush()
    except click.exceptions.Exit as done:
        return done.exit_code
    except (Exception, KeyboardInterrupt) as error:
        return _report(error, in_full="--traceback" in arguments)
    return Exit.OK


def _report(error: BaseException, *, in_full: bool) -> Exit:
    code = code_for(error)
    if code == Exit.READER_GONE:
        # What is left in the buffer has no reader, and Python would complain about that when it leaves.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return code
    if in_full:
        click.echo(_trace(error), err=True, nl=False)
    click.echo(f"hybrid-compute: {line_for(error)}", err=True)
    return code


def _trace(error: BaseException) -> str:
    """Where it happened: in the task's own code if it was the task's."""
    match error:
        case LineFailed(__cause__=BaseException() as cause):
            return _trace(cause)
        case TaskFailed(remote_traceback=text) if text:
            return text
        case _:
            return "".join(traceback.format_exception(error))


def _with_traceback(command: F) -> F:
    """The flag that belongs anywhere on the line; `perform` has seen it already."""
    help = "When something fails, show where."
    return click.option("--traceback", is_flag=True, expose_value=False, help=help)(command)


_SECONDS = click.FloatRange(min=0, min_open=True)


def _with_routing(command: F) -> F:
    for option in (
        click.option("--timeout", type=_SECONDS, metavar="SECONDS", help="Stop a call after so long."),
        click.option("--strategy", metavar="NAME", help="auto (the default), a backend's name, fastest ..."),
    ):
        command = option(command)
    return command


_FILE = click.Path(exists=True, dir_okay=False)
_PATH = click.Path(dir_okay=False)

EPILOG = "\b\nExit codes:\n" + "\n".join(f"  {code.value:>3}  {meaning}" for code, meaning in MEANING.items())


@click.group(epilog=EPILOG, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(package_name="hybrid-compute", message="%(prog)s %(version)s")
@_with_traceback
def app() -> None:
    """Run a compute task wherever it runs best."""


@app.command()
@click.argument("folder", required=False, type=click.Path(exists=True, file_okay=False, path_type=Path))
@_with_traceback
def demo(folder: Path | None) -> None:
    """Survey a tree of Python sources by the strategies local, worker and auto, and compare.

    FOLDER is any folder with *.py files; the standard library of the running interpreter by default.
    """
    from hybrid_compute.cli.demo import demo

    demo(folder)


@app.command()
@click.argument("target", metavar="MODULE:TASK")
@click.option(
    "--input", "given", metavar="JSON|@FILE|-", default="", help="JSON, a file of it, or - for standard input."
)
@_with_routing
@_with_traceback
def run(target: str, given: str, strategy: str | None, timeout: float | None) -> None:
    """Run one task and write its result as JSON.

    The input of a task with one parameter is that value; with several, an object of arguments; with none, nothing.
    A generator task writes a line for each item, as it comes. What the task prints goes to standard error.

    MODULE is an importable name (the working directory is searched first) or a path that ends in .py.
    """
    from hybrid_compute.cli.run import run
    from hybrid_compute.cli.streams import standard_output
    from hybrid_compute.cli.targets import load_task

    data = _read_input(given)
    with standard_output() as answers:
        asyncio.run(run(load_task(target), data, answers, strategy=strategy, timeout=timeout))


def _read_input(given: str) -> bytes:
    from hybrid_compute.cli.streams import BOM

    if given == "-":
        with open(0, "rb", closefd=False) as standard_input:  # `sys.stdin` is None where it was closed
            return standard_input.read().removeprefix(BOM)
    if given.startswith("@"):
        return Path(given[1:]).read_bytes().removeprefix(BOM)
    return os.fsencode(given)


@app.command()
@click.argument("target", metavar="MODULE:TASK")
@click.argument("file", metavar="FILE.ndjson")
@click.option("--output", metavar="FILE", help="Append the answers to this file, not standard output.")
@click.option("--resume", is_flag=True, help="Go on after the answers that the output file holds.")
@click.option("--keep-going", is_flag=True, help='Answer a line that fails with {"error": ...} and go on.')
@click.option("--limit", type=click.IntRange(min=1), metavar="N", help="Work on at most N lines at a time.")
@_with_routing
@_with_traceback
def map(
    target: str,
    file: str,
    output: str | None,
    resume: bool,
    keep_going: bool,
    limit: int | None,
    strategy: str | None,
    timeout: float | None,
) -> None:
    """Run a task once for each line of a file of JSON, or of standard input if FILE is -.

    Writes one line of JSON for each line that is not blank, in the same order, as soon as all before it are known.
    Without --keep-going the first line that fails ends it; with it, failed lines end in exit code 1.

    After a crash, a failure or Ctrl-C, the same command with --resume does what is left: a last line of output that
    is torn is cut off, and lines that have an answer are skipped.
    """
    from hybrid_compute.cli.map import Lines, map_file
    from hybrid_compute.cli.streams import standard_output
    from hybrid_compute.cli.targets import load_task

    if resume and output is None:
        raise click.UsageError("--resume needs --output: what went to standard output cannot be read again")
    lines = Lines(limit=limit, keep_going=keep_going, strategy=strategy, timeout=timeout)
    with standard_output() as answers:
        map_file(load_task(target), file, answers if output is None else output, lines, resume=resume)


@app.command()
@click.argument("module")
@click.option("--tool", "names", multiple=True, metavar="NAME", help="Offer this task; may be given several times.")
@click.option("--tracebacks", is_flag=True, help="Tell the client where a task failed, not only why.")
@_with_routing
@_with_traceback
def mcp(module: str, names: tuple[str, ...], tracebacks: bool, strategy: str | None, timeout: float | None) -> None:
    """Offer the tasks of a module to a language model, as tools over MCP.

    A client starts this command and talks to it by standard input and output. Offered are the tasks marked
    @task(tool=True), or those named by --tool. What tasks print goes to standard error.

    MODULE is an importable name (the working directory is searched first) or a path that ends in .py.
    """
    from hybrid_compute.cli.mcp import load_tools, offer, standard_input
    from hybrid_compute.cli.streams import standard_output

    with standard_input() as questions, standard_output() as answers:
        tools = load_tools(module, names or None)
        asyncio.run(offer(tools, questions, answers, strategy=strategy, timeout=timeout, tracebacks=tracebacks))


@app.command()
@click.argument("module")
@click.option(
    "--host", default="127.0.0.1", show_default=True, help="Where to listen. From outside, tokens are needed."
)
@click.option("--port", default=8000, show_default=True, type=click.IntRange(0, 65535), help="0 is any that is free.")
@click.option("--tenants", type=_FILE, metavar="FILE.toml", help="Who may come in, and with which tokens.")
@click.option("--origin", "origins", multiple=True, metavar="URL", help="A site whose pages may call; several times.")
@click.option("--tool", "tools", multiple=True, metavar="NAME", help="Offer this task at /mcp; several times.")
@click.option("--remember", type=_PATH, metavar="FILE", help="Keep the keys of calls in this file, beyond a restart.")
@click.option(
    "--workers", type=click.IntRange(min=1), metavar="N", help="Worker processes; as many as cores by default."
)
@click.option("--certificate", type=_FILE, metavar="FILE.pem", help="Serve over TLS with this certificate ...")
@click.option("--key", type=_FILE, metavar="FILE.pem", help="... and its key.")
@click.option("--longest", type=_SECONDS, metavar="SECONDS", help="What any call may take, whatever its client says.")
@click.option("--body", default=128, show_default=True, type=click.IntRange(1), metavar="MIB", help="For one request.")
@click.option("--patience", default=30.0, show_default=True, metavar="SECONDS", help="For calls under way at the end.")
@click.option("--tracebacks", is_flag=True, help="Tell clients where a task failed, not only why.")
@click.option("--tokens-in-url", is_flag=True, help="Also take tokens as ?access_token=, which ends up in logs.")
@click.option("--insecure", is_flag=True, help="Serve everybody who can reach this address, without tokens.")
@_with_traceback
def serve(module: str, **options: Any) -> None:
    """Serve the tasks of a module over HTTP and WebSockets.

    Without tokens only this machine is served. SIGINT or SIGTERM ends it: it takes no more calls, and answers those
    it has taken. A second signal does not wait for them.

    MODULE is an importable name (the working directory is searched first) or a path that ends in .py.
    """
    from hybrid_compute.cli.serve import serve

    serve(module, **options)


@app.command()
@_with_traceback
def token() -> None:
    """Make a token for `serve`: prints it, and on the next line its hash for the file of tenants."""
    from hybrid_compute.cli.serve import make_token

    make_token()


@app.command()
@click.argument("module")
@click.option("--schema", is_flag=True, help="Print the JSON Schema of every input and output.")
@_with_traceback
def tasks(module: str, schema: bool) -> None:
    """List the tasks of a module: name, kind, and what a runtime goes by."""
    from hybrid_compute.cli.targets import load_module
    from hybrid_compute.cli.tasks import show_schemas, show_tasks

    loaded = load_module(module)
    show_schemas(loaded) if schema else show_tasks(loaded)


@app.command()
@click.option("--json", "as_json", is_flag=True, help="Print what was found as JSON.")
@_with_traceback
def doctor(as_json: bool) -> None:
    """Say which backends work here, why others do not, and how quick each is.

    Every place runs real calls. Exit code 4 says that one of them does not work.
    """
    from hybrid_compute.cli import doctor as doctors

    found = asyncio.run(doctors.examine())
    if as_json:
        click.echo(doctors.as_json(found))
    else:
        doctors.show(found)
    doctors.insist(found)


@app.command()
@click.option("--json", "as_json", is_flag=True, help="Print the figures, in seconds, as JSON.")
@_with_traceback
def bench(as_json: bool) -> None:
    """Measure a few seconds, beside the standard library's process pool."""
    from hybrid_compute.cli import bench as benches

    figures = benches.measure()
    if as_json:
        click.echo(benches.as_json(figures))
    else:
        benches.show(figures)


@app.group()
@_with_traceback
def sandbox() -> None:
    """Look after the interpreter in which Python that is not trusted runs."""


@sandbox.command("prepare")
@click.option("--anew", is_flag=True, help="Make it again, even if it is there.")
@_with_traceback
def prepare_sandbox(anew: bool) -> None:
    """Make the interpreter, once on a machine: half a minute that the first program would have to wait for.

    It is kept in the cache of this user, in HYBRID_COMPUTE_CACHE or where the system keeps such things.
    """
    from hybrid_compute.cli.sandbox import prepare

    prepare(anew=anew)


@app.group()
@_with_traceback
def outbox() -> None:
    """Look after the calls that an outbox keeps; also while a program has its file open."""


_with_outbox_file = click.argument("file", type=click.Path(path_type=Path))
_with_keys = click.argument("keys", metavar="[KEY]...", nargs=-1)
_with_states = click.option(
    "--state",
    "states",
    type=click.Choice(["waiting", "sent", "done", "failed", "dead", "expired"]),
    multiple=True,
    help="All calls in this state; may be said more than once.",
)
_with_json = click.option("--json", "as_json", is_flag=True, help="Print JSON.")


@outbox.command("list")
@_with_outbox_file
@_with_states
@_with_json
@_with_traceback
def list_outbox(file: Path, states: Any, as_json: bool) -> None:
    """List calls as they were put: all, or those in a state. The dead letters are those `dead` and `expired`."""
    from hybrid_compute.cli import outbox as outboxes

    outboxes.show(file, states, as_json=as_json)


@outbox.command("retry")
@_with_outbox_file
@_with_keys
@click.option("--all", "everything", is_flag=True, help="All that were given up.")
@_with_json
@_with_traceback
def retry_outbox(file: Path, keys: tuple[str, ...], everything: bool, as_json: bool) -> None:
    """Let calls that were given up wait to be sent again.

    A call whose outcome is unknown is run anew: look first whether it was done. If one KEY is wrong, nothing changes.
    """
    from hybrid_compute.cli import outbox as outboxes

    if bool(keys) is everything:
        raise click.UsageError("say which calls: either KEY ... or --all")
    outboxes.retry(file, keys, as_json=as_json)


@outbox.command("drop")
@_with_outbox_file
@_with_keys
@_with_states
@_with_json
@_with_traceback
def drop_outbox(file: Path, keys: tuple[str, ...], states: Any, as_json: bool) -> None:
    """Forget calls and their results. Not those that are under way. If one KEY is wrong, nothing changes."""
    from hybrid_compute.cli import outbox as outboxes

    if bool(keys) is bool(states):
        raise click.UsageError("say which calls: either KEY ... or --state STATE")
    outboxes.drop(file, keys, states, as_json=as_json)
