"""`roost dev aws`: the AWS backend on this machine, with no account and no docker."""

from __future__ import annotations

import os
import shlex
import signal
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, suppress
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, NoReturn

import typer

from roost.cli import aws, completion, options
from roost.cli.output import OK, print_json_line, say
from roost.errors import RoostError

if TYPE_CHECKING:
    from roost.config import Settings
    from roost.storage.aws.clients import Clients
    from roost.storage.aws.names import Names
    from roost.testing.standins import StandIn

_LOOK_SECONDS = 0.2
_SPARE_SECONDS = 5.0  # for a worker to leave, on top of its grace period
_STEERING = (  # what would lead the SDK elsewhere in spite of the exported environment
    "AWS_DEFAULT_PROFILE",
    "AWS_ENDPOINT_URL_",
    "AWS_IGNORE_CONFIGURED_ENDPOINT_URLS",
    "AWS_PROFILE",
    "AWS_SESSION_TOKEN",
    "AWS_USE_DUALSTACK_ENDPOINT",
    "AWS_USE_FIPS_ENDPOINT",
)

app = typer.Typer(no_args_is_help=True, help="Try Roost's AWS backend on this machine.")


class Which(StrEnum):
    """The stand-ins that there are."""

    MOTO = "moto"
    MINISTACK = "ministack"


class DevEnded(RoostError):
    """Something that `roost dev` started ended by itself."""


@app.callback()
def _group() -> None:
    """Keeps `aws` a command of its own while there is only one."""


@app.command("aws")
def dev_aws(
    which: Annotated[
        Which | None,
        typer.Option(
            "--standin", help="Which stand-in for AWS; by default moto where it is installed, else ministack."
        ),
    ] = None,
    port: Annotated[
        int | None,
        typer.Option(min=1, max=65535, help="Of the stand-in, on 127.0.0.1; by default a free one."),
    ] = None,
    engines: Annotated[
        str | None,
        typer.Option(
            "--engines",
            metavar="A,B",
            help="What the worker runs, as `roost worker` takes it.",
            autocompletion=completion.engines,
        ),
    ] = None,
    has_worker: Annotated[bool, typer.Option("--worker/--no-worker", help="Start a worker, too.")] = True,
    as_json: options.Json = False,
    config: options.Config = None,
) -> None:
    """Start a stand-in for AWS, make a stack on it, and start a worker; Ctrl-C ends all.

    Prints the environment to set in another shell: lines of shell on stdout, or one JSON
    document with `export` and `unset`. What the stand-in holds is lost at the end. ministack
    is installed into an environment of its own when it is first used.

    Examples:

      roost dev aws

      roost dev aws --standin ministack --engines watchlist

      roost dev aws --no-worker --json
    """
    settings = options.settings_of("aws", None, config, worker={"engines": engines})
    with ExitStack() as stack, _interrupted_by_sigterm():
        standin = stack.enter_context(_start(which, port, stack))
        exports = {**standin.environ, "ROOST_STORAGE": f"aws:{settings.aws.stack}"}
        unsets = sorted(name for name in os.environ if name.startswith(_STEERING) and name not in exports)
        _use(exports, unsets)
        _make_stack(settings)
        worker = stack.enter_context(_worker(settings, config)) if has_worker else None
        _print(exports, unsets, as_json=as_json)
        say(f"{standin.name} answers at {standin.url}; its log is {standin.log}. Ctrl-C ends it.")
        with suppress(KeyboardInterrupt):
            _stay(standin, worker)


def _start(which: Which | None, port: int | None, stack: ExitStack) -> StandIn:
    from roost.testing import standins

    directory = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="roost-dev-")))
    chosen = which or (Which.MOTO if standins.has_moto() else Which.MINISTACK)
    say(f"starting {chosen} ...")
    match chosen:
        case Which.MOTO:
            return standins.start_moto(directory, port=port)
        case Which.MINISTACK:
            return standins.start_ministack(directory, port=port)


def _use(exports: Mapping[str, str], unsets: Sequence[str]) -> None:
    """Point this process, and those that it starts, at the stand-in and at nothing else."""
    os.environ.update(exports)
    for name in unsets:
        del os.environ[name]


def _make_stack(settings: Settings) -> None:
    async def make(clients: Clients, names: Names) -> int:
        from roost.storage.aws.admin import create_stack

        for resource in await create_stack(clients, names):
            say(f"made {resource.kind} {resource.name}")
        return OK

    aws.run(settings.aws, make)


def _print(exports: Mapping[str, str], unsets: Sequence[str], *, as_json: bool) -> None:
    if as_json:
        print_json_line({"export": dict(exports), "unset": list(unsets)})
        return
    for name in unsets:
        print(f"unset {name}")
    for name, value in exports.items():
        print(f"export {name}={shlex.quote(value)}")
    sys.stdout.flush()


@contextmanager
def _worker(settings: Settings, config: Path | None) -> Iterator[subprocess.Popen[bytes]]:
    """A worker process; it drains at the end."""
    command = [sys.executable, "-m", "roost", "worker", "--engines", settings.worker.engines]
    if config is not None:
        command += ["--config", str(config)]
    process = subprocess.Popen(  # noqa: S603  our own program
        command,
        stdin=subprocess.DEVNULL,
        stdout=sys.stderr.fileno(),
        start_new_session=True,  # Ctrl-C in the terminal is for us; we tell it to drain, once
    )
    try:
        yield process
    finally:
        process.terminate()
        try:
            process.wait(timeout=settings.worker.grace_seconds + _SPARE_SECONDS)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def _stay(standin: StandIn, worker: subprocess.Popen[bytes] | None) -> NoReturn:
    never = threading.Event()
    while not never.wait(_LOOK_SECONDS):
        if not standin.is_running:
            raise DevEnded(
                f"{standin.name} ended by itself", hint=f"Its log: {standin.log.read_text()[-2000:]}"
            )
        if worker is not None and worker.poll() is not None:
            raise DevEnded(f"the worker ended by itself, with code {worker.returncode}")
    raise AssertionError("unreachable")


@contextmanager
def _interrupted_by_sigterm() -> Iterator[None]:
    """Let SIGTERM end the command as Ctrl-C does."""
    before = signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)
