"""Where a user's files are, by the conventions of the system; a user may have no home."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import platformdirs

from roost.errors import SettingsError


def data() -> Path:
    """Roost's folder for what is to be kept.

    Raises:
        SettingsError: this user has no home, and no variable names a folder.
    """
    return _folder(platformdirs.user_data_path, "XDG_DATA_HOME")


def settings() -> Path:
    """Roost's folder of the user's own settings; raises as `data`."""
    return _folder(platformdirs.user_config_path, "XDG_CONFIG_HOME")


def cache() -> Path:
    """Roost's folder for what can be had again; raises as `data`."""
    return _folder(platformdirs.user_cache_path, "XDG_CACHE_HOME")


def _folder(find: Callable[[str], Path], variable: str) -> Path:
    try:
        folder = find("roost")
    except RuntimeError:  # nobody's home is known; before platformdirs 4.14 `~` is left as it is
        folder = Path("~")
    if not folder.is_absolute():
        raise SettingsError("this user has no home", hint=f"Set HOME, ROOST_HOME or {variable}.")
    return folder
