"""A venue's frames without market data: acks, errors, notices. Counted, and logged up to a limit."""

from __future__ import annotations

import logging

import msgspec

from mdstream.errors import FrameError
from mdstream.ingest.counters import FeedCounters
from mdstream.ticks import Control
from mdstream.venues.feed import Provider

log = logging.getLogger(__name__)

LINES_PER_CONNECTION = 50


class Controls:
    """Reads one connection's frames that belong to no instrument."""

    def __init__(self, provider: Provider, counters: FeedCounters) -> None:
        self._provider, self._counters = provider, counters
        self._lines = 0

    def read(self, frame: bytes) -> None:
        """Count and log a frame that is an error or a notice, or that cannot be understood."""
        try:
            ticks = self._provider.decode(frame)
        except (FrameError, msgspec.MsgspecError) as error:
            self._counters.not_understood += 1
            self._log(f"sent a frame that is not understood ({error}): {frame[:200]!r}")
            return
        for tick in ticks:
            if isinstance(tick, Control):
                self._read(tick)

    def _read(self, control: Control) -> None:
        if control.kind == "error":
            self._counters.venue_errors += 1
            self._log(f"answered with an error: {control.detail}")
        elif control.kind == "notice":
            self._counters.venue_notices += 1
            self._log(f"announced: {control.detail}")

    def _log(self, text: str) -> None:
        self._lines += 1
        if self._lines <= LINES_PER_CONNECTION:
            log.warning("%s %s", self._provider.name, text)
        if self._lines == LINES_PER_CONNECTION:
            log.warning("%s: further lines of this connection are left out, /metrics counts on", self._provider.name)
