"""What MkDocs calls: the repository's Markdown and the generated reference are the site's pages.

Paths of pages are those of the repository, so that a link holds on either.
"""

from __future__ import annotations

import sys
from pathlib import Path

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files
from mkdocs.structure.pages import Page

sys.path.insert(0, str(Path(__file__).parents[3]))  # `mkdocs` does not look beside mkdocs.yml

from tests.docs.site import reference
from tests.docs.site.sources import ROOT, for_the_site, pages, shown, sources

PICTURES = ("examples/console.png",)


STYLE_PATH = "assets/roost.css"
STYLE = """/* A name in the first column of a table is never broken. */
.md-typeset table:not([class]) td:first-child code { word-break: keep-all; }
"""


def on_config(config: MkDocsConfig) -> MkDocsConfig:
    """A folder in the navigation stands for its pages, in order."""
    config.nav = [_unfolded(entry) for entry in config.nav or []]
    return config


def _unfolded(entry: object) -> object:
    if isinstance(entry, dict):
        return {title: _unfolded(inner) for title, inner in entry.items()}
    if isinstance(entry, list):
        return [_unfolded(inner) for inner in entry]
    if isinstance(entry, str) and entry.endswith("/"):
        return [page for page in pages() if page.startswith(entry)]
    return entry


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """The site's files, instead of what is in `docs_dir`."""
    theirs = [file for file in files if file.src_dir != config.docs_dir]
    ours = [File.generated(config, path, abs_src_path=str(ROOT / path)) for path in (*pages(), *PICTURES)]
    code = [File.generated(config, page, content=shown(path)) for path, page in sources().items()]
    made = [File.generated(config, path, content=text) for path, text in reference.pages().items()]
    style = File.generated(config, STYLE_PATH, content=STYLE)
    return Files([*theirs, *ours, *code, *made, style])


def on_page_markdown(markdown: str, page: Page, config: MkDocsConfig, files: Files) -> str:
    """The page's text as MkDocs reads it; generated pages are written so already."""
    if page.file.abs_src_path is None:
        return markdown
    return for_the_site(page.file.src_uri, markdown)
