"""The last contents that a sink was given, by number: a number that comes again with another one is a conflict.

A sink that does not look at what it has stored drops such an event as a repeat, or keeps both. It notices what it
remembers: some seconds of the stream, more than a writer that restarts repeats.
"""

from __future__ import annotations

from collections.abc import Hashable, Iterable

from mdstream.sinks.numbers import Conflicts

MOST_REMEMBERED = 100_000
"""At most twice as many are: about 150 bytes each."""

Numbered = tuple[Hashable, str, int, bytes]
"""Kind, symbol, number and content of an event."""


class Remembered:
    """Contents by kind, symbol and number, as hashes; the oldest are forgotten."""

    def __init__(self, conflicts: Conflicts, *, most: int = MOST_REMEMBERED) -> None:
        self._conflicts, self._most = conflicts, most
        self._young: dict[tuple[Hashable, str, int], int] = {}
        self._old: dict[tuple[Hashable, str, int], int] = {}

    def note(self, events: Iterable[Numbered]) -> None:
        """Take in events, those that are repeats among them; what stands first counts as the number's content."""
        young, old, found = self._young, self._old, []
        for kind, symbol, number, value in events:
            key, content = (kind, symbol, number), hash(value)
            if young.setdefault(key, content) != content or old.get(key, content) != content:
                found.append((symbol, number))
        if found:
            self._conflicts.found(found)
        if len(young) >= self._most:
            self._young, self._old = {}, young
