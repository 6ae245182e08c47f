"""What no venue may say: it is refused with a reason, and whatever is taken in fits a checkpoint."""

from __future__ import annotations

import json
import re
import struct
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec import structs
from stream_histories import new_stream
from stream_outputs import RAW, events, read_into, saved

from mdstream import repairs
from mdstream.errors import FrameError
from mdstream.records import LAST_NS
from mdstream.repairs import Unrecoverable, rest_frame
from mdstream.stream import checkpoint
from mdstream.stream.bounds import CHECKS, MAX_ID, check_bar
from mdstream.stream.checkpoint import Restored
from mdstream.stream.dedupe import SeenIds
from mdstream.stream.ledger import Ledger
from mdstream.stream.output import Output
from mdstream.stream.rules import Policy, Rules
from mdstream.ticks import NO_ID, PRICE_UNIT, BarTick, BookTick, BookUpdate, QuoteTick, TradeTick

NOW_NS = 1_767_625_200_125_400_000
MERGE = Rules(Policy(("binance", "okx", "coinbase"), merge=True))
FAILOVER = Rules(Policy(("okx", "binance", "coinbase")))


@dataclass(frozen=True)
class Raw:
    """A record as the transport hands it over."""

    value: bytes | None
    headers: Sequence[tuple[str, bytes]]
    offset: int = 0
    timestamp: int = NOW_NS // 1_000_000
    key: bytes | None = b"BTCUSDT"


def raw(provider: str, frame: bytes, *, recv_ns: int = NOW_NS, kind: str = "trade", offset: int = 0) -> Raw:
    headers = [("p", provider.encode()), ("t", struct.pack(">q", recv_ns)), ("k", kind.encode()), ("via", b"ws")]
    return Raw(frame, headers, offset)


def binance_trade(**values: Any) -> bytes:
    data = {
        "e": "trade",
        "E": 1,
        "s": "BTCUSDT",
        "t": 7,
        "p": "1.5",
        "q": "2",
        "T": NOW_NS // 10**6,
        "m": True,
    } | values
    return json.dumps({"stream": "btcusdt@trade", "data": data}, separators=(",", ":")).encode()


def binance_quote(**values: Any) -> bytes:
    data = {"u": 7, "s": "BTCUSDT", "b": "1.5", "B": "2", "a": "1.6", "A": "2"} | values
    return json.dumps({"stream": "btcusdt@bookTicker", "data": data}, separators=(",", ":")).encode()


def okx(channel: str, *rows: dict[str, Any], inst: str = "BTC-USDT") -> bytes:
    values = {"arg": {"channel": channel, "instId": inst}, "data": rows}
    return json.dumps(values, separators=(",", ":")).encode()


def okx_trade(**values: Any) -> dict[str, Any]:
    return {"tradeId": "7", "px": "1.5", "sz": "2", "side": "buy", "ts": str(NOW_NS // 10**6), "count": "1"} | values


def coinbase_match(**values: Any) -> bytes:
    match = {"type": "match", "trade_id": 7, "side": "sell", "size": "1", "price": "2", "product_id": "BTC-USDT",
             "time": "2026-01-05T15:00:00.123456Z"}  # fmt: skip
    return json.dumps(match | values, separators=(",", ":")).encode()


def stepped(*records: Raw, rules: Rules = MERGE) -> Output:
    return new_stream(rules).step(records)


# -- bars of venues


A_BAR = BarTick("BTCUSDT", "1m", NOW_NS - NOW_NS % (60 * 10**9), 2.0, 3.0, 1.0, 2.5, 10.0, 20.0, 5)


@pytest.mark.parametrize(
    ("values", "error"),
    [
        ({"interval": "1w"}, "bars of '1w': expected a length like 1s, 5m, 1h or 1d"),
        ({"symbol": "BTCUSD-PERP"}, "a bar of BTCUSD-PERP, whose sizes are not in units of base"),
        (
            {"ts_open": A_BAR.ts_open + 1},
            f"a bar of 1m from {A_BAR.ts_open + 1} ns since 1970 on: not a",
        ),
        ({"ts_open": -60 * 10**9}, "a bar of 1m from -60000000000 ns since 1970 on: not a multiple of it"),
        (
            {"interval": "1s", "ts_open": 2**63 // 10**9 * 10**9},
            "a bar of 1s from 9223372036000000000 ns since",
        ),
        ({"low": 2.1}, "a bar with open, high, low and close 2 3 2.1 2.5"),
        ({"high": 2.4}, "a bar with open, high, low and close 2 2.4 1 2.5"),
        ({"open": float("nan")}, "a bar with open, high, low and close nan 3 1 2.5"),
        ({"low": 0.0}, "a price of 0 for BTCUSDT"),
        ({"volume": -1.0}, "a size of -1"),
        ({"quote_volume": float("inf")}, "a turnover of inf"),
        ({"trades": 0}, "a bar of 0 trades"),
        ({"trades": 2**63}, f"a bar of {2**63} trades"),
    ],
)
def test_bar_that_cannot_be_is_refused_with_the_reason(values: dict[str, Any], error: str) -> None:
    check_bar(A_BAR)
    check_bar(structs.replace(A_BAR, quote_volume=None, trades=None))
    with pytest.raises(FrameError, match=re.escape(error)):
        check_bar(structs.replace(A_BAR, **values))


# -- times and ids fit 64 bits, or are refused


@pytest.mark.parametrize("time", ["9999-12-31T23:59:59Z", "0001-01-01T00:00:00Z", "2255-12-31T00:00:00.5Z"])
def test_time_beyond_64_bits_is_a_dead_letter_and_checkpoints_go_on(time: str) -> None:
    """Go's zero time and the end of the calendar are times that venues have sent."""
    stream = new_stream(MERGE)
    out = stream.step([raw("coinbase", coinbase_match(time=time)), raw("coinbase", coinbase_match(trade_id=8))])
    assert [event["trade_id"] for event in events(out.trades)] == ["8"]
    (letter,) = events(out.dead)
    assert letter["error"].startswith("not a valid time: ")
    saved(stream)


def test_highest_id_that_is_taken_in_can_be_parked() -> None:
    """A parked id is kept as -2 - id: that has to fit 64 bits as well."""
    seen = SeenIds(last=MAX_ID)
    seen.park()
    assert seen.last >= -(2**63)


EDGES = (-(10**12), -1, 0, 1, NOW_NS // 10**6, NOW_NS // 1_000, NOW_NS, LAST_NS // 10**6, LAST_NS // 1_000,
         MAX_ID - 1, MAX_ID, 2**63 - 2, 2**63 - 1, 2**63, 2**64, 10**30)  # fmt: skip
ODD = st.sampled_from(EDGES) | st.integers(-(2**70), 2**70)
TIMES = st.sampled_from(["0001-01-01T00:00:00Z", "9999-12-31T23:59:59.999999999Z", "1970-01-01T00:00:00Z",
                         "1969-12-31T23:59:59Z", "2026-01-05T15:00:00.1Z"])  # fmt: skip
AMOUNTS = st.sampled_from(["0", "-1", "1e139", "-1e139", "1e-320", "1.5"])
NAMES = st.sampled_from(["BTCUSDT", "ETHUSDT", RAW + "|", "__system__", "\u20bf\u00df", "BTC-USDT-SWAP"])


@st.composite
def binance_frames(draw: st.DrawFn) -> tuple[str, bytes, str]:
    trade = binance_trade(t=draw(ODD), T=draw(ODD), p=draw(AMOUNTS), s=draw(NAMES))
    loss = Unrecoverable("BTCUSDT", "binance", "trade", draw(ODD) % 2**64, draw(ODD) % 2**64, "gone")
    values = {"trade": trade, "quote": binance_quote(u=draw(ODD), b=draw(AMOUNTS)), "repair": repairs.encode(loss)}
    kind = draw(st.sampled_from(sorted(values)))
    return "binance", values[kind], kind


@st.composite
def okx_frames(draw: st.DrawFn) -> tuple[str, bytes, str]:
    row = okx_trade(tradeId=str(draw(ODD)), ts=str(draw(ODD)), count=str(draw(ODD)))
    answer = json.dumps({"code": "0", "data": [row]}).encode()
    top = {"asks": [], "bids": [["1", "2"]], "ts": str(draw(ODD)), "seqId": draw(ODD)}
    repaired = rest_frame("/api/v5/market/history-trades?instId=BTC-USDT&type=1", "trades", answer)
    return "okx", draw(st.sampled_from([okx("trades", row), repaired, okx("bbo-tbt", top)])), "trade"


@st.composite
def coinbase_frames(draw: st.DrawFn) -> tuple[str, bytes, str]:
    kind = draw(st.sampled_from(["match", "last_match"]))
    match = coinbase_match(type=kind, trade_id=draw(ODD), time=draw(TIMES), product_id=draw(NAMES))
    ticker = {"type": "ticker", "product_id": "BTC-USDT", "best_bid": "1", "sequence": draw(ODD), "time": draw(TIMES)}
    return "coinbase", draw(st.sampled_from([match, json.dumps(ticker).encode()])), "trade"


FRAMES = binance_frames() | okx_frames() | coinbase_frames()
RECEIVED = st.sampled_from([NOW_NS, NOW_NS + 10**9, 0, 1, -1, LAST_NS - 1, LAST_NS, 2**63 - 1, -(2**63)])


@given(st.lists(st.tuples(FRAMES, RECEIVED), max_size=30), st.sampled_from([MERGE, FAILOVER]))
def test_whatever_frames_say_the_state_can_be_written_and_read_back(
    log: list[tuple[tuple[str, bytes, str], int]], rules: Rules
) -> None:
    """A state that cannot be encoded stops one owner of the partition after the other, for good."""
    stream = new_stream(rules)
    outputs = [
        stream.step([raw(provider, frame, recv_ns=recv_ns, kind=kind, offset=offset)])
        for offset, ((provider, frame, kind), recv_ns) in enumerate(log)
    ]
    expected = Restored(dict(stream.instruments), stream.position, stream.log)
    assert checkpoint.read(read_into(Ledger(RAW, checkpoint.LAYOUT), saved(stream, *outputs))) == expected


@pytest.mark.parametrize("timestamp", [2**63 - 1, -(2**63)])
def test_record_time_beyond_64_bits_of_ns_is_refused_by_name(timestamp: int) -> None:
    """Without a header t the record's own time counts, and Kafka takes any."""
    (letter,) = events(stepped(Raw(binance_trade(), [("p", b"binance")], timestamp=timestamp)).dead)
    assert letter["error"].startswith("no receive time in ns: ")


def test_record_time_does_not_matter_where_the_header_has_one() -> None:
    """Headers in another order than ours."""
    headers = [("t", struct.pack(">q", NOW_NS)), ("p", b"binance")]
    assert len(stepped(Raw(binance_trade(), headers, timestamp=2**63 - 1)).trades) == 1


# -- prices, sizes, crossed quotes

TRADE = TradeTick("BTCUSDT", "7", 1.5, 2.0, "buy", NOW_NS, 7, 7)
QUOTE = QuoteTick("BTCUSDT", 1.5, 2.0, 1.6, 2.0, NOW_NS, 7)
BOOK = BookTick("BTCUSDT", [(1.5, 2.0), (1.4, 1.0)], [(1.6, 2.0), (1.7, 1.0)], NOW_NS, 7)
UPDATE = BookUpdate("BTCUSDT", [(15 * PRICE_UNIT // 10, 0.0)], [], NOW_NS)


def changed(tick: Any, **values: Any) -> Any:
    fields = {name: getattr(tick, name) for name in tick.__struct_fields__}
    return type(tick)(**fields | values)


@pytest.mark.parametrize("tick", [
    TRADE, QUOTE, BOOK, UPDATE, changed(UPDATE, ts_exchange=None),
    changed(TRADE, size=0.0), changed(TRADE, ts_exchange=None), changed(TRADE, first_id=NO_ID, last_id=NO_ID),
    changed(TRADE, ts_exchange=0), changed(TRADE, last_id=MAX_ID), changed(TRADE, first_id=0),
    changed(QUOTE, bid=None, bid_size=None), changed(QUOTE, ask=None, ask_size=None), changed(QUOTE, bid=1.6),
    changed(QUOTE, bid_size=None, ask_size=0.0), changed(QUOTE, ts_exchange=None, update_id=NO_ID),
    changed(BOOK, bids=[]), changed(BOOK, asks=[]), changed(BOOK, bids=[(1.5, 1.0), (1.5, 2.0)]),
    # A spread, an oil future: the venue's own name, and any price.
    changed(TRADE, symbol="BTC-USDT_BTC-USDT-SWAP", price=-37.63), changed(TRADE, symbol="CL-USD-200421", price=0.0),
    changed(QUOTE, symbol="CL-USD-200421", bid=-40.0, ask=-37.6),
    changed(BOOK, symbol="CL-USD-200421", bids=[(-40.0, 1.0)], asks=[(-37.0, 1.0)]),
])  # fmt: skip
def test_possible_values_are_accepted(tick: Any) -> None:
    """Empty sides, sizes of zero, locked quotes; prices below zero where the instrument may have them."""
    CHECKS[type(tick)](tick)


@pytest.mark.parametrize(("tick", "reason"), [
    (changed(TRADE, price=0.0), "a price of 0 for BTCUSDT"),
    (changed(TRADE, price=-1.5), "a price of -1.5 for BTCUSDT"),
    (changed(TRADE, symbol="BRK.B", price=-1.0), "a price of -1 for BRK.B"),
    (changed(TRADE, symbol="CL-USD-200421", price=float("nan")), "a price of nan for CL-USD-200421"),
    (changed(TRADE, size=-2.0), "a size of -2"),
    (changed(TRADE, symbol="CL-USD-200421", size=-2.0), "a size of -2"),
    (changed(TRADE, ts_exchange=-1), "not a valid time: -1 ns since 1970"),
    (changed(TRADE, ts_exchange=LAST_NS), "not a valid time: 9000000000000000000 ns"),
    (changed(TRADE, first_id=8, last_id=7), "trade ids 8 to 7"),
    (changed(TRADE, first_id=-5), "trade ids -5 to 7"),
    (changed(TRADE, last_id=MAX_ID + 1), "trade ids 7 to 4611686018427387905"),
    (changed(QUOTE, bid=1.7), "a bid of 1.7 above the ask of 1.6"),
    (changed(QUOTE, symbol="CL-USD-200421", bid=-1.0, ask=-2.0), "a bid of -1 above the ask of -2"),
    (changed(QUOTE, bid=-1.0), "a price of -1 for BTCUSDT"),
    (changed(QUOTE, bid=None, ask=0.0), "a price of 0 for BTCUSDT"),
    (changed(QUOTE, bid_size=-1.0), "a size of -1"),
    (changed(QUOTE, ask_size=-1.0), "a size of -1"),
    (changed(QUOTE, update_id=MAX_ID + 1), "update id 4611686018427387905"),
    (changed(QUOTE, ts_exchange=LAST_NS), "not a valid time"),
    (changed(BOOK, bids=[(1.7, 1.0)]), "a bid of 1.7 above the ask of 1.6"),
    (changed(BOOK, bids=[(1.5, 1.0), (0.0, 1.0)]), "a price of 0 for BTCUSDT"),
    (changed(BOOK, bids=[], asks=[(-1.0, 1.0)]), "a price of -1 for BTCUSDT"),
    (changed(BOOK, bids=[(-9.0, 1.0), (1.4, 1.0)]), "the levels of a book of BTCUSDT that are not in the order"),
    (changed(BOOK, asks=[(1.7, 1.0), (1.6, 1.0)]), "the levels of a book of BTCUSDT that are not in the order"),
    (changed(BOOK, update_id=-2), "update id -2"),
    (changed(UPDATE, bids=[(0, 1.0)]), "a price of 0 for BTCUSDT"),
    (changed(UPDATE, ts_exchange=LAST_NS), "not a valid time"),
])  # fmt: skip
def test_what_cannot_be_is_refused_with_its_reason(tick: Any, reason: str) -> None:
    """A pair's price is above zero, sizes are not negative, one venue's bid is not above its ask."""
    with pytest.raises(FrameError) as error:
        CHECKS[type(tick)](tick)
    assert str(error.value).startswith(reason)


@pytest.mark.parametrize(("provider", "frame"), [
    ("binance", binance_trade(p="0")), ("binance", binance_trade(p="-1")), ("binance", binance_trade(q="-1")),
    ("binance", binance_quote(b="1.7")), ("binance", binance_quote(b="-1")), ("binance", binance_quote(A="-1")),
    ("binance", b'{"stream":"btcusdt@depth20@100ms","data":{"lastUpdateId":8,"bids":[["2","1"]],"asks":[["1","1"]]}}'),
    ("binance", b'{"stream":"btcusdt@depth20@100ms","data":{"lastUpdateId":8,"bids":[["1","-1"]],"asks":[]}}'),
    ("okx", okx("trades", okx_trade(px="0"))),
    ("okx", okx("books5", {"asks": [], "bids": [["1", "1"], ["1", "-1"]], "ts": "1767625200120", "seqId": 5})),
    ("coinbase", coinbase_match(price="-0.01")),
])  # fmt: skip
def test_frame_that_cannot_be_true_is_a_dead_letter_and_no_event(provider: str, frame: bytes) -> None:
    """It counts against its source as one that cannot be read does."""
    stream = new_stream(MERGE)
    out = stream.step([raw(provider, frame)])
    assert len(out.dead) == 1
    assert out.trades + out.quotes + out.books == []
    assert stream.sources[provider.encode()].state.faults == 1


def test_ticks_beside_a_refused_one_are_taken() -> None:
    """One letter for the frame, whatever else was refused of it."""
    rows = [okx_trade(tradeId=str(number), px=price) for number, price in enumerate(["1.5", "0", "-1", "1.6"], 7)]
    out = stepped(raw("okx", okx("trades", *rows)))
    assert [event["trade_id"] for event in events(out.trades)] == ["7", "10"]
    assert [letter["error"] for letter in events(out.dead)] == ["a price of 0 for BTCUSDT"]


def test_refused_trade_does_not_come_back_from_the_buffer() -> None:
    """A buffer that is filled again after a restart holds what it held before."""
    rules = FAILOVER
    log = [raw("okx", okx("trades", okx_trade())),
           raw("binance", binance_trade(), offset=1), raw("binance", binance_trade(t=8, p="0"), offset=2)]  # fmt: skip
    dying = new_stream(rules)
    state_log = saved(dying, dying.step(log))
    owner = new_stream(rules, checkpoint.read(read_into(Ledger(RAW, checkpoint.LAYOUT), state_log)))
    owner.step(log[owner.read_from :])
    buffers = [[tick for _, _, tick in s.sources[b"binance"].lines["BTCUSDT"].buffer] for s in (dying, owner)]
    assert buffers[0] == buffers[1]
    assert len(buffers[0]) == 1


def test_refused_part_of_a_gap_is_in_the_next_checkpoint() -> None:
    """The REST answer has one of two missing trades, at an impossible price: a new owner does not await it again."""
    stream = new_stream(MERGE)
    trades = stream.step([raw("binance", binance_trade(t=7)), raw("binance", binance_trade(t=10), offset=1)])
    state_log = saved(stream, trades)
    row = {"id": 8, "price": "-1", "qty": "2", "time": 1767625200122, "isBuyerMaker": True}
    answer = rest_frame("/api/v3/historicalTrades?symbol=BTCUSDT", "trade", json.dumps([row]).encode())
    state_log += saved(stream, stream.step([raw("binance", answer, offset=2)]))
    restored = checkpoint.read(read_into(Ledger(RAW, checkpoint.LAYOUT), state_log))
    assert restored.instruments == stream.instruments
    assert stream.instruments["BTCUSDT"].feeds["binance"].trades.seen.missing_within(8, 9) == (1, 1)
