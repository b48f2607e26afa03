"""Bundles: whole journals with their blobs in one file, to be looked at where their storage is not.

A bundle is a zip file: `journals.jsonl` has the entries as they are stored, one a line, and
`blobs/DIGEST` the artifacts and large bodies that they name.
"""

from __future__ import annotations

import re
import zipfile
from collections.abc import AsyncIterator, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import msgspec

from roost.core import bodies
from roost.core.client import Client
from roost.errors import ArtifactNotFound, InputError, StorageCorrupt
from roost.journal.entries import Entry
from roost.journal.events import Committed
from roost.journal.projection import project
from roost.journal.retention import is_endless
from roost.storage.codec import StoredEntry, decode_entry, encode_entry
from roost.storage.ports import Backend

JOURNALS = "journals.jsonl"
WORK_MAX = 1000  # work items of one bundle
BYTES_MAX = 1 << 31  # of one bundle, unpacked
_BLOB = re.compile(r"blobs/([0-9a-f]{64})")
_CHUNK_BYTES = 1 << 18


async def save(client: Client, backend: Backend, work_ids: Sequence[str], path: Path) -> int:
    """Write a bundle of work items; how many entries are in it.

    Raises:
        WorkNotFound: there is none of an id; nothing is left at `path`.
        InputError: these are too many, or the file can't be written.
    """
    if len(work_ids) > WORK_MAX:
        raise InputError(f"{len(work_ids)} work items are more than {WORK_MAX} for one bundle")
    part = path.with_name(f"{path.name}.part")
    try:
        with zipfile.ZipFile(part, "w", zipfile.ZIP_DEFLATED) as file:
            count = await _save(client, backend, work_ids, file)
        part.replace(path)
    except OSError as error:
        raise InputError(f"{path} can't be written: {error.strerror}") from error
    finally:
        part.unlink(missing_ok=True)
    return count


async def _save(client: Client, backend: Backend, work_ids: Sequence[str], file: zipfile.ZipFile) -> int:
    lines: list[bytes] = []
    digests: set[str] = set()
    for work_id in dict.fromkeys(work_ids):
        async for entry in client.events(work_id):
            lines.append(msgspec.json.encode(encode_entry(entry)))
            digests |= await _digests(backend, entry)
    file.writestr(JOURNALS, b"\n".join(lines))
    for digest in sorted(digests):
        chunks = backend.artifacts.read(digest)
        try:
            begin = await anext(chunks, b"")
        except ArtifactNotFound:
            continue
        with file.open(f"blobs/{digest}", "w") as blob:
            blob.write(begin)
            async for chunk in chunks:
                blob.write(chunk)
    return len(lines)


async def _digests(backend: Backend, entry: Entry) -> set[str]:
    """The blobs that an entry needs: its body, and what its snapshot names."""
    if entry.body is None:
        return set()
    found = {entry.body.digest} if entry.body.digest else set()
    if isinstance(entry.event, Committed) and entry.event.artifacts:
        with suppress(StorageCorrupt):  # what it is a delta of is not kept any more
            snapshot = bodies.load_snapshot(
                bodies.Dumped(await bodies.load(backend, entry)),
                work_id=entry.work_id,
                engine=entry.control.engine,
                version=entry.event.version,
            )
            found |= {artifact.digest for artifact in snapshot.artifacts}
    return found


async def load(backend: Backend, path: Path) -> int:
    """Put what a bundle holds into an empty storage; how many entries that were.

    Raises:
        InputError: it is no bundle, or larger than one may be.
    """
    try:
        with zipfile.ZipFile(path) as file:
            if sum(info.file_size for info in file.infolist()) > BYTES_MAX:
                raise InputError(f"{path} is larger than {BYTES_MAX} bytes, unpacked")
            await _load_blobs(backend, file)
            return await _load_entries(backend, file)
    except (OSError, KeyError, zipfile.BadZipFile, msgspec.MsgspecError) as error:
        raise InputError(f"{path} is no bundle: {error}", hint="`roost export` writes one.") from error


async def _load_blobs(backend: Backend, file: zipfile.ZipFile) -> None:
    for name in file.namelist():
        found = _BLOB.fullmatch(name)
        if found is None:
            continue
        stored = await backend.artifacts.put(_chunks(file, name))
        if stored.digest != found[1]:
            raise InputError(f"the bundle's blob {found[1]} has other bytes", hint="Export it again.")


async def _chunks(file: zipfile.ZipFile, name: str) -> AsyncIterator[bytes]:
    with file.open(name) as blob:
        while chunk := blob.read(_CHUNK_BYTES):
            yield chunk


def _entry_of(line: bytes) -> Entry:
    """The entry of a line. A newer Roost may have added columns; the format says whether they matter."""
    columns = msgspec.json.decode(line, type=list[Any])
    return decode_entry(msgspec.convert(columns[: len(StoredEntry._fields)], StoredEntry))


async def _load_entries(backend: Backend, file: zipfile.ZipFile) -> int:
    count = 0
    tails: dict[str, Entry] = {}
    with file.open(JOURNALS) as lines:
        for line in lines:
            entry = _entry_of(line)
            before = tails.get(entry.work_id)
            is_next = entry.position == (0 if before is None else before.position + 1)
            if not is_next and not (before is not None and is_endless(entry.control)):
                raise InputError(f"the bundle lacks entries of {entry.work_id} before {entry.position}")
            await backend.journal.append(entry)
            tails[entry.work_id] = entry
            count += 1
    for tail in tails.values():
        await backend.index.put(project(tail))
    return count
