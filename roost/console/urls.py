"""Work ids in addresses: `NAMESPACE/ID` is one path segment, `NAMESPACE~ID`.

No id has a tilde, so an address can't be read two ways.
"""

from __future__ import annotations

from starlette.convertors import Convertor, register_url_convertor

from roost.models import NAMESPACE_MARK

_SLASH = "~"
_MARKED = frozenset({".", "..", "new", "bulk"})  # ids that would be something else in an address


def segment(work_id: str) -> str:
    """A work id as a path segment; `.` and `..` get a mark, lest a browser walk up."""
    text = work_id.replace(NAMESPACE_MARK, _SLASH)
    return f"{_SLASH}{text}" if text in _MARKED else text


class WorkIdConvertor(Convertor[str]):
    """`{work_id:work}` in a route."""

    regex = "(?:[a-z0-9-]{0,63}~)?[A-Za-z0-9._:-]{1,128}"

    def convert(self, value: str) -> str:
        """The work id of a segment."""
        return value.removeprefix(_SLASH).replace(_SLASH, NAMESPACE_MARK)

    def to_string(self, value: str) -> str:
        """The segment of a work id."""
        return segment(value)


class VersionConvertor(Convertor[int]):
    """`{version:version}` in a route: 1 to 999,999,999."""

    regex = "[1-9][0-9]{0,8}"

    def convert(self, value: str) -> int:
        """The number."""
        return int(value)

    def to_string(self, value: int) -> str:
        """The segment."""
        return str(value)


def register() -> None:
    """Make `{…:work}` and `{…:version}` known to starlette."""
    register_url_convertor("work", WorkIdConvertor())
    register_url_convertor("version", VersionConvertor())
    register_words("digest", "[0-9a-f]{64}")


def register_words(name: str, words: str) -> None:
    """Make `{…:NAME}` match some words only, such as `cancel|retry`."""

    class Words(Convertor[str]):
        regex = words

        def convert(self, value: str) -> str:
            return value

        def to_string(self, value: str) -> str:
            return value

    register_url_convertor(name, Words())
