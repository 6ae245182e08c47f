"""Addresses without their secrets: whatever is logged, shown or published of a URL goes through here.

    wss://user:password@venue.example/ws?apikey=abc&depth=5  ─>  wss://venue.example/ws?apikey=***&depth=***

User, password and token are left out; the query's values and the fragment are masked. A secret in the path cannot be
told from a path.
"""

from __future__ import annotations

import re

MASK = "***"

_QUERY = re.compile(r"[?#]")
_VALUE = re.compile(r"(?<==)[^&]*")
_URL = re.compile(r"\b[A-Za-z][A-Za-z0-9+.-]*://\S+?(?=['\"`<>:;,.)\]}]*(?:\s|$))")


def redacted(url: str) -> str:
    """One address, with or without a scheme, as it may be shown."""
    scheme, separator, rest = url.partition("://") if "://" in url else ("", "", url)
    begins = _QUERY.search(rest)
    head, query = (rest[: begins.start()], rest[begins.start() :]) if begins else (rest, "")
    if "@" in query:  # a password may hold a "?", a value an "@": which of the two it is, nobody can tell
        return f"{scheme}{separator}{MASK}"
    query, fragment, _ = query.partition("#")
    if query:
        query = _VALUE.sub(MASK, query) if "=" in query else query[0] + MASK
    return f"{scheme}{separator}{head.rpartition('@')[2]}{query}{fragment and fragment + MASK}"


def scrubbed(text: str) -> str:
    """A text of somebody else's, each address in it as it may be shown."""
    return _URL.sub(lambda found: redacted(found[0]), text)
