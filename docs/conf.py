"""Sphinx builds the documentation from the Markdown files as they lie in the repository: `make docs`.

The source folder is the repository's root, so that a link means the same here and where the repository is browsed.
"""

from __future__ import annotations

import re
import tomllib
from pathlib import Path

from sphinx.application import Sphinx

ROOT = Path(__file__).parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
# The pages outside docs/.
BESIDE = ("README.md", "CHANGELOG.md", "CONTRIBUTING.md", "SECURITY.md", "released/README.md", "released/scores.md")

project = "Overtone"
author = PROJECT["authors"][0]["name"]
version = release = PROJECT["version"]

extensions = ["myst_parser"]
root_doc = "docs/index"
include_patterns = ["docs/**.md", *BESIDE]
# Whole folders, so that Sphinx does not walk through environments and recordings.
exclude_patterns = [path.name for path in ROOT.iterdir() if path.name not in {"docs", "released", *BESIDE}]
# Anchors are made from headings as code hosts make them.
myst_heading_anchors = 4
# A model registry's `models:/` and the like are no links.
myst_url_schemes = ["http", "https", "mailto"]
nitpicky = True
highlight_language = "text"

html_theme = "furo"
html_title = f"Overtone {version}"
html_copy_source = False
html_show_sourcelink = False
# Summaries are fetched, which a browser refuses for pages that are opened from a folder.
html_show_search_summary = False
# build/docs/index.html leads to the start page, which lies one folder deeper.
html_extra_path = ["front"]
# The theme's own shortens the two labels of code too much to be read.
pygments_style = "friendly"
pygments_dark_style = "monokai"


def add_contents(_app: Sphinx, page: str, source: list[str]) -> None:
    """Sections of the start page become parts of the menu: each a list of links to pages, which Markdown can show anywhere."""
    if page != root_doc:
        return
    for heading, body in re.findall(r"(?m)^## (.+)\n((?:(?!## ).*\n?)*)", source[0]):
        pages = [f"/{(ROOT / 'docs' / target).resolve().relative_to(ROOT)}" for target in links(body)]
        source[0] += f"\n\n```{{toctree}}\n:hidden:\n:caption: {heading}\n\n" + "\n".join(pages) + "\n```\n"


def links(text: str) -> list[str]:
    """Targets of the first link of each item of a list."""
    return re.findall(r"(?m)^- \[[^\]]+\]\(([^)#]+\.md)\)", text)


def setup(app: Sphinx) -> None:
    app.connect("source-read", add_contents)
