"""The HTML pages of a worker, each with the style sheet that they share put into it: one file, one request."""

from __future__ import annotations

import base64
import hashlib
import re
from functools import cache
from importlib import resources
from typing import NamedTuple

EMPTY = "<style></style>"


class Page(NamedTuple):
    """What is sent. The headers let a browser run this page's own script and style, and nothing that got into it."""

    text: str
    headers: dict[str, str]


@cache
def page(name: str) -> Page:
    """The page `name`.html."""
    folder = resources.files("mdstream.web")
    style = folder.joinpath("pages.css").read_text()
    text = folder.joinpath(f"{name}.html").read_text().replace(EMPTY, f"<style>\n{style}</style>")
    return Page(text, {"Content-Security-Policy": policy(text)})


def policy(html: str) -> str:
    """The Content-Security-Policy of a page with scripts and styles inside: their hashes, and questions to us alone."""
    script, style = (" ".join(_hashes(html, tag)) or "'none'" for tag in ("script", "style"))
    return (
        f"default-src 'none'; script-src {script}; style-src {style}; connect-src 'self'; "
        "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    )


def _hashes(html: str, tag: str) -> list[str]:
    found = re.findall(rf"<{tag}>(.*?)</{tag}>", html, re.DOTALL)
    digests = (base64.b64encode(hashlib.sha256(content.encode()).digest()).decode() for content in found)
    return [f"'sha256-{digest}'" for digest in digests]
