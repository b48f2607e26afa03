"""The engines that the console knows: those that are installed where it runs."""

from __future__ import annotations

import logging

from roost.config import Settings
from roost.engine import EngineRegistry
from roost.errors import RoostError
from roost.loading import installed_engines, load_engines

log = logging.getLogger("roost.console")


def engines_here(settings: Settings) -> EngineRegistry:
    """The installed engines that can be loaded; a broken one is left out and named in the log."""
    registry = EngineRegistry()
    for name in installed_engines():
        try:
            for spec in load_engines(name, settings.engines):
                registry.add(spec.engine)
        except RoostError as error:
            log.warning("engine %s is left out: %s", name, error, extra={"event": "console.engine"})
    return registry
