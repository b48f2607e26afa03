"""Which Markdown files are pages, and how what they link to becomes one."""

from __future__ import annotations

import posixpath
import re
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).parents[3]
GUIDES = "examples/guides"
_PATTERNS = (
    "README.md",
    "CHANGELOG.md",
    "CONTRIBUTING.md",
    "examples/*.md",
    "examples/guides/**/*.md",
    "infra/**/*.md",
    "localstack/*.md",
)
_FENCE = re.compile(r"^(```+)(\w+) [^\n]*$", re.MULTILINE)
_LINK = re.compile(r"(?<=\]\()(?!https?:|mailto:|#)([^)\s#]+)(#[^)\s]*)?(?=\))")
_LANGUAGES = {".py": "python", ".sh": "bash", ".toml": "toml", ".yml": "yaml", ".tf": "hcl", ".json": "json"}
CODE = re.compile(r"^(```+).*?^\1|`[^`\n]+`", re.DOTALL | re.MULTILINE)
"""What no link is looked for in."""


def pages() -> list[str]:
    """Every Markdown file of the site, by its path in the repository."""
    found = (path for pattern in _PATTERNS for path in ROOT.glob(pattern))
    return sorted({path.relative_to(ROOT).as_posix() for path in found if "/." not in str(path)})


def linked(page: str, text: str) -> Iterator[str]:
    """The files and folders that a page links to, by their paths in the repository."""
    for match in _LINK.finditer(CODE.sub("", text)):
        yield posixpath.normpath(posixpath.join(posixpath.dirname(page), match[1]))


def sources() -> dict[str, str]:
    """Files that are no Markdown and that a page links to -> the page of the site that shows them."""
    files = {
        target
        for page in pages()
        for target in linked(page, (ROOT / page).read_text())
        if (ROOT / target).is_file() and not target.endswith((".md", ".png"))
    }
    return {target: f"{target}.md" for target in sorted(files)}


def shown(target: str) -> str:
    """A page that shows a file."""
    path = ROOT / target
    language = _LANGUAGES.get(path.suffix, "text")
    return f"# {path.name}\n\n`{target}`\n\n`````{language}\n{path.read_text()}`````\n"


def for_the_site(page: str, text: str) -> str:
    """Markdown of the repository as MkDocs reads it.

    What follows a fence's language (it is for the tests) goes, and a link to a file of code or to
    a folder leads to the page that shows it.
    """
    code: list[str] = []

    def keep(match: re.Match[str]) -> str:
        code.append(match[0])
        return f"\0{len(code) - 1}\0"

    def lead(match: re.Match[str]) -> str:
        target, anchor = match[1], match[2] or ""
        if target.endswith((".md", ".png")):
            return f"{target}{anchor}"
        if (ROOT / page).parent.joinpath(target, "README.md").is_file():
            return f"{target.rstrip('/')}/README.md{anchor}"
        return f"{target}.md{anchor}"

    text = _LINK.sub(lead, CODE.sub(keep, _FENCE.sub(r"\1\2", text)))
    return re.sub(r"\0(\d+)\0", lambda match: code[int(match[1])], text)
