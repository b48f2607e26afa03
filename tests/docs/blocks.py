"""The code blocks of the documents, and how each is run."""

from __future__ import annotations

import re
from dataclasses import dataclass

from tests.docs.site.sources import ROOT, pages

_BLOCK = re.compile(r"^```(\w*)([^\n]*)\n(.*?)^```", re.DOTALL | re.MULTILINE)


@dataclass(frozen=True)
class Block:
    """A fenced block.

    Attributes:
        mark: what follows the language: `background` (with the port that it will answer on), the
            name of the file that it is saved as, `step` for the body of one, or nothing.
    """

    page: str
    language: str
    mark: str
    text: str

    @property
    def first_line(self) -> str:
        """By which it is known."""
        return self.text.strip().splitlines()[0] if self.text.strip() else ""


def blocks(page: str) -> list[Block]:
    """All fenced blocks of a page, in order."""
    found = _BLOCK.findall((ROOT / page).read_text())
    return [Block(page, language, mark.strip(), text) for language, mark, text in found]


def all_blocks() -> list[Block]:
    """Those of every page of the documents."""
    return [block for page in pages() for block in blocks(page)]
