"""Every event has one row, however it arrives, and the database gets each value in the form that it stores."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any, get_args

import pytest
from hypothesis import given
from hypothesis import strategies as st
from sink_builders import T0, trade

from mdstream import events
from mdstream.db import schema
from mdstream.events import HISTORY, Bar, BookL2, Event, FeedStatus, Gap, Heartbeat, ListedInstrument, Quote
from mdstream.sinks.rows import EPOCH_US, FORMS, wire_types
from mdstream.sinks.staging import STATEMENTS

Y2000 = datetime(2000, 1, 1, tzinfo=UTC)

EVENTS: list[Event] = [
    trade(),
    Quote("BTCUSDT", 7, "okx", 1.0, 2.0, None, None, None, T0 + 5),
    Bar("BTCUSDT", "1m", T0, 1.0, 2.0, 0.5, 1.5, 10.0, 15.0, 3, 2),
    FeedStatus("BTCUSDT", "okx", "switched", "silent", T0, previous="binance"),
    Heartbeat("__system__", "okx", None, T0),
    Gap("BTCUSDT", "okx", "5", "9", "lost", T0, 5, took_ns=17, reason="gone"),
]


def row(event: Event) -> dict[str, Any]:
    """The event's row, by column."""
    table, make = FORMS[type(event)]
    return dict(zip(table.names, make(event, events.encode(event)), strict=True))


@pytest.mark.parametrize("event", EVENTS, ids=lambda event: type(event).__name__)
def test_a_row_has_a_value_for_each_column_and_none_only_where_it_may(event: Event) -> None:
    """In the columns' order, which is that of the COPY."""
    table, _ = FORMS[type(event)]
    for column, value in zip(table.columns, row(event).values(), strict=True):
        assert column.null or value is not None, column.name


def test_a_correction_is_a_row_of_its_own_with_its_fields_in_extra() -> None:
    """Or it could not be told from a trade."""
    one = {"correction": "cancel", "corrects": "1", "corrects_price": 2.0, "corrects_size": 3.0}
    assert row(trade(3, **one))["extra"] == one


def test_a_venues_bar_of_the_past_says_in_extra_whose_it_is() -> None:
    """It is of the same key as the bar of the trades, whose place it takes."""
    past = Bar("BTCUSDT", "1m", T0, 1.0, 2.0, 0.5, 1.5, 10.0, None, None, HISTORY, "binance", backfilled=True)
    made = row(past)
    assert (made["exchange"], made["revision"], made["trades"], made["quote_volume"]) == (
        schema.OWN_BARS, HISTORY, None, None
    )  # fmt: skip
    assert made["extra"] == {"provider": "binance", "backfilled": True}


def test_a_trade_keeps_the_venues_values_and_time() -> None:
    assert row(trade(3)) == {
        "exchange": "binance",
        "symbol": "BTCUSDT",
        "timestamp": T0 // 1000 - EPOCH_US,
        "source": "binance",
        "trade_id": "3",
        "price": 93741.2,
        "size": 0.0015,
        "side": "sell",
        "seq": 1003,
        "ts_exchange_ns": T0 + 3,
        "ts_recv_ns": T0 + 8,
        "extra": None,
    }


def test_a_trade_of_a_known_venue_is_of_that_exchange_and_of_its_source() -> None:
    """An aggregator names the venue of a trade: that is the exchange."""
    made = row(trade(venue="NYSE"))
    assert (made["exchange"], made["source"]) == ("NYSE", "binance")


def test_a_trade_without_a_time_of_its_venue_has_ours() -> None:
    """The same on every repeat, as the time of receipt is in the event."""
    made = row(trade(ts_exchange=None, ts_recv=T0 + 1_234_567))
    assert (made["timestamp"], made["ts_exchange_ns"]) == ((T0 + 1_234_567) // 1000 - EPOCH_US, None)


def test_trades_without_an_id_differ_by_their_number() -> None:
    """Else two prints of one microsecond would be one row."""
    assert row(trade(trade_id="", seq=17))["trade_id"] == "#17"


@pytest.mark.parametrize(
    ("fields", "extra"),
    [
        ({"count": 3}, {"count": 3}),
        ({"recovered": True}, {"recovered": True}),
        ({"conditions": ("@", "T")}, {"conditions": ("@", "T")}),
        ({"count": 2, "recovered": True}, {"count": 2, "recovered": True}),
    ],
)
def test_extra_holds_what_is_not_the_default(fields: dict[str, Any], extra: dict[str, Any]) -> None:
    assert row(trade(**fields))["extra"] == extra


@given(st.integers(-(2**63), 2**63 - 1))
def test_times_are_rounded_down_to_the_microsecond(ts_ns: int) -> None:
    """Also before 1970 and before 2000: equal times stay equal, and their order stays."""
    made = row(trade(ts_exchange=ts_ns))["timestamp"]
    assert made * 1000 <= ts_ns - EPOCH_US * 1000 < (made + 1) * 1000


def test_times_count_from_postgresqls_own_zero() -> None:
    when = datetime(2026, 1, 5, 15, 0, 0, 123456, tzinfo=UTC)
    ts_ns = (when - datetime(1970, 1, 1, tzinfo=UTC)) // timedelta(microseconds=1) * 1000
    assert row(trade(ts_exchange=ts_ns))["timestamp"] == (when - Y2000) // timedelta(microseconds=1)


def test_a_bar_beyond_the_databases_times_is_refused() -> None:
    """It has no nanoseconds beside its timestamp that would refuse it, and the largest number means infinity there."""
    with pytest.raises(ValueError, match="1677 to 2262"):
        row(Bar("BTCUSDT", "1m", 1 << 64, 1.0, 2.0, 0.5, 1.5, 10.0, 15.0, 3, 2))


def test_feed_events_are_distinguished_by_their_bytes() -> None:
    """They have no number: an event that comes again has the same id, any other has another."""
    one, other = EVENTS[3], FeedStatus("BTCUSDT", "okx", "switched", "late", T0, previous="binance")
    assert row(one)["event_id"] == row(one)["event_id"] == schema.event_id(events.encode(one))
    assert row(one)["event_id"] != row(other)["event_id"]
    assert {row(event)["type"] for event in EVENTS[3:]} == {"status", "heartbeat", "gap"}


def test_every_event_has_a_table_but_books() -> None:
    """A new kind of event must be given one, or be left out on purpose."""
    assert set(get_args(Event)) - set(FORMS) == {BookL2, ListedInstrument}


@pytest.mark.parametrize("table", schema.TABLES, ids=lambda table: str(table.name))
def test_rows_are_written_as_the_types_of_their_columns(table: schema.Table) -> None:
    """But for times, which are integers already."""
    types = wire_types(table)
    assert [t for t in types if t not in ("text", "double precision", "bigint", "jsonb")] == []
    assert STATEMENTS[table.name].types == tuple(types)


def test_a_repeat_is_left_alone_and_of_a_bar_the_highest_revision_stays() -> None:
    """Also within one group: a statement may touch a row only once."""
    assert STATEMENTS["market_data_ticks"].merge.endswith("ON CONFLICT DO NOTHING")
    bars = STATEMENTS["market_data_ohlcv"].merge
    assert "DISTINCT ON (exchange, symbol, interval, timestamp)" in bars
    assert bars.endswith("WHERE excluded.revision > stored.revision")
