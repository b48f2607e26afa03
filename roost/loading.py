"""Finding engines: those that are installed, and any `module:attribute`."""

from __future__ import annotations

import importlib
import inspect
import traceback
from collections.abc import Callable, Mapping
from functools import partial
from importlib import import_module, metadata
from typing import Any

from roost.engine import EngineRegistry
from roost.errors import EngineContractError, EngineNotFound, RoostError

ENTRY_POINTS = "roost.engines"
Options = Mapping[str, Mapping[str, Any]]


def installed_engines() -> dict[str, metadata.EntryPoint]:
    """The entry points of group `roost.engines`, by name."""
    return {point.name: point for point in metadata.entry_points(group=ENTRY_POINTS)}


def load_engines(names: str, options: Options | None = None) -> EngineRegistry:
    """Load engines for a worker.

    Args:
        names: entry-point names separated by commas, `all`, or `module:attribute`
            (a class, factory or instance), in any mixture.
        options: keyword arguments for each factory, by engine name.

    Raises:
        EngineNotFound: a name is neither installed nor importable.
        EngineContractError: what was found is no engine.
    """
    registry = EngineRegistry()
    installed = installed_engines()
    wanted = list(dict.fromkeys(name.strip() for name in names.split(",") if name.strip()))
    if "all" in wanted:
        wanted = [name for name in wanted if name != "all"] + [n for n in installed if n not in wanted]
    for name in wanted:
        keywords = dict((options or {}).get(name, {}))
        engine = _build(name, _find(name, installed), keywords)
        _foreign(name, partial(_add, registry, name, engine))
    if not len(registry):
        raise EngineNotFound(
            "no engine was named", hint="Use --engines all, or name one: `roost engines` lists them."
        )
    return registry


def _find(name: str, installed: Mapping[str, metadata.EntryPoint]) -> Any:
    if name in installed:
        return _foreign(name, installed[name].load)
    module_name, separator, attribute = name.partition(":")
    if not separator:
        known = ", ".join(sorted(installed)) or "none"
        raise EngineNotFound(
            f"no engine {name!r} is installed",
            hint=f"Installed: {known}. A file can be tried as module:attribute.",
        )
    if not module_name or not attribute or "/" in module_name or module_name.endswith(".py"):
        of_a_file = module_name.removesuffix(".py").rpartition("/")[2] or "module"
        raise EngineNotFound(
            f"engine {name!r} is not module:attribute",
            hint=f"From the folder of the file: {of_a_file}:{attribute or 'MyEngine'}",
        )
    try:
        module = _foreign(name, lambda: import_module(module_name))
    except EngineContractError as error:
        if isinstance(error.__cause__, ModuleNotFoundError) and error.__cause__.name == module_name:
            raise EngineNotFound(
                f"engine {name!r}: there is no module {module_name!r}",
                hint="It must be on Python's path; the current folder is, for `roost worker`.",
            ) from error
        raise
    if not hasattr(module, attribute):
        raise EngineNotFound(f"engine {name!r}: module {module_name!r} has no {attribute!r}")
    return getattr(module, attribute)


def _build(name: str, found: Any, keywords: dict[str, Any]) -> Any:
    is_instance = not inspect.isclass(found) and callable(getattr(found, "step", None))
    if is_instance:
        return found
    if not callable(found):
        raise EngineContractError(f"{name!r} is neither an engine nor a factory of one")
    try:
        inspect.signature(found).bind(**keywords)
    except TypeError as error:
        raise EngineContractError(
            f"engine {name!r} can't be made: {error}",
            hint=f"It is called with the keywords of [engines.{name}] in roost.toml.",
        ) from error
    return _foreign(name, lambda: found(**keywords))


def _add(registry: EngineRegistry, name: str, engine: Any) -> None:
    try:
        registry.add(engine)
    except EngineContractError as error:
        raise EngineContractError(f"{name!r} gives no engine: {error}", hint=error.hint) from error


def _foreign(name: str, call: Callable[[], Any]) -> Any:
    """Run code of an engine's package, which may do anything when it is imported or called.

    Raises:
        EngineContractError: it did anything but return.
    """
    try:
        return call()
    except RoostError:
        raise
    except (Exception, SystemExit) as error:  # code of somebody else, like a step
        raise EngineContractError(
            f"engine {name!r} can't be loaded: {type(error).__name__}: {error}", hint=_where(error)
        ) from error


def _where(error: BaseException) -> str:
    """Which line of foreign code failed."""
    frames = traceback.extract_tb(error.__traceback__)
    around = ("<frozen", __file__, importlib.__file__)
    own = [frame for frame in frames if not frame.filename.startswith(around)]
    if not own:
        return "Its own code failed."
    return f"Its own code failed: {own[-1].filename}, line {own[-1].lineno}, in {own[-1].name}."
