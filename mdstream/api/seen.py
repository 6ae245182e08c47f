"""A running `mdstream api` as others see it: its /health, for `mdstream status`."""

from __future__ import annotations

import msgspec

from mdstream.http.seen import health_of

DEFAULT_PORT = 8000


class Seen(msgspec.Struct, frozen=True):
    """`webhook`: why it is off, None if it is on."""

    status: str
    streams: int
    problems: list[str]
    webhook: str | None = None


def seen(url: str) -> Seen | None:
    """The process at an http URL; None if nothing answers there in time, or something else does."""
    return health_of(url, Seen)
