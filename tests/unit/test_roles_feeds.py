"""mdstream/roles/feeds.py: what /feeds says of a source that has nobody to compare with.

s  0 . . . 10           20          30 . . . . 60        trades of the only source until 10, then heartbeats alone
   good                 silent since 10
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import pytest

from mdstream.records import WS, RawEncoder
from mdstream.roles.feeds import LOG_STANDS_NS, feeds
from mdstream.stream.canonical import Canonical
from mdstream.stream.rules import Policy, Rules
from mdstream.trading_hours import NEW_YORK
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
        self.write(0, until_s=until_s, beats_s=beats_s)

    def write(self, from_s: int, *, until_s: float, beats_s: float) -> None:
        """Go on at `from_s`."""
        for tenth in range(from_s * 10, int(max(until_s, beats_s) * 10) + 1):
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


def test_source_that_goes_on_after_nothing_was_written_is_good() -> None:
    """Log time stays behind for good then; that is no silence."""
    log = Log(until_s=10, beats_s=10)
    log.write(100, until_s=110, beats_s=112)
    assert log.source(112)["health"] == "good"
    assert log.source(112 + LOG_STANDS_NS / S)["reason"].startswith("nothing was read since 2026-01-05 15:01:52 UTC")


def test_lone_source_whose_ingestor_is_gone_is_not_good() -> None:
    """Log time stops then, and no silence grows: our own clock shows it."""
    log = Log(until_s=10, beats_s=10)
    assert log.source(10 + LOG_STANDS_NS / S - 1)["health"] == "good"
    message = log.source(10 + LOG_STANDS_NS / S)
    assert message["health"] == "silent"
    assert message["silent_since"] == T0_NS + 10 * S
    assert message["reason"].startswith("nothing was read since 2026-01-05 15:00:10 UTC: no ingestor writes")


class Night(Log):
    """A stock of IQFeed, whose last trade of the day is at 19:59:50 in New York, until the next morning."""

    def __init__(self, *, lost: bool = False) -> None:
        self.canonical = Canonical(
            "md.raw.equities",
            0,
            [each() for each in PROVIDERS.values()],
            rules=Rules(Policy(tuple(PROVIDERS))),
            announces=lambda _: True,
        )
        self._offset, self._provider = 0, "iqfeed"
        self._add(STOCK_TRADE, EVENING_NS, b"trade")
        if lost:
            self._add(b'{"provider":"iqfeed","state":"disconnected","reason":"gone"}', EVENING_NS + S, b"status")

    def at(self, text: str) -> dict[str, Any]:
        """What /feeds says of the instrument at a time in New York; the ingestor beats until then."""
        now_ns = int(datetime.fromisoformat(text).replace(tzinfo=NEW_YORK).timestamp()) * S
        for beat_ns in range(self.canonical.log.now_ns, now_ns + 1, 4 * S):
            self._add(b"{}", beat_ns, b"heartbeat")
        found: dict[str, Any] = feeds([self.canonical], now_ns=now_ns)["AAPL"]
        return found


STOCK_TRADE = (
    b"Q,AAPL,Cv,246.5500,100,11/30/2026,19:59:50.000000,3681,1,246.5400,200,246.5600,400,01,5,"
    b"19:59:50.000000,19:59:50.000000,8642007,"
)
EVENING_NS = int(datetime(2026, 11, 30, 19, 59, 50, tzinfo=NEW_YORK).timestamp()) * S


def test_source_of_a_closed_market_is_closed_not_silent() -> None:
    """
    19:59:50 the last trade     20:00 closed     04:00 the market opens, and the source has not spoken for a minute
    """
    night = Night()
    assert (night.at("2026-11-30 19:59:58")["session"]) == "post"
    late = night.at("2026-12-01 03:59:56")
    source = late["sources"]["iqfeed"]
    assert (late["session"], source["health"], source["silent_since"]) == ("closed", "closed", EVENING_NS)
    assert source["reason"] == "its market is closed until 2026-12-01 09:00:00 UTC"
    begun, morning = night.at("2026-12-01 04:00:20"), night.at("2026-12-01 04:01:00")
    assert (begun["session"], begun["sources"]["iqfeed"]["health"]) == ("pre", "good")
    assert morning["sources"]["iqfeed"]["health"] == "silent"


def test_source_of_a_halted_stock_is_halted() -> None:
    night = Night()
    stock = night.canonical.instruments["AAPL"]
    stock.halted, stock.bell_ns = True, EVENING_NS + 5 * S
    found = night.at("2026-11-30 19:59:58")
    assert (found["session"], found["sources"]["iqfeed"]["health"]) == ("halted", "halted")
    assert found["sources"]["iqfeed"]["reason"] == "trading in it is halted since 2026-12-01 00:59:55 UTC"


def test_source_that_is_lost_at_night_is_shown_as_lost() -> None:
    """A closed market is no excuse for a connection that is not there."""
    source = Night(lost=True).at("2026-11-30 20:00:30")["sources"]["iqfeed"]
    assert (source["health"], source["reason"]) == ("dead", "disconnected (gone)")


def test_silence_on_the_page_changes_nothing_in_the_stream() -> None:
    """Who is followed depends on the log alone: looking has no effect."""
    looked, left_alone = Log(until_s=10, beats_s=60), Log(until_s=10, beats_s=60)
    looked.source(60)
    assert looked.canonical.instruments == left_alone.canonical.instruments
    assert looked.canonical.log == left_alone.canonical.log
