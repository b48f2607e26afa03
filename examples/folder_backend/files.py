"""A folder in which several files change together, or none."""

from __future__ import annotations

import fcntl
import hashlib
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar

import msgspec

from roost.errors import StorageCorrupt

T = TypeVar("T")


class Files:
    """What one transaction sees, and what it will write. Names are paths below the folder."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.changes: dict[str, Any] = {}  # None: the file goes

    def get(self, name: str, kind: type[T]) -> T | None:
        """The value of a file."""
        if name in self.changes:
            value = self.changes[name]
            return None if value is None else msgspec.convert(value, kind, str_keys=True)
        try:
            return msgspec.json.decode((self.root / name).read_bytes(), type=kind)
        except FileNotFoundError:
            return None
        except (msgspec.DecodeError, msgspec.ValidationError) as error:
            raise StorageCorrupt(f"{self.root / name} is not what was written: {error}") from error

    def put(self, name: str, value: Any) -> None:
        """Write a file with the transaction; None removes it."""
        self.changes[name] = msgspec.to_builtins(value, str_keys=True)

    def names(self, folder: str) -> list[str]:
        """The files of a folder, in order of their names."""
        path = self.root / folder
        found = {f"{folder}/{name}" for name in os.listdir(path)} if path.exists() else set()
        changed = {name: value for name, value in self.changes.items() if name.startswith(f"{folder}/")}
        return sorted((found | changed.keys()) - {name for name, value in changed.items() if value is None})

    def all(self, folder: str, kind: type[T]) -> list[T]:
        """The values of a folder's files."""
        return [value for name in self.names(folder) if (value := self.get(name, kind)) is not None]


class Folder:
    """A folder in which several files change together, or none.

    A transaction is one file, `redo`: once that is there, it has happened. Who takes the lock
    next carries out what a process that died in between has left.
    """

    def __init__(self, root: Path) -> None:
        self.root = root
        root.mkdir(parents=True, exist_ok=True)

    @contextmanager
    def transaction(self) -> Iterator[Files]:
        """Files to read and change; written when the block ends without an error."""
        with (self.root / "lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)  # given back by the kernel if the process dies
            redo = self.root / "redo"
            if redo.exists():
                self._carry_out(msgspec.json.decode(redo.read_bytes()))
            files = Files(self.root)
            yield files
            if files.changes:
                write_whole(redo, msgspec.json.encode(files.changes))
                self._carry_out(files.changes)

    @contextmanager
    def one(self, name: str, kind: type[T]) -> Iterator[T]:
        """The value of one file, made if it is not there, and written again when the block ends."""
        with self.transaction() as files:
            value = files.get(name, kind) or kind()
            before = msgspec.json.encode(value)
            yield value
            if msgspec.json.encode(value) != before:
                files.put(name, value)

    def _carry_out(self, changes: dict[str, Any]) -> None:
        """Idempotent: done twice it comes to the same."""
        for name, value in changes.items():
            if value is None:
                (self.root / name).unlink(missing_ok=True)
            else:
                write_whole(self.root / name, msgspec.json.encode(value))
        (self.root / "redo").unlink(missing_ok=True)


def write_whole(path: Path, content: bytes) -> None:
    """Write a file durably: afterwards it has all of the content, or it is as it was."""
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(f".{path.name}.part")
    with part.open("wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())
    part.rename(path)
    folder = os.open(path.parent, os.O_RDONLY)
    os.fsync(folder)
    os.close(folder)


def digest_of(text: str) -> str:
    """A file name for any id."""
    return hashlib.sha256(text.encode()).hexdigest()[:40]
