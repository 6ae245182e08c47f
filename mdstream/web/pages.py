"""The HTML pages, with their shared style sheet inlined, and for a larger one the scripts that it loads from us."""

from __future__ import annotations

import base64
import hashlib
import re
from functools import cache
from importlib import resources
from typing import NamedTuple

EMPTY = "<style></style>"


class Page(NamedTuple):
    """A page and its headers, which let a browser run only the page's own script and style, nothing injected."""

    text: str
    headers: dict[str, str]


@cache
def page(name: str) -> Page:
    """The page `name`.html."""
    folder = resources.files("mdstream.web")
    style = folder.joinpath("pages.css").read_text()
    text = folder.joinpath(f"{name}.html").read_text().replace(EMPTY, f"<style>\n{style}</style>")
    return Page(text, {"Content-Security-Policy": policy(text)})


@cache
def assets(name: str) -> dict[str, bytes]:
    """What the page `name` loads besides, by file name: the files in the folder of that name."""
    return {file.name: file.read_bytes() for file in resources.files("mdstream.web").joinpath(name).iterdir()}


def policy(html: str) -> str:
    """The Content-Security-Policy of a page: the hashes of its inline scripts and styles, scripts of ours if it loads
    any, and requests only to us."""
    script, style = (" ".join(_hashes(html, tag)) or "'none'" for tag in ("script", "style"))
    if "<script src=" in html:
        script = f"{script} 'self'".removeprefix("'none' ")
    return (
        f"default-src 'none'; script-src {script}; style-src {style}; connect-src 'self'; "
        "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    )


def _hashes(html: str, tag: str) -> list[str]:
    found = re.findall(rf"<{tag}>(.*?)</{tag}>", html, re.DOTALL)
    digests = (base64.b64encode(hashlib.sha256(content.encode()).digest()).decode() for content in found)
    return [f"'sha256-{digest}'" for digest in digests]
