"""Where a user's files are: by the XDG Base Directory Specification, on macOS in the Library.

platformdirs says the same, and where fonts and documents are; for that it takes 360 kB of every worker.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path

from roost.errors import SettingsError


def data() -> Path:
    """Roost's folder for what is to be kept.

    Raises:
        SettingsError: this user has no home, and no variable names a folder.
    """
    return _folder("XDG_DATA_HOME", ".local/share", "Application Support")


def settings() -> Path:
    """Roost's folder of the user's own settings; raises as `data`."""
    return _folder("XDG_CONFIG_HOME", ".config", "Application Support")


def cache() -> Path:
    """Roost's folder for what can be had again; raises as `data`."""
    return _folder("XDG_CACHE_HOME", ".cache", "Caches")


def _folder(variable: str, in_home: str, in_library: str) -> Path:
    named = Path(os.environ.get(variable, ""))
    if named.is_absolute():  # others are to be ignored, by the specification
        return named / "roost"
    home = Path(os.path.expanduser("~"))
    if not home.is_absolute():
        raise SettingsError("this user has no home", hint=f"Set HOME, ROOST_HOME or {variable}.")
    return home / ("Library/" + in_library if sys.platform == "darwin" else in_home) / "roost"
