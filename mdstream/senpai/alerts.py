"""Alerts: what is wrong now, sent when it begins and when it ends. Pure."""

from __future__ import annotations

from collections.abc import Callable

from mdstream.senpai.messages import Alert, AlertKind

MAX_OPEN = 10_000
"""Alerts beyond these are not begun, but counted."""

Key = tuple[AlertKind, str, str]


class _Open:
    __slots__ = ("count", "first_ns", "last_ns", "reason")

    def __init__(self, at_ns: int, reason: str) -> None:
        self.first_ns = self.last_ns = at_ns
        self.count, self.reason = 0, reason


class Alerts:
    """The open alerts by kind, symbol and subject. `send` gets each message."""

    def __init__(self, send: Callable[[Alert], object]) -> None:
        self._send = send
        self._open: dict[Key, _Open] = {}
        self.unsent = 0

    def seen(self, kind: AlertKind, symbol: str, at_ns: int, reason: str, *, subject: str = "", count: int = 1) -> None:
        """Something is wrong at a time: an alert begins, or its last time moves and its count rises."""
        key = kind, symbol, subject
        found = self._open.get(key)
        if found is None:
            if len(self._open) >= MAX_OPEN:
                self.unsent += 1
                return
            found = self._open[key] = _Open(at_ns, reason)
            found.count = count
            self._tell(key, found, "begin")
            return
        found.count += count
        found.last_ns = max(found.last_ns, at_ns)

    def end(self, kind: AlertKind, symbol: str, *, subject: str = "") -> None:
        """It is no longer so; nothing happens if it was not."""
        key = kind, symbol, subject
        found = self._open.pop(key, None)
        if found is not None:
            self._tell(key, found, "end")

    def last_ns(self, kind: AlertKind, symbol: str) -> int | None:
        """When an open alert was last seen."""
        found = self._open.get((kind, symbol, ""))
        return None if found is None else found.last_ns

    def __len__(self) -> int:
        return len(self._open)

    def _tell(self, key: Key, found: _Open, state: str) -> None:
        kind, symbol, subject = key
        name = ".".join(filter(None, (kind, symbol, subject, str(found.first_ns))))
        self._send(
            Alert(
                name,
                kind,
                symbol,
                "begin" if state == "begin" else "end",
                found.first_ns,
                found.last_ns,
                found.count,
                found.reason,
                subject,
            )
        )
