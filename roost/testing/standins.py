"""Stand-ins for AWS on this machine: processes that answer as DynamoDB, SQS, S3 and STS do.

    with start_ministack(directory) as standin:
        os.environ |= standin.environ
        …

For tests and for `roost dev aws`; nothing that they hold outlives them. There are two,
written independently of each other: ministack, which is faithful under parallel calls, and
moto, which is served one request at a time here. Neither is AWS; `tests/aws/test_standins.py`
shows where they differ from it.
"""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import sys
import tempfile
import threading
import time
import urllib.request
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from importlib import util
from pathlib import Path
from types import TracebackType
from typing import IO, Self

from roost import places
from roost.errors import RoostError

try:
    import fcntl
except ImportError:  # not on Windows; there the one that renames first wins
    fcntl = None  # type: ignore[assignment]  # checked where it is used

HOST = "127.0.0.1"
REGION = "us-east-1"
SERVICES = ("dynamodb", "dynamodbstreams", "sqs", "s3", "sts", "iam")
MINISTACK = "ministack==1.5.33"  # pinned: how exactly it differs from AWS is written in tests

_PROGRAM = Path(__file__).with_name("standin_process.py")
_START_SECONDS = 60.0  # a loaded machine takes long to import them; 1 to 3 s else
_STOP_SECONDS = 5.0
_ANSWER_SECONDS = 30.0
_LOOK_SECONDS = 0.03
_INSTALL_SECONDS = 300.0
_LOG_LINES = 15


class StandInFailed(RoostError):
    """A stand-in can't be installed or started, or no longer answers."""


class StandIn:
    """A running stand-in; `start_ministack` and `start_moto` make it. A context manager.

    Attributes:
        name: `ministack` or `moto`.
        url: its endpoint, for every service.
        pid: of its process.
        log: where its output goes.
        environ: what the AWS SDK needs to find it.
        ahead_seconds: how far its clock was moved on.
    """

    def __init__(
        self, name: str, url: str, process: subprocess.Popen[str], log: Path, *, reset_path: str
    ) -> None:
        self.name = name
        self.url = url
        self.pid = process.pid
        self.log = log
        self.environ: Mapping[str, str] = {
            "AWS_ENDPOINT_URL": url,
            "AWS_ACCESS_KEY_ID": "test",
            "AWS_SECRET_ACCESS_KEY": "test",
            "AWS_DEFAULT_REGION": REGION,
            "AWS_REGION": REGION,
            "AWS_EC2_METADATA_DISABLED": "true",
        }
        self.ahead_seconds = 0.0
        self._process = process
        self._reset_path = reset_path
        self._turn = threading.Lock()

    @property
    def is_running(self) -> bool:
        """Whether its process is there."""
        return self._process.poll() is None

    def reset(self) -> None:
        """Forget all tables, queues and buckets.

        Raises:
            StandInFailed: it does not answer.
        """
        request = urllib.request.Request(self.url + self._reset_path, method="POST")  # noqa: S310  http
        try:
            urllib.request.urlopen(request, timeout=_ANSWER_SECONDS).close()  # noqa: S310  http
        except OSError as error:
            raise StandInFailed(f"{self.name} at {self.url} does not reset: {error}") from error

    def advance(self, seconds: float) -> None:
        """Move its clock on, so that visibility timeouts and delays pass without a wait.

        Raises:
            StandInFailed: it does not answer.
        """
        with self._turn:
            try:
                _stdin(self._process).write(f"advance {seconds!r}\n")
                _stdin(self._process).flush()
                answer = _stdout(self._process).readline()
            except (OSError, ValueError) as error:
                raise StandInFailed(f"{self.name} at {self.url} is gone: {error}") from error
        self.ahead_seconds += seconds
        if answer != "done\n":
            raise StandInFailed(f"{self.name} at {self.url} does not move its clock: {_last_lines(self.log)}")

    def stop(self) -> None:
        """End its process; idempotent."""
        _end(self._process)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()


def start_ministack(
    directory: Path | None = None, *, port: int | None = None, services: Sequence[str] = SERVICES
) -> StandIn:
    """Start ministack; the first time, install it into an environment of its own (20 s).

    Args:
        directory: for its log; by default a new temporary one.
        port: on 127.0.0.1; by default a free one.
        services: that answer.

    Raises:
        StandInFailed: it can't be installed, or does not come up.
    """
    install_ministack()
    return _start(
        "ministack",
        [str(_home_of_ministack()[1])],
        directory,
        port,
        paths=("/_ministack/health", "/_ministack/reset"),
        environ={"SERVICES": ",".join(services)},
    )


def start_moto(directory: Path | None = None, *, port: int | None = None) -> StandIn:
    """Start moto from this environment, in a form that takes one request at a time.

    Args:
        directory: for its log; by default a new temporary one.
        port: on 127.0.0.1; by default a free one.

    Raises:
        StandInFailed: it is not installed, or does not come up.
    """
    if not has_moto():
        raise StandInFailed("moto is not installed here", hint="pip install 'moto[server]'")
    return _start("moto", [sys.executable], directory, port, paths=("/moto-api/data.json", "/moto-api/reset"))


def has_moto() -> bool:
    """Whether moto and what its server needs are installed in this environment."""
    return all(util.find_spec(name) is not None for name in ("moto", "flask"))


def _start(
    name: str,
    python: Sequence[str],
    directory: Path | None,
    port: int | None,
    *,
    paths: tuple[str, str],
    environ: Mapping[str, str] | None = None,
) -> StandIn:
    """Start a stand-in and wait until it answers; `paths` are those of its health and reset."""
    directory = directory or Path(tempfile.mkdtemp(prefix=f"roost-{name}-"))
    directory.mkdir(parents=True, exist_ok=True)
    with _reserved(port) as chosen:
        log = directory / f"{name}-{chosen}.log"
        command = [*python, "-P", str(_PROGRAM), name, str(chosen)]
        process = _spawn(command, log, {**_clean_environ(), **(environ or {})})
        url = f"http://{HOST}:{chosen}"
        with ExitStack() as unless_it_answers:
            unless_it_answers.callback(_end, process)
            _wait_until_it_answers(process, url + paths[0], log)
            unless_it_answers.pop_all()
    return StandIn(name, url, process, log, reset_path=paths[1])


@contextmanager
def _reserved(port: int | None) -> Iterator[int]:
    """A port that nobody listens on, kept from others until the stand-in listens.

    A socket that is bound and does not listen keeps the system from giving the port to
    anybody else, and lets one who names it and sets SO_REUSEADDR (both stand-ins do) listen
    there (socket(7)).
    """
    with socket.socket() as reservation:
        reservation.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            reservation.bind((HOST, port or 0))
        except OSError as error:
            raise StandInFailed(f"port {port} of {HOST}: {error.strerror}") from error
        yield reservation.getsockname()[1]


def _clean_environ() -> dict[str, str]:
    """This process' environment, without what would lead a stand-in's own SDK elsewhere."""
    return {
        name: value for name, value in os.environ.items() if not name.startswith(("AWS_", "MINISTACK_"))
    } | {"AWS_ACCESS_KEY_ID": "test", "AWS_SECRET_ACCESS_KEY": "test"}


def _spawn(command: Sequence[str], log: Path, environ: Mapping[str, str]) -> subprocess.Popen[str]:
    with log.open("wb") as output:
        return subprocess.Popen(  # noqa: S603  our own program
            command,
            env=environ,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=output,
            text=True,
            start_new_session=True,  # Ctrl-C is for who started it, who then stops it
        )


def _wait_until_it_answers(process: subprocess.Popen[str], url: str, log: Path) -> None:
    end = time.monotonic() + _START_SECONDS
    while time.monotonic() < end:
        if process.poll() is not None:
            raise StandInFailed(
                f"the stand-in ended by itself with code {process.returncode}: {_last_lines(log)}"
            )
        try:
            urllib.request.urlopen(url, timeout=_ANSWER_SECONDS).close()  # noqa: S310  http
        except OSError:  # nobody listens there yet
            time.sleep(_LOOK_SECONDS)
        else:
            return
    raise StandInFailed(
        f"the stand-in does not answer at {url} after {_START_SECONDS:g} s: {_last_lines(log)}"
    )


def _last_lines(log: Path) -> str:
    lines = log.read_text(encoding="utf-8", errors="replace").splitlines()[-_LOG_LINES:]
    return "\n".join([f"the end of {log}:", *lines]) if lines else f"{log} is empty"


def _end(process: subprocess.Popen[str]) -> None:
    """SIGTERM, and SIGKILL if it does not follow; reaps it and closes its pipes."""
    if process.poll() is None:
        process.terminate()
        try:
            process.wait(_STOP_SECONDS)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
    for pipe in (process.stdin, process.stdout):
        if pipe is not None:
            pipe.close()


def _stdin(process: subprocess.Popen[str]) -> IO[str]:
    assert process.stdin is not None
    return process.stdin


def _stdout(process: subprocess.Popen[str]) -> IO[str]:
    assert process.stdout is not None
    return process.stdout


def _home_of_ministack() -> tuple[Path, Path]:
    """Where ministack's environment is or is to be, and its interpreter."""
    version = f"py{sys.version_info.major}.{sys.version_info.minor}"
    place = places.cache() / "standins"
    home = place / f"{MINISTACK.replace('==', '-')}-{version}"
    return home, home / ("Scripts/python.exe" if os.name == "nt" else "bin/python")


def install_ministack() -> bool:
    """Make ministack's environment if it is not there; whether it was not.

    ministack pins botocore, and the AWS SDK of this environment pins another. The
    environment is made aside and renamed, so that it is there whole or not at all; one
    process makes it while others wait.

    Raises:
        StandInFailed: it can't be made.
    """
    home, python = _home_of_ministack()
    if python.exists():
        return False
    home.parent.mkdir(parents=True, exist_ok=True)
    with (home.parent / "lock").open("w") as lock:
        if fcntl is not None:
            fcntl.flock(lock, fcntl.LOCK_EX)  # who holds it is done after twice _INSTALL_SECONDS at most
        if not python.exists():
            _install(MINISTACK, home)
    return True


def _install(requirement: str, home: Path) -> None:
    aside = Path(tempfile.mkdtemp(prefix=f"{home.name}-", dir=home.parent))
    bin_directory = aside / ("Scripts" if os.name == "nt" else "bin")
    pip = [str(bin_directory / "python"), "-m", "pip", "--disable-pip-version-check", "--no-input"]
    try:
        for command in ([sys.executable, "-m", "venv", str(aside)], [*pip, "install", "-q", requirement]):
            done = subprocess.run(  # noqa: S603  our own commands
                command, capture_output=True, text=True, timeout=_INSTALL_SECONDS, check=False
            )
            if done.returncode:
                lines = (done.stderr or done.stdout).splitlines()[-_LOG_LINES:]
                raise StandInFailed("\n".join([f"{' '.join(command)} failed:", *lines]))
        shutil.rmtree(home, ignore_errors=True)  # one whose interpreter is gone
        aside.rename(home)
    except subprocess.TimeoutExpired as error:
        raise StandInFailed(f"installing {requirement} takes longer than {_INSTALL_SECONDS:g} s") from error
    finally:
        shutil.rmtree(aside, ignore_errors=True)
