"""mdstream/roles/feeds.py: what /feeds says of a source that has nobody to compare with.

s  0 . . . 10           20          30 . . . . 60        trades of the only source until 10, then heartbeats alone
   good                 silent since 10
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import pytest

from mdstream.records import WS, RawEncoder
from mdstream.roles.feeds import LOG_STANDS_NS, feeds
from mdstream.stream.canonical import Canonical
from mdstream.stream.rules import Policy, Rules
from mdstream.venues.providers import PROVIDERS

S = 1_000_000_000
T0_NS = 1_767_625_200 * S


@dataclass(frozen=True)
class Raw:
    """A raw record of Binance."""

    value: bytes
    offset: int
    headers: Sequence[tuple[str, bytes]]
    timestamp: int = T0_NS // 1_000_000
    key: bytes = b"BTCUSDT"


class Log:
    """A partition whose only source trades ten times a second until `until_s`, its ingestor beats until `beats_s`."""

    def __init__(self, *, until_s: float, beats_s: float, provider: str = "binance") -> None:
        self.canonical = Canonical(
            "md.raw.crypto",
            0,
            [each() for each in PROVIDERS.values()],
            rules=Rules(Policy(tuple(PROVIDERS))),
            announces=lambda _: True,
        )
        self._offset, self._provider = 0, provider
        for tenth in range(int(max(until_s, beats_s) * 10) + 1):
            at_ns = T0_NS + tenth * S // 10
            if tenth <= until_s * 10:
                self._add(_trade(tenth, at_ns), at_ns, b"trade")
            if tenth % 10 == 0 and tenth <= beats_s * 10:
                self._add(b"{}", at_ns, b"heartbeat")

    def _add(self, value: bytes, at_ns: int, kind: bytes) -> None:
        *_, headers = RawEncoder(self._provider, WS).encode(b"BTCUSDT", value, kind, at_ns)
        self.canonical.step([Raw(value, self._offset, headers)])
        self._offset += 1

    def source(self, now_s: float) -> dict[str, Any]:
        """What /feeds says of it."""
        message: dict[str, Any] = feeds([self.canonical], now_ns=T0_NS + int(now_s * S))["BTCUSDT"]["sources"][
            self._provider
        ]
        return message


def _trade(number: int, at_ns: int) -> bytes:
    ms = at_ns // 1_000_000
    return (
        f'{{"stream":"btcusdt@trade","data":{{"e":"trade","E":{ms},"s":"BTCUSDT","t":{number},"p":"1.5","q":"2",'
        f'"T":{ms},"m":true,"M":true}}}}'
    ).encode()


def test_lone_source_that_speaks_is_good() -> None:
    """Silence shorter than its patience is nothing."""
    message = Log(until_s=10, beats_s=12).source(12)
    assert (message["health"], message["reason"], message["silent_since"]) == ("good", None, None)


def test_lone_source_that_is_silent_for_long_is_not_good() -> None:
    """Its ingestor beats, its socket is up, and nothing comes: whoever looks has to see it."""
    message = Log(until_s=10, beats_s=60).source(60)
    assert message["health"] == "silent"
    assert message["silent_since"] == T0_NS + 10 * S
    assert message["reason"].startswith("silent since 2026-01-05 15:00:10 UTC: ")
    assert message["silent_s"]["trade"] == pytest.approx(50, abs=0.3)


def test_lone_source_whose_ingestor_is_gone_is_not_good() -> None:
    """Log time stops then, and no silence grows: our own clock shows it."""
    log = Log(until_s=10, beats_s=10)
    assert log.source(10 + LOG_STANDS_NS / S - 1)["health"] == "good"
    message = log.source(10 + LOG_STANDS_NS / S)
    assert message["health"] == "silent"
    assert message["silent_since"] == T0_NS + 10 * S
    assert message["reason"].startswith("nothing was read since 2026-01-05 15:00:10 UTC: no ingestor writes")


def test_silence_on_the_page_changes_nothing_in_the_stream() -> None:
    """Who is followed depends on the log alone: looking has no effect."""
    looked, left_alone = Log(until_s=10, beats_s=60), Log(until_s=10, beats_s=60)
    looked.source(60)
    assert looked.canonical.instruments == left_alone.canonical.instruments
    assert looked.canonical.log == left_alone.canonical.log
