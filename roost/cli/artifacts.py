"""`roost artifacts list|get|verify`."""

from __future__ import annotations

import contextlib
import os
import re
import sys
import tempfile
from codecs import getincrementaldecoder
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, BinaryIO

import typer

from roost.cli import options
from roost.cli.output import FAILED, OK, is_terminal, plain, print_json, print_table, safe, say
from roost.errors import ArtifactNotFound, InputError, RoostError

if TYPE_CHECKING:
    from roost.models import Artifact
    from roost.wiring import Runtime

_CHUNK_BYTES = 1 << 18
_DIGEST_START = re.compile(r"[0-9a-f]{8,64}")

app = typer.Typer(no_args_is_help=True, help="List and fetch what work items produced.")


@app.command("list")
def list_artifacts(
    work_id: options.WorkIdArgument,
    as_json: options.Json = False,
    storage: options.Storage = None,
    home: options.Home = None,
    config: options.Config = None,
) -> None:
    """List the artifacts of a work item.

    Examples:

      roost artifacts list "$WORK_ID" --json
    """

    async def use(runtime: Runtime) -> int:
        found = (await runtime.client.status(work_id)).artifacts
        if as_json:
            print_json([plain(artifact) for artifact in found])
        else:
            rows = [(a.name, a.size_bytes, a.content_type, a.digest) for a in found]
            print_table(("NAME", "BYTES", "TYPE", "SHA-256"), rows, empty="no artifacts")
        return OK

    options.run(options.settings_of(storage, home, config), use)


@app.command("get")
def get_artifact(
    work_id: options.WorkIdArgument,
    name: Annotated[str, typer.Argument(metavar="NAME", help="Its name, or 8 digits or more of its digest.")],
    output: Annotated[
        Path | None, typer.Option("--output", "-o", metavar="FILE", help="Write it there; - is stdout.")
    ] = None,
    force: Annotated[bool, typer.Option("--force", help="Replace the file if it is there.")] = False,
    storage: options.Storage = None,
    home: options.Home = None,
    config: options.Config = None,
) -> None:
    """Fetch an artifact, verified: the bytes that were stored, or an error.

    Examples:

      roost artifacts get "$WORK_ID" report.json

      roost artifacts get "$WORK_ID" report.json -o report.json
    """
    is_stdout = output is None or output == Path("-")
    if output is not None and not is_stdout:
        _check_output(output, force)

    async def use(runtime: Runtime) -> int:
        artifact = _find((await runtime.client.status(work_id)).artifacts, name, work_id)
        if output is None or is_stdout:
            await _to_stdout(runtime, artifact)
        else:
            await _to_file(runtime, artifact, output)
            say(f"{output}: {artifact.size_bytes} bytes, verified")
        return OK

    options.run(options.settings_of(storage, home, config), use)


def _check_output(output: Path, force: bool) -> None:
    """Refuse what an artifact can't be written to, or would destroy.

    Raises:
        InputError: it is a folder or a device, or there already.
    """
    if output.is_dir():
        raise InputError(f"{output} is a folder", hint="Name the file in it.")
    if output.exists() and not output.is_file():
        raise InputError(f"{output} is no ordinary file", hint="Without -o the artifact goes to stdout.")
    if output.exists() and not force:
        raise InputError(f"{output} is there already", hint="Add --force to replace it.")


def _find(artifacts: Sequence[Artifact], name: str, work_id: str) -> Artifact:
    """The artifact of that name, the newest if there are several; else the one of that digest."""
    found = [artifact for artifact in artifacts if artifact.name == name]
    if not found and _DIGEST_START.fullmatch(name):
        found = [artifact for artifact in artifacts if artifact.digest.startswith(name)]
        if len({artifact.digest for artifact in found}) > 1:
            raise InputError(
                f"several artifacts have a digest that begins with {name}", hint="Give more of it."
            )
    if not found:
        raise ArtifactNotFound(
            f"work item {work_id!r} has no artifact {name!r}",
            hint=f"`roost artifacts list {work_id}` lists them.",
        )
    return found[-1]


async def _to_stdout(runtime: Runtime, artifact: Artifact) -> None:
    """Write it out once the whole of it is verified."""
    with tempfile.TemporaryFile() as file:
        async for chunk in runtime.backend.artifacts.read(artifact.digest):
            file.write(chunk)
        file.seek(0)
        if is_terminal():
            _show(artifact, file)
            return
        while chunk := file.read(_CHUNK_BYTES):
            sys.stdout.buffer.write(chunk)
    sys.stdout.buffer.flush()


def _show(artifact: Artifact, file: BinaryIO) -> None:
    """Text on a terminal, with nothing in it that steers the terminal."""
    if not artifact.content_type.startswith("text/") and artifact.content_type != "application/json":
        raise InputError(
            f"{artifact.name} is {artifact.content_type}, not text", hint="Write it to a file: -o FILE"
        )
    decoder = getincrementaldecoder("utf-8")(errors="replace")
    while chunk := file.read(_CHUNK_BYTES):
        print(safe(decoder.decode(chunk), keep_lines=True), end="")
    print(safe(decoder.decode(b"", final=True)))


async def _to_file(runtime: Runtime, artifact: Artifact, output: Path) -> None:
    """Write beside the file, then rename: nobody sees half of it."""
    temporary: str | None = None
    try:
        with tempfile.NamedTemporaryFile(dir=output.parent, prefix=f".{output.name}-", delete=False) as file:
            temporary = file.name
            async for chunk in runtime.backend.artifacts.read(artifact.digest):
                file.write(chunk)
        mask = os.umask(0)
        os.umask(mask)
        os.chmod(temporary, 0o666 & ~mask)  # as any new file has it; temporary ones are private
        os.replace(temporary, output)
    except OSError as error:
        raise InputError(f"{output} can't be written: {error.strerror}") from None
    finally:
        if temporary is not None:
            with contextlib.suppress(FileNotFoundError):
                Path(temporary).unlink()


@app.command("verify")
def verify_artifacts(
    work_id: options.WorkIdArgument,
    as_json: options.Json = False,
    storage: options.Storage = None,
    home: options.Home = None,
    config: options.Config = None,
) -> None:
    """Read every artifact of a work item and compare its digest; exit code 1 if one is wrong.

    Examples:

      roost artifacts verify "$WORK_ID"
    """

    async def use(runtime: Runtime) -> int:
        rows = []
        for artifact in (await runtime.client.status(work_id)).artifacts:
            fault = await _fault(runtime, artifact)
            rows.append({"name": artifact.name, "digest": artifact.digest, "ok": not fault, "fault": fault})
        if as_json:
            print_json(rows)
        else:
            shown = [(row["name"], "ok" if row["ok"] else row["fault"], row["digest"]) for row in rows]
            print_table(("NAME", "RESULT", "SHA-256"), shown, empty="no artifacts")
        return OK if all(row["ok"] for row in rows) else FAILED

    options.run(options.settings_of(storage, home, config), use)


async def _fault(runtime: Runtime, artifact: Artifact) -> str:
    try:
        async for _ in runtime.backend.artifacts.read(artifact.digest):
            pass
    except RoostError as error:
        return str(error)
    return ""
