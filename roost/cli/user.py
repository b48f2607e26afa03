"""Who types."""

from __future__ import annotations


def user() -> str:
    """Who types; written into the entries that a command appends."""
    import getpass

    try:
        return getpass.getuser()
    except (OSError, KeyError):
        return "client"  # a process without a user, as in some containers
