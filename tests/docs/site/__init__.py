"""The documentation site: the repository's own Markdown, at its own paths, and a generated reference.

    pip install -e '.[docs]' && mkdocs serve

`hooks` hands MkDocs the pages, `sources` says which they are, `reference` writes what is made
of the code.
"""
