"""The HTML pages of a worker, each with the style sheet that they share put into it: one file, one request."""

from __future__ import annotations

from functools import cache
from importlib import resources

EMPTY = "<style></style>"


@cache
def page(name: str) -> str:
    """The page `name`.html."""
    folder = resources.files("mdstream.web")
    style = folder.joinpath("pages.css").read_text()
    return folder.joinpath(f"{name}.html").read_text().replace(EMPTY, f"<style>\n{style}</style>")
