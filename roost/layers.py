"""Where settings come from: places that each give some, the one that counts less first.

Files, then the environment (`ROOST_*`, nested with `__`), then the command line. What a setting
is, and whether a value is right, is `roost.config`'s.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any
from urllib.parse import quote

from msgspec import Struct

from roost import places
from roost.errors import SettingsError

FILE_NAME = "roost.toml"
ENVIRONMENT, COMMAND_LINE = "environment", "command line"
EXTRA_VARIABLES = frozenset(
    {"ROOST_CONFIG", "ROOST_DEBUG", "ROOST_URL", "ROOST_TOKEN"}
)  # read elsewhere, or not a setting


class Layer(Struct, frozen=True):
    """Settings from one place.

    Attributes:
        name: the place, for people.
        values: nested, as in the file.
    """

    name: str
    values: Mapping[str, Any]


def layers_of(
    overrides: Mapping[str, Any], environ: Mapping[str, str], *, named: Path | None, directory: Path | None
) -> list[Layer]:
    """All that is set anywhere, the place that counts least first.

    Args:
        overrides: from the command line; None values don't count.
        named: the only file to read; None: the one that `ROOST_CONFIG` names, else what is found.
        directory: where the search for a project file begins; None: the current one.

    Raises:
        SettingsError: a file is missing or can't be read, or two files of one project hold settings.
    """
    return [
        *_files(named or _named(environ), directory or _here()),
        Layer(ENVIRONMENT, _from_environment(environ)),
        Layer(COMMAND_LINE, _without_none(overrides)),
    ]


def _named(environ: Mapping[str, str]) -> Path | None:
    return Path(environ["ROOST_CONFIG"]) if environ.get("ROOST_CONFIG") else None


def _here() -> Path:
    """The current directory; the root where it was removed."""
    try:
        return Path.cwd()
    except FileNotFoundError:
        return Path("/")


def _files(named: Path | None, directory: Path) -> list[Layer]:
    """The user's file and the project's, the one that counts less first."""
    if named is not None:
        if not named.is_file():
            raise SettingsError(f"there is no settings file {named}", hint="Check --config or ROOST_CONFIG.")
        return [Layer(str(named), _anchored(_read(named), named))]
    layers = []
    user_file = _of_user()
    if user_file is not None and user_file.is_file():
        layers.append(Layer(str(user_file), _anchored(_read(user_file), user_file)))
    for parent in (directory, *directory.parents):
        found = _project(parent)
        if found is not None:
            return [*layers, found]
        if (parent / ".git").exists():
            break
    return layers


def _of_user() -> Path | None:
    """The user's file; None: this user has no home."""
    with suppress(SettingsError):
        return places.settings() / "config.toml"
    return None


def _project(directory: Path) -> Layer | None:
    own, shared = directory / FILE_NAME, directory / "pyproject.toml"
    table = _table(_table(_read(shared), "tool", shared) or {}, "roost", shared) if shared.is_file() else None
    if own.is_file():
        if table is not None:
            raise SettingsError(
                f"both {own} and [tool.roost] in {shared} hold settings", hint="Keep one of them."
            )
        return Layer(str(own), _anchored(_read(own), own))
    return None if table is None else Layer(f"{shared} [tool.roost]", _anchored(table, shared))


def _table(values: Mapping[str, Any], name: str, path: Path) -> dict[str, Any] | None:
    found = values.get(name)
    if found is not None and not isinstance(found, dict):
        raise SettingsError(f"{path}: `{name}` is {found!r:.80}, not a table", hint="Write [tool.roost].")
    return found


def _anchored(values: dict[str, Any], file: Path) -> dict[str, Any]:
    """The settings of a file, with relative paths as of its folder: a project's work is in one place,
    in whichever of its folders a command runs.

    Raises:
        SettingsError: `home` is empty, which would be whatever folder a command runs in.
    """
    folder = file.absolute().parent
    found = dict(values)
    home, space = found.get("home"), found.get("workspace")
    if home == "":
        raise SettingsError(f"{file}: `home` is empty", hint="Name a folder, or leave it out.")
    if isinstance(home, str):
        found["home"] = _from(folder, home)
    if isinstance(space, dict) and isinstance(space.get("root"), str):
        found["workspace"] = {**space, "root": _from(folder, space["root"])}
    for name in ("storage", "artifacts"):
        scheme, mark, path = str(found.get(name, "")).partition(":")
        if scheme == "local" and path and not path.startswith(("/", "~")):
            found[name] = f"{scheme}{mark}{quote(str(folder))}/{path}"
    return found


def _from(folder: Path, path: str) -> str:
    return path if path.startswith("~") else str(folder / path)


def _read(path: Path) -> dict[str, Any]:
    import tomllib  # most workers have no file

    try:
        return tomllib.loads(path.read_text(encoding="utf-8-sig"))
    except tomllib.TOMLDecodeError as error:
        raise SettingsError(f"{path} is not TOML: {error}") from None
    except (OSError, UnicodeDecodeError) as error:
        raise SettingsError(f"{path} can't be read: {error}") from None


def _from_environment(environ: Mapping[str, str]) -> dict[str, Any]:
    """`ROOST_WORKER__CONCURRENCY=4` as {"worker": {"concurrency": "4"}}; empty is not set."""
    values: dict[str, Any] = {}
    for name, text in environ.items():
        if not name.startswith("ROOST_") or name in EXTRA_VARIABLES or not text:
            continue
        path = name.removeprefix("ROOST_").lower().split("__")
        value: Any = _leaf(text) if path[0] == "engines" else text
        for part in reversed(path):
            value = {part: value}
        values = merge(values, value)
    return values


def _leaf(text: str) -> Any:
    """An engine's option: JSON where it is JSON, else text."""
    try:
        return json.loads(text)
    except ValueError:
        return text


def sources(layers: Iterable[Layer]) -> dict[str, str]:
    """The place that each setting comes from; later layers count more."""
    found: dict[str, str] = {}
    for layer in layers:
        for path in _paths(layer.values):
            is_file = layer.name not in (ENVIRONMENT, COMMAND_LINE)
            found[path] = layer.name if is_file else f"{layer.name}: {shown(layer, path)}"
    return found


def _paths(values: Mapping[str, Any], under: str = "") -> Iterator[str]:
    for key, value in values.items():
        if isinstance(value, Mapping):
            yield from _paths(value, f"{under}{key}.")
        else:
            yield f"{under}{key}"


def _without_none(values: Mapping[str, Any]) -> dict[str, Any]:
    return {
        key: _without_none(value) if isinstance(value, Mapping) else value
        for key, value in values.items()
        if value is not None
    }


def merge(under: Mapping[str, Any], over: Mapping[str, Any]) -> dict[str, Any]:
    merged = dict(under)
    for key, value in over.items():
        standing = merged.get(key)
        is_deeper = isinstance(standing, Mapping) and isinstance(value, Mapping)
        merged[key] = merge(standing, value) if is_deeper else value  # type: ignore[arg-type]  # checked above
    return merged


def shown(layer: Layer, key: str) -> str:
    if layer.name == ENVIRONMENT:
        return "ROOST_" + key.upper().replace(".", "__")
    if layer.name == COMMAND_LINE:
        return "--" + key.rpartition(".")[2].replace("_", "-")
    return f"`{key}`"
