"""Fixtures of the console's tests, which run here once more."""

from tests.console.conftest import desk, front, make

__all__ = ["desk", "front", "make"]
