"""The files of `infra/`, parsed but not evaluated: for checks that need no Terraform."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import hcl2
from hcl2.utils import SerializationOptions

from tests.infra.terraform import INFRA

_OPTIONS = SerializationOptions(strip_string_quotes=True, with_comments=False)
Block = dict[str, Any]


@dataclass(frozen=True)
class Configuration:
    """One folder with `.tf` files.

    Attributes:
        text: of all files.
        blocks: by kind (`resource`, `variable`, …), as the parser gives them.
    """

    folder: Path
    text: str
    blocks: dict[str, list[Block]]

    @property
    def name(self) -> str:
        """Its path below `infra/`."""
        return str(self.folder.relative_to(INFRA))

    def named(self, kind: str) -> dict[str, Block]:
        """Blocks with one label, such as variables and outputs."""
        return {name: body for block in self.blocks.get(kind, []) for name, body in block.items()}

    def typed(self, kind: str) -> list[tuple[str, str, Block]]:
        """Blocks with two labels, such as resources: type, name, body."""
        return [
            (type_, name, body)
            for block in self.blocks.get(kind, [])
            for type_, names in block.items()
            for name, body in names.items()
        ]


def configurations(infra: Path = INFRA) -> list[Configuration]:
    """All folders that hold a configuration."""
    return [read(folder) for folder in sorted({path.parent for path in infra.rglob("*.tf")})]


def read(folder: Path) -> Configuration:
    """Parse a folder's files."""
    texts = [path.read_text(encoding="utf-8") for path in sorted(folder.glob("*.tf"))]
    blocks: dict[str, list[Block]] = {}
    for text in texts:
        for kind, found in hcl2.loads(text, serialization_options=_OPTIONS).items():
            blocks.setdefault(kind, []).extend(found)
    return Configuration(folder, "\n".join(texts), blocks)
