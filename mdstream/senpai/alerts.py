"""Alerts: what is wrong now, sent when it begins and when it ends. Pure."""

from __future__ import annotations

from collections.abc import Callable, Iterable

import msgspec

from mdstream.senpai.messages import Alert, AlertKind, AlertState

MAX_OPEN = 10_000
"""Alerts beyond these are not begun, but counted."""

Key = tuple[AlertKind, str, str]


class Open(msgspec.Struct, array_like=True, kw_only=True):
    """An alert that has begun."""

    kind: AlertKind
    symbol: str
    subject: str
    first_ns: int
    last_ns: int
    count: int
    reason: str


class Alerts:
    """The open alerts by kind, symbol and subject. `send` gets each message."""

    def __init__(self, send: Callable[[Alert], object]) -> None:
        self._send = send
        self._open: dict[Key, Open] = {}
        self.unsent = 0

    def seen(self, kind: AlertKind, symbol: str, at_ns: int, reason: str, *, subject: str = "", count: int = 1) -> None:
        """Something is wrong at a time: an alert begins, or its last time moves and its count rises."""
        key = kind, symbol, subject
        found = self._open.get(key)
        if found is None:
            if len(self._open) >= MAX_OPEN:
                self.unsent += 1
                return
            found = self._open[key] = Open(
                kind=kind, symbol=symbol, subject=subject, first_ns=at_ns, last_ns=at_ns, count=count, reason=reason
            )
            self._tell(found, "begin")
            return
        found.count += count
        found.last_ns = max(found.last_ns, at_ns)

    def end(self, kind: AlertKind, symbol: str, *, subject: str = "") -> None:
        """It is no longer so; nothing happens if it was not."""
        key = kind, symbol, subject
        found = self._open.pop(key, None)
        if found is not None:
            self._tell(found, "end")

    def memory(self) -> list[Open]:
        """The open ones."""
        return list(self._open.values())

    def remember(self, memory: Iterable[Open]) -> None:
        """These are open, and no other."""
        self._open = {(each.kind, each.symbol, each.subject): each for each in memory}

    def last_ns(self, kind: AlertKind, symbol: str) -> int | None:
        """When an open alert was last seen."""
        found = self._open.get((kind, symbol, ""))
        return None if found is None else found.last_ns

    def __len__(self) -> int:
        return len(self._open)

    def _tell(self, found: Open, state: AlertState) -> None:
        kind, symbol, subject, first_ns = found.kind, found.symbol, found.subject, found.first_ns
        name = ".".join(filter(None, (kind, symbol, subject, str(first_ns))))
        self._send(Alert(name, kind, symbol, state, first_ns, found.last_ns, found.count, found.reason, subject))
