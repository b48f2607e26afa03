"""The tables in the READMEs of modules and examples: inputs, outputs and resources, made from the files.

python -m tests.infra.readme     writes them anew
"""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

from tests.infra.hcl import Configuration, read
from tests.infra.terraform import INFRA

BEGIN, END = "<!-- BEGIN_TF_DOCS -->", "<!-- END_TF_DOCS -->"


def folders() -> list[Path]:
    """Those of all modules and examples."""
    return sorted(
        path.parent for kind in ("modules", "examples") for path in (INFRA / kind).glob("*/main.tf")
    )


def tables(found: Configuration) -> str:
    """The text between the marks."""
    resources = sorted({type_ for type_, _, _ in found.typed("resource")})
    lines = ["## Resources", "", *(f"* `{name}`" for name in resources), ""] if resources else []
    inner = found.named("module")
    if inner:
        lines += ["Modules: " + ", ".join(f"[{name}]({body['source']})" for name, body in inner.items()), ""]
    lines += ["## Inputs", "", "| name | description | type | default |", "| --- | --- | --- | --- |"]
    for name, body in sorted(found.named("variable").items()):
        default = f"`{_shown(body['default'])}`" if "default" in body else "required"
        lines.append(f"| `{name}` | {_cell(body['description'])} | `{_type(body['type'])}` | {default} |")
    lines += ["", "## Outputs", "", "| name | description |", "| --- | --- |"]
    for name, body in sorted(found.named("output").items()):
        lines.append(f"| `{name}` | {_cell(body['description'])} |")
    return "\n".join(lines)


def _cell(text: str) -> str:
    return text.replace('\\"', '"').replace("|", "\\|")


def _type(text: Any) -> str:
    bare = str(text).removeprefix("${").removesuffix("}")
    return re.sub(r"\s+", " ", bare).replace("({", "({ ").replace("})", " })")


def _shown(value: Any) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    if value is None:
        return "null"
    return '""' if value == "" else value if isinstance(value, str) else json.dumps(value)


def with_tables(text: str, found: Configuration) -> str:
    """A README's text with its tables as they should be."""
    before, _, rest = text.partition(BEGIN)
    after = rest.partition(END)[2]
    return f"{before}{BEGIN}\n{tables(found)}\n{END}{after}"


def main() -> None:
    for folder in folders():
        path = folder / "README.md"
        path.write_text(with_tables(path.read_text(encoding="utf-8"), read(folder)), encoding="utf-8")


if __name__ == "__main__":
    main()
