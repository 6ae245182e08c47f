"""mdstream/web/chart/candles.js, run by a JavaScript engine: the bars that the page of charts draws."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from importlib import resources
from typing import Any, NamedTuple

import pytest
import quickjs
from hypothesis import given
from hypothesis import strategies as st

SCRIPT = resources.files("mdstream.web").joinpath("chart/candles.js").read_text()
SECOND_NS, MINUTE_S = 1_000_000_000, 60
FIRST_S = 1_767_625_200
"""The begin of an hour."""


class Bars:
    """A Candles of the page: bars of `length`, made of parts of `part`, both in seconds."""

    def __init__(self, length: int = MINUTE_S, part: int = 1, most: int = 1000) -> None:
        self._context = quickjs.Context()
        self._context.eval(SCRIPT)
        self._context.eval(f"const candles = new Candles({length}, {part}, {most})")

    def call(self, text: str) -> Any:
        return json.loads(self._context.eval(f"JSON.stringify({text}) ?? 'null'"))

    def send(self, *events: dict[str, Any]) -> None:
        for event in events:
            self.call(f"candles.{event['type']}({json.dumps(event)})")

    def stored(self, length: int, *rows: dict[str, Any]) -> None:
        self.call(f"candles.stored({json.dumps(rows)}, {length})")

    def take(self) -> tuple[bool, list[tuple[float, ...]]]:
        found = self.call("candles.take()")
        return found["whole"], [tuple(row[name] for name in ROW) for row in found["rows"]]

    def rows(self) -> list[tuple[float, ...]]:
        self.call("candles.changed = true")
        return self.take()[1]


ROW = ("time", "open", "high", "low", "close", "volume")


def trade(seq: int, at_s: float, price: float = 1.0, size: float = 1.0, **others: Any) -> dict[str, Any]:
    at_ns = FIRST_S * SECOND_NS + round(at_s * 1000) * 1_000_000
    return {"type": "trade", "seq": seq, "price": price, "size": size, "ts_exchange": at_ns, "ts_recv": at_ns, **others}


def row(at_s: int, prices: Sequence[float], volume: float) -> dict[str, Any]:
    return dict(zip(ROW, (FIRST_S + at_s, prices[0], max(prices), min(prices), prices[-1], volume), strict=True))


def bar(interval: str, made: dict[str, Any], revision: int = 0) -> dict[str, Any]:
    return {"type": "bar", "interval": interval, "ts_open": made["time"] * SECOND_NS, **made, "revision": revision}


class Sold(NamedTuple):
    """A trade of the generated ones."""

    at_ms: int
    price: int
    size: int


solds = st.lists(st.builds(Sold, st.integers(0, 180_000), st.integers(1, 99), st.integers(1, 9)), max_size=40)


def bars_of(given: Iterable[tuple[int, Sold]], length: int) -> list[dict[str, Any]]:
    """The bars of trades, by the definition: open and close by time, of the same time by number."""
    found: dict[int, list[Sold]] = {}
    for _, sold in sorted(given, key=lambda each: (each[1].at_ms, each[0])):
        found.setdefault(sold.at_ms // 1000 // length * length, []).append(sold)
    return [row(at, [e.price for e in each], sum(e.size for e in each)) for at, each in sorted(found.items())]


def as_rows(bars: Iterable[dict[str, Any]]) -> list[tuple[float, ...]]:
    return [tuple(each[name] for name in ROW) for each in bars]


@given(solds, st.sampled_from([1, 5, MINUTE_S]))
def test_running_bars_are_those_of_their_trades(made: list[Sold], part: int) -> None:
    """In whatever order of time they come."""
    bars = Bars(part=part)
    bars.send(*(trade(n, sold.at_ms / 1000, sold.price, sold.size) for n, sold in enumerate(made)))
    assert bars.rows() == as_rows(bars_of(enumerate(made), MINUTE_S))


@given(solds, st.data())
def test_stored_and_published_bars_and_trades_that_overlap_count_once(made: list[Sold], data: st.DataObject) -> None:
    """Bars are published as of a time; some are stored. The trades since some time come, in between and again."""
    numbered = list(enumerate(sorted(made)))
    closed_s, from_s = data.draw(st.integers(0, 200)), data.draw(st.integers(0, 200))
    known = [each for each in numbered if each[1].at_ms < closed_s * 1000]
    parts = [each for each in bars_of(known, 1) if each["time"] < FIRST_S + closed_s]
    minutes = [each for each in bars_of(known, MINUTE_S) if each["time"] + MINUTE_S <= FIRST_S + closed_s]
    begin_s = min(from_s, closed_s)
    trades = [trade(n, s.at_ms / 1000, s.price, s.size) for n, s in numbered if s.at_ms >= begin_s * 1000]
    published = [bar("1s", each) for each in parts] + [bar("1m", each) for each in minutes]
    bars = Bars()
    kept = data.draw(st.integers(0, len(published)))
    for event in published[:kept]:
        bars.stored(MINUTE_S if event["interval"] == "1m" else 1, event | {"time": event["ts_open"] // SECOND_NS})
    again = data.draw(st.integers(0, len(trades)))
    streams = [published, trades[:again] + trades]  # a reconnect repeats some
    while any(streams):
        bars.send(data.draw(st.sampled_from([each for each in streams if each])).pop(0))
    assert bars.rows() == as_rows(bars_of(numbered, MINUTE_S))


def test_a_published_bar_replaces_the_running_one_and_revisions_replace_it() -> None:
    """An older revision that comes again replaces nothing; what is stored has no revision, so any is as good."""
    bars = Bars()
    bars.send(trade(1, 5, 2.0))
    bars.send(bar("1m", row(0, [2, 3], 4)))
    assert bars.rows() == as_rows([row(0, [2, 3], 4)])
    bars.send(bar("1m", row(0, [2, 9], 5), 2), bar("1m", row(0, [2, 7], 5), 1), trade(2, 8, 50.0))
    bars.stored(MINUTE_S, row(0, [8, 8], 8))
    assert bars.rows() == as_rows([row(0, [2, 9], 5)])


def test_a_shorter_bar_replaces_its_trades_and_a_late_trade_waits_for_its_revision() -> None:
    bars = Bars()
    bars.send(trade(1, 5.2, 2.0), trade(2, 6.1, 4.0), bar("1s", row(5, [2, 3], 7)), trade(3, 5.9, 99.0))
    assert bars.rows() == as_rows([row(0, [2, 3, 2, 4], 8)])
    bars.send(bar("1s", row(5, [2, 99], 8), 1))
    assert bars.rows() == as_rows([row(0, [2, 99, 2, 4], 9)])


@pytest.mark.parametrize("others", [{"correction": "cancel"}, {"backfilled": True}])
def test_what_is_no_trade_of_a_bar_is_in_none(others: dict[str, Any]) -> None:
    bars = Bars()
    bars.send(trade(1, 5, **others))
    assert bars.rows() == []


@pytest.mark.parametrize("ts_exchange", [None, (FIRST_S + 3700) * SECOND_NS])
def test_a_trade_with_no_time_or_one_far_ahead_has_that_of_its_receipt(ts_exchange: int | None) -> None:
    bars = Bars()
    bars.send(trade(1, 61, 2.0) | {"ts_exchange": ts_exchange})
    assert bars.rows() == as_rows([row(60, [2], 1)])


def test_a_trade_changes_the_last_row_alone() -> None:
    """Thousands of bars are not drawn anew for each."""
    bars = Bars()
    bars.stored(MINUTE_S, row(0, [1], 1))
    assert bars.take()[0]
    bars.send(trade(1, 65, 2.0), trade(2, 66, 3.0))
    assert bars.take() == (False, as_rows([row(60, [2, 3], 2)]))
    bars.send(trade(3, 130), trade(4, 67, 4.0))  # of the bar before
    assert bars.take() == (True, as_rows([row(0, [1], 1), row(60, [2, 3, 4], 3), row(120, [1], 1)]))
    assert bars.take()[0] is False


def test_bars_and_parts_are_bounded() -> None:
    """The oldest go: a page may be open for weeks, and the bars' topic may be silent."""
    bars = Bars(most=3)
    for n in range(5):
        bars.send(bar("1m", row(60 * n, [n], 1)))
    assert [each[1] for each in bars.rows()] == [2, 3, 4]
    bars.call(
        "(() => { for (let n = 0; n < 2 * MOST_PARTS + 9; n++) candles.trade({seq: n, price: 1, size: 1, "
        f"ts_exchange: {FIRST_S + 600}e9 + n * 1e9, ts_recv: {FIRST_S + 600}e9 + n * 1e9}}); }})()"
    )
    assert bars.call("candles.parts.size") == 10_000


def test_a_running_bar_has_parts_of_the_shortest_length_that_divides_it() -> None:
    """But not so many that they would be slow to ask for."""
    bars = Bars()
    lengths = "[1, 60, 300, 3600, 86400]"
    assert [bars.call(f"partOf({length}, {lengths})") for length in (1, 60, 3600, 86400)] == [1, 1, 1, 60]
    assert bars.call("partOf(300, [7, 300])") == 300
    assert [bars.call(f"lengthOf('{name}')") for name in ("1s", "5m", "1h", "1d", "1w", "", "m")] == [
        1, 300, 3600, 86400, 0, 0, 0,
    ]  # fmt: skip
