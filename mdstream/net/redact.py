"""URLs without their secrets: every URL that is logged, shown or published goes through here.

    wss://user:password@venue.example/ws?apikey=abc&depth=5  ─>  wss://venue.example/ws?apikey=***&depth=***

User, password and token are removed; the query's values and the fragment are masked. A secret in the path cannot be
detected.
"""

from __future__ import annotations

import re

MASK = "***"

_QUERY = re.compile(r"[?#]")
_VALUE = re.compile(r"(?<==)[^&]*")
_URL = re.compile(r"\b[A-Za-z][A-Za-z0-9+.-]*://\S+?(?=['\"`<>:;,.)\]}]*(?:\s|$))")


def redacted(url: str) -> str:
    """One URL, with or without a scheme, in a form safe to show."""
    scheme, separator, rest = url.partition("://") if "://" in url else ("", "", url)
    begins = _QUERY.search(rest)
    head, query = (rest[: begins.start()], rest[begins.start() :]) if begins else (rest, "")
    if "@" in query:  # a password may hold a "?", a value an "@": there is no telling which
        return f"{scheme}{separator}{MASK}"
    query, fragment, _ = query.partition("#")
    if query:
        query = _VALUE.sub(MASK, query) if "=" in query else query[0] + MASK
    return f"{scheme}{separator}{head.rpartition('@')[2]}{query}{fragment and fragment + MASK}"


def scrubbed(text: str) -> str:
    """A text from outside, with every URL in it redacted."""
    return _URL.sub(lambda found: redacted(found[0]), text)
