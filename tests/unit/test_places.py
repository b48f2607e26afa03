"""Where a user's files are."""

from __future__ import annotations

import pwd
import sys
from pathlib import Path

import pytest

from roost import places
from roost.config import load_settings
from roost.errors import SettingsError

VARIABLES = {
    "XDG_DATA_HOME": places.data,
    "XDG_CONFIG_HOME": places.settings,
    "XDG_CACHE_HOME": places.cache,
}


@pytest.fixture(autouse=True)
def nothing_is_set(monkeypatch: pytest.MonkeyPatch) -> None:
    for variable in VARIABLES:
        monkeypatch.delenv(variable, raising=False)
    monkeypatch.setenv("HOME", "/home/ada")


@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere they are elsewhere")
def test_places_are_those_of_the_system() -> None:
    expected = [".local/share/roost", ".config/roost", ".cache/roost"]
    assert [place() for place in VARIABLES.values()] == [Path("/home/ada") / path for path in expected]


@pytest.mark.parametrize("variable", VARIABLES)
def test_a_variable_names_another_place(monkeypatch: pytest.MonkeyPatch, variable: str) -> None:
    by_default = VARIABLES[variable]()
    monkeypatch.setenv(variable, "")
    assert VARIABLES[variable]() == by_default
    monkeypatch.setenv(variable, "/srv")
    assert VARIABLES[variable]() == Path("/srv/roost")


def test_a_user_without_a_home_names_a_place(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """As in a container that runs under any number: nobody there has that number."""

    def nobody(number: int) -> None:
        raise KeyError(number)

    monkeypatch.delenv("HOME")
    monkeypatch.setattr(pwd, "getpwuid", nobody)
    with pytest.raises(SettingsError, match="no home"):
        load_settings(environ={}, directory=tmp_path)
    settings = load_settings(environ={"ROOST_HOME": "/srv/store"}, directory=tmp_path)
    assert settings.home == Path("/srv/store")
