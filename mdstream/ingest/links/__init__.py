"""Connections to venues that carry whole frames: a websocket, TCP with a framer, or a client library's queue.

ws://, wss:// ──> WebsocketLink        tcp:// ──> TcpLink, with the framer that the venue declares
SCHEME:// ──> the class, mostly a QueueLink, that the venue declares with its library
"""

from __future__ import annotations

from mdstream.errors import SettingsError
from mdstream.ingest.links.link import Link
from mdstream.ingest.links.tcp import TcpLink
from mdstream.ingest.links.websocket import WebsocketLink
from mdstream.net.redact import redacted
from mdstream.venues import of_library
from mdstream.venues.feed import Library
from mdstream.venues.framer import Framer


def new_link(url: str, framer: Framer | None, library: Library | None = None) -> Link:
    """A link to `url`, not open yet. Raises SettingsError if it is no address for it, without its secrets."""
    if url.isprintable() and " " not in url:
        if library is not None and url.startswith(f"{library.scheme}://"):
            made: Link = of_library(library.link, library.scheme, url)
            return made
        if framer is None and library is None and url.startswith(("ws://", "wss://")):
            return WebsocketLink(url)
        if framer is not None and url.startswith("tcp://"):
            return TcpLink(url, framer)
    scheme = f"{library.scheme}://" if library else "ws:// or wss://" if framer is None else "tcp://"
    raise SettingsError(f"{redacted(url)!r}: expected an address that begins with {scheme}")
