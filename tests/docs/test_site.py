"""The documentation site is whole: strict, complete, and without an asset of another host."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from markdown_it import MarkdownIt

from tests.docs.site.reference import PYTHON, commands, public_names, settings_page
from tests.docs.site.sources import ROOT, linked, pages

CONFIG = (ROOT / "mkdocs.yml").read_text()
ASSET = re.compile(
    r"""(?:src|srcset)=["']?(https?:)?//|<link[^>]+href=["']?(https?:)?//|@import|url\(["']?(https?:)?//"""
)


def build(out: Path) -> None:
    """Make the site, as `mkdocs build --strict` does."""
    done = subprocess.run(
        [sys.executable, "-m", "mkdocs", "build", "--strict", "--quiet", "--site-dir", str(out)],
        cwd=ROOT,
        env={**os.environ, "NO_MKDOCS_2_WARNING": "1"},
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.returncode == 0, done.stdout + done.stderr


def html(site: Path, page: str) -> str:
    path = Path(page)
    folder = path.parent if path.name == "README.md" else path.with_suffix("")
    return (site / folder / "index.html").read_text()


def test_every_page_is_in_the_navigation() -> None:
    _, _, nav = CONFIG.partition("\nnav:\n")
    named = set(re.findall(r"[\w./-]+\.md", nav))
    folders = tuple(re.findall(r"\S+/$", nav, re.MULTILINE))
    assert not {page for page in pages() if page not in named and not page.startswith(folders)}


def test_every_link_of_the_repository_leads_to_a_file_of_it() -> None:
    """So that it holds where the repository is read without the site."""
    broken = {
        (page, target)
        for page in pages()
        for target in linked(page, (ROOT / page).read_text())
        if not (ROOT / target).exists()
    }
    assert not broken


def test_every_decision_is_in_the_list_of_decisions() -> None:
    """And has the four parts that each of them has."""
    folder = ROOT / "examples/guides/decisions"
    listed = re.findall(r"\]\(([\w-]+\.md)\)", (folder / "README.md").read_text())
    found = sorted(path.name for path in folder.glob("*.md") if path.name != "README.md")
    assert listed == found
    for name in found:
        parts = re.findall(r"^## (.+)$", (folder / name).read_text(), re.MULTILINE)
        assert parts == ["Context", "Decision", "Consequences", "Alternatives"], name


def test_every_setting_is_explained() -> None:
    """The reference is made of the docstrings of the settings' models."""
    lines = [line.split(" | ") for line in settings_page().splitlines() if line.startswith("| `")]
    assert len(lines) > 40
    assert not [line[0] for line in lines if line[-1].strip("| ") == ""]


def check_no_other_host(site: Path) -> None:
    found = [
        (path.relative_to(site), match[0])
        for path in site.rglob("*")
        if path.suffix in (".html", ".css")
        for match in ASSET.finditer(path.read_text())
    ]
    assert not found
    wanted = {
        (page.parent / target).resolve()
        for page in site.rglob("index.html")
        for target in re.findall(r"""(?:src|link[^>]+href)="([^"#?:]+\.\w+)\"""", page.read_text())
    }
    assert len(wanted) > 3
    assert not {path for path in wanted if not path.is_file()}


def check_no_block_is_lost(site: Path) -> None:
    """Python-Markdown reads lists and fences in its own way; no block may be lost by it."""
    gfm = MarkdownIt("commonmark").enable("table")
    counted = {"<pre": "<pre", "<li>": "<li>", "<table>": "<table>", "<h2": "<h2"}
    for page in pages():
        expected = gfm.render((ROOT / page).read_text())
        [shown] = re.findall(r"<article.*?</article>", html(site, page), re.DOTALL)
        for mark in counted:
            assert shown.count(mark) == expected.count(mark), (page, mark)


def check_the_reference(site: Path) -> None:
    for module in PYTHON:
        shown = html(site, f"reference/python/{module}.md")
        missing = [
            name for name in public_names(module) if f">{name}<" not in shown and f'.{name}"' not in shown
        ]
        assert not missing, module
    text = html(site, "reference/commands.md")
    assert all(f'id="roost-{name.replace(" ", "-")}"' in text for name, _ in commands())


@pytest.mark.soak
def test_the_site_is_strict_whole_and_asks_no_other_host(tmp_path: Path) -> None:
    """One test, since the site is built once for it: 10 s of CPU."""
    build(tmp_path)
    check_no_other_host(tmp_path)
    check_no_block_is_lost(tmp_path)
    check_the_reference(tmp_path)
