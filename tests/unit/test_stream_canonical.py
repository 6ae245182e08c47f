"""Raw records to numbered events: a pure function of the log, however it is cut, wherever it is taken up again."""

from __future__ import annotations

import itertools
import json
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import cast

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from stream_outputs import RAW, TOPICS, events, joined, read_into, saved

from mdstream import repairs
from mdstream.kafka.publisher import Partitioner
from mdstream.records import Record
from mdstream.stream import checkpoint
from mdstream.stream.canonical import Canonical
from mdstream.stream.checkpoint import Restored
from mdstream.stream.dedupe import ID_SPACE_SILENCE_NS
from mdstream.stream.ledger import Ledger
from mdstream.stream.output import Out, Output
from mdstream.stream.publication import MAX_ERRORS
from mdstream.stream.rules import Policy, Rules
from mdstream.ticks import Tick
from mdstream.venues.providers import PROVIDERS

PARTITION = 3
T0_NS = 1_767_625_200_125_400_000
VENUES = [provider() for provider in PROVIDERS.values()]
MERGE = Rules(Policy(tuple(PROVIDERS), merge=True))
FAILOVER = Rules(Policy(tuple(PROVIDERS)))


# -- builders


@dataclass(frozen=True)
class Raw:
    """A record as the transport hands it over."""

    value: bytes | None
    offset: int = 0
    timestamp: int = T0_NS // 1_000_000
    key: bytes | None = b"BTCUSDT"
    headers: Sequence[tuple[str, bytes]] = field(default_factory=list)


def raw(frame: bytes | None, *, provider: str, recv_ns: int = T0_NS, kind: str = "", offset: int = 0) -> Raw:
    """A record as an ingestor writes it."""
    headers = [("p", provider.encode()), ("t", recv_ns.to_bytes(8, "big", signed=True))]
    return Raw(frame, offset, recv_ns // 1_000_000, headers=headers + ([("k", kind.encode())] if kind else []))


def with_null(*headers: tuple[str, bytes | None]) -> Sequence[tuple[str, bytes]]:
    """Headers as they may come: Kafka allows one without a value, which our own writers never write."""
    return cast(Sequence[tuple[str, bytes]], headers)


def stream(*, announces: bool = True, rules: Rules = MERGE, state: Restored | None = None) -> Canonical:
    """A partition's stream from the beginning, or from a restored state."""
    state = state or Restored()
    return Canonical(
        RAW,
        PARTITION,
        VENUES,
        rules=rules,
        announces=lambda _: announces,
        instruments=state.instruments,
        log=state.log,
        position=state.position or 0,
    )


def binance_trade(number: int, *, symbol: str = "BTCUSDT", price: str = "93741.20000000") -> bytes:
    return (
        f'{{"stream":"{symbol.lower()}@trade","data":{{"e":"trade","E":1767625200123,"s":"{symbol}","t":{number},'
        f'"p":"{price}","q":"0.00150000","T":1767625200122,"m":true,"M":true}}}}'
    ).encode()


def binance_agg_trade(number: int, first: int, last: int) -> bytes:
    return (
        f'{{"stream":"btcusdt@aggTrade","data":{{"e":"aggTrade","E":1767625200123,"s":"BTCUSDT","a":{number},'
        f'"p":"93741.2","q":"0.0042","f":{first},"l":{last},"T":1767625200122,"m":false,"M":true}}}}'
    ).encode()


def binance_quote(number: int) -> bytes:
    return (
        f'{{"stream":"ethusdt@bookTicker","data":{{"u":{number},"s":"ETHUSDT","b":"3120.19","B":"0.5",'
        f'"a":"3120.2","A":"{number}.25"}}}}'
    ).encode()


def binance_book(number: int) -> bytes:
    return (
        f'{{"stream":"btcusdt@depth20@100ms","data":{{"lastUpdateId":{number},"bids":[["93741.19","0.5"]],'
        f'"asks":[["93741.20","1.25"],["93741.3","2"]]}}}}'
    ).encode()


OKX_MS = 1_767_625_199_000
"""A trade has one time, whichever frame reports it."""


def okx_trades(number: int, count: int) -> bytes:
    return (
        f'{{"arg":{{"channel":"trades","instId":"BTC-USDT"}},"data":[{{"instId":"BTC-USDT","tradeId":"{number}",'
        f'"px":"93741.2","sz":"0.0015","side":"sell","ts":"{OKX_MS + number}","count":"{count}"}},'
        f'{{"instId":"BTC-USDT","tradeId":"{number + 1}","px":"93741.3","sz":"1","side":"buy",'
        f'"ts":"{OKX_MS + number + 1}"}}]}}'
    ).encode()


def okx_quote(number: int) -> bytes:
    return (
        f'{{"arg":{{"channel":"tickers","instId":"BTC-USDT"}},"data":[{{"instId":"BTC-USDT","last":"1","askPx":"",'
        f'"askSz":"","bidPx":"93741.2","bidSz":"{number}.5","ts":"1767625200110"}}]}}'
    ).encode()


def coinbase_match(number: int) -> bytes:
    return (
        f'{{"type":"match","trade_id":{number},"side":"sell","size":"0.012","price":"93741.20",'
        f'"product_id":"BTC-USD","sequence":{number},"time":"2026-01-05T15:00:00.123456Z"}}'
    ).encode()


CONTROL: list[tuple[str, bytes]] = [
    ("binance", b'{"result":null,"id":1}'),
    ("binance", b'{"code":2,"msg":"Invalid request: unknown variant","id":1}'),
    ("okx", b"pong"),
    ("okx", b'{"id":"1","event":"error","code":"60018","msg":"Wrong URL or channel","connId":"a4d3ae55"}'),
    ("okx", b'{"id":"1","event":"subscribe","arg":{"channel":"trades","instId":"BTC-USDT"},"connId":"a4d3ae55"}'),
    ("coinbase", b'{"type":"subscriptions","channels":[{"name":"matches","product_ids":["BTC-USD"]}]}'),
    ("coinbase", b'{"type":"heartbeat","sequence":9,"last_trade_id":912345678,"product_id":"BTC-USD","time":""}'),
    ("coinbase", b'{"type":"error","message":"Failed to subscribe","reason":"level2 requires authentication"}'),
    ("binance", b'{"stream":"btcusdt@kline_1m","data":{"e":"kline","s":"BTCUSDT","k":{}}}'),
]

DEAD: dict[str, Raw] = {
    "price of abc": raw(binance_trade(1, price="abc"), provider="binance"),
    "price of nan": raw(binance_trade(1, price="nan"), provider="binance"),
    "price of inf": raw(binance_trade(1, price="inf"), provider="binance"),
    "price of null": raw(binance_trade(1).replace(b'"93741.20000000"', b"null"), provider="binance"),
    "price of 1e999": raw(binance_trade(1).replace(b'"93741.20000000"', b"1e999"), provider="binance"),
    "no price": raw(binance_trade(1).replace(b'"p":"93741.20000000",', b""), provider="binance"),
    "not JSON": raw(b"<html>502 Bad Gateway</html>", provider="binance"),
    "half a frame": raw(binance_trade(1)[:80], provider="binance"),
    "not UTF-8": raw(b"\xff\xfe\x00", provider="okx"),
    "another shape": raw(b"[1,2,3]", provider="coinbase"),
    "a text of OKX": raw(b"hello", provider="okx"),
    "unknown type": raw(b'{"type":"surprise","product_id":"BTC-USD"}', provider="coinbase"),
    "empty value": raw(b"", provider="binance"),
    "no value": raw(None, provider="okx"),
    "unknown provider": raw(binance_trade(1), provider="mtgox"),
    "no headers": Raw(binance_trade(1)),
    "status that is not JSON": raw(b"connected", provider="binance", kind="status"),
    "status of another shape": raw(b'{"state":"connected"}', provider="binance", kind="status"),
    "status without value": raw(None, provider="binance", kind="status"),
}


def status(provider: str, state: str) -> bytes:
    return json.dumps({"provider": provider, "state": state, "reason": None}).encode()


NUMBERS = st.integers(1_000, 1_025)
FRAMES: st.SearchStrategy[tuple[str, bytes | None, str]] = st.one_of(
    NUMBERS.map(lambda n: ("binance", binance_trade(n), "trade")),
    NUMBERS.map(lambda n: ("binance", binance_trade(n, symbol="ETHUSDT"), "")),
    NUMBERS.map(lambda n: ("binance", binance_agg_trade(n, n, n + 1), "trade")),
    NUMBERS.map(lambda n: ("binance", binance_quote(n), "quote")),
    NUMBERS.map(lambda n: ("binance", binance_book(n), "book")),
    st.tuples(NUMBERS, st.integers(1, 4)).map(lambda pair: ("okx", okx_trades(*pair), "trade")),
    st.integers(1, 3).map(lambda n: ("okx", okx_quote(n), "quote")),
    NUMBERS.map(lambda n: ("coinbase", coinbase_match(n), "trade")),
    st.sampled_from(CONTROL).map(lambda pair: (*pair, "other")),
    st.sampled_from([r for r in DEAD.values() if r.headers]).map(
        lambda r: (r.headers[0][1].decode(), r.value, r.headers[-1][1].decode() if len(r.headers) == 3 else "")
    ),
    st.sampled_from(["binance", "okx"]).map(lambda p: (p, status(p, "connected"), "status")),
    st.just(("binance", b"", "heartbeat")),
)
WHOLE = [binance_trade(1), okx_trades(1, 1), coinbase_match(1)]
PAUSES_NS = st.sampled_from([0, 1_000, 999_999, 1_000_000, 250_000_000, ID_SPACE_SILENCE_NS])


@st.composite
def logs(draw: st.DrawFn) -> list[Raw]:
    """A partition's log: several venues, repeats, ids out of order and missing, pauses, control and broken frames."""
    recv_ns, log = T0_NS, []
    for offset, (provider, frame, kind) in enumerate(draw(st.lists(FRAMES, max_size=60))):
        recv_ns += draw(PAUSES_NS)
        log.append(raw(frame, provider=provider, recv_ns=recv_ns, kind=kind, offset=offset))
    return log


def cut(log: Sequence[Raw], at: Iterable[int]) -> Iterator[Sequence[Raw]]:
    """The log in batches that begin at the given offsets."""
    bounds = [0, *sorted({offset for offset in at if 0 < offset < len(log)}), len(log)]
    return (log[start:end] for start, end in itertools.pairwise(bounds))


def test_lost_state_is_reported_once_with_the_first_record() -> None:
    """Readers of `seq` learn why it jumps; an owner that begins where its predecessor began does not jump."""
    fresh, repeating = stream(), stream()
    fresh.numbers_from, repeating.numbers_from = 0, 3
    log = [raw(binance_trade(n), provider="binance", recv_ns=T0_NS + n * 10**9, offset=n) for n in (3, 4)]
    (reported,) = events(fresh.step(log).status)
    assert (reported["symbol"], reported["provider"], reported["state"]) == ("__system__", "mdstream", "seq_jump")
    assert repeating.step(log).status == []


# -- a log that does not reach to what was processed


def trades_at(first_offset: int, ids: Iterable[int]) -> list[Raw]:
    """One a second, by id."""
    return [
        raw(binance_trade(n), provider="binance", recv_ns=T0_NS + n * 10**9, offset=first_offset + i)
        for i, n in enumerate(ids)
    ]


def ids_and_numbers(out: Output) -> tuple[list[str], list[int]]:
    found = events(out.trades)
    return [each["trade_id"] for each in found], [each["seq"] for each in found]


def test_recreated_log_is_read_from_its_beginning() -> None:
    """A broker without its disk, a deleted topic: numbers go on, what was sent again is a repeat, and it is told."""
    reader = stream()
    _, numbers = ids_and_numbers(reader.step(trades_at(100, [1, 2, 3])))
    again = reader.step([raw(b"{}", provider="binance", recv_ns=T0_NS + 10**10, kind="heartbeat", offset=0)])
    ids, more = ids_and_numbers(out := reader.step(trades_at(1, [3, 4, 5])))
    assert (ids, more) == (["4", "5"], [numbers[-1] + 1, numbers[-1] + 2])
    (reported,) = events(again.status)
    assert (reported["symbol"], reported["provider"], reported["state"]) == ("__system__", "mdstream", "log_reset")
    assert "was read up to offset 103 and goes on at 0" in reported["reason"]
    assert (out.status, reader.position) == ([], 4)


@pytest.mark.parametrize("cuts", [[], [1], [2], [3], [1, 2, 3]])
def test_log_that_lost_its_end_goes_on_with_what_is_new(cuts: list[int]) -> None:
    """A replica that lagged was elected: records that were processed, then new ones at offsets that were."""
    reader = stream()
    reader.step(trades_at(0, [1, 2, 3, 4, 5]))
    outputs = [reader.step(batch) for batch in cut(trades_at(0, [1, 2, 6, 7, 8]), cuts)]
    found = joined(outputs)
    assert [event["trade_id"] for event in events(found["trades"])] == ["6", "7", "8"]
    assert [event["state"] for event in events(found["status"]) if event["provider"] == "mdstream"] == ["log_reset"]


def test_standby_and_book_of_a_recreated_log_begin_anew() -> None:
    """Their records are gone: a checkpoint must not ask for them."""
    reader = stream(rules=Rules(Policy(("okx", "binance"))))
    reader.step([raw(okx_trades(1, 1), provider="okx", recv_ns=T0_NS, offset=50), *trades_at(51, [1, 2])])
    assert reader.read_from == 51
    reader.step(trades_at(0, [20]))
    assert reader.read_from == 0


# -- the output is a function of the log


RULES = st.sampled_from([MERGE, FAILOVER])


@given(logs(), st.sets(st.integers(0, 60)), RULES)
def test_output_is_the_same_however_the_log_is_cut(log: list[Raw], at: set[int], rules: Rules) -> None:
    """Chunks are as long as fetches happen to be: every byte, key, time and number is the same for any of them."""
    whole, pieces = stream(rules=rules), stream(rules=rules)
    expected = joined([whole.step(log)])
    assert joined(pieces.step(batch) for batch in cut(log, at)) == expected
    assert pieces.instruments == whole.instruments


@given(logs(), st.sets(st.integers(0, 60), max_size=8), st.data(), RULES)
def test_output_is_repeated_byte_for_byte_after_a_restore(
    log: list[Raw], at: set[int], data: st.DataObject, rules: Rules
) -> None:
    """A worker dies anywhere after any checkpoint: what the next owner repeats is what was there, and nothing jumps."""
    expected = joined([stream(rules=rules).step(log)])
    state_log: list[Out] = []
    dying, kept = stream(rules=rules), 0
    before: list[Output] = []
    for batch in cut(log, at):
        before.append(dying.step(batch))
        if data.draw(st.booleans()):
            state_log.append(saved(dying, *before[kept:]))
            kept = len(before)
            if data.draw(st.booleans()):
                break
    found = checkpoint.read(read_into(Ledger(RAW, checkpoint.LAYOUT), *state_log))
    next_owner = stream(rules=rules, state=found)
    repeated = next_owner.step(log[next_owner.read_from :])
    assert joined([*before[:kept], repeated]) == expected


@given(logs())
def test_replaying_the_log_adds_no_event_of_integer_ids(log: list[Raw]) -> None:
    """A venue's own ids identify a repeat: the same log read twice into one state adds no trade of theirs."""
    one_id_space = [record for record in log if b"@aggTrade" not in (record.value or b"")]
    canonical_stream = stream()
    canonical_stream.step(one_id_space)
    again = [replace(record, offset=record.offset + len(log)) for record in one_id_space]
    assert canonical_stream.step(again).trades == []


# -- numbers


@given(logs())
def test_seq_counts_without_a_hole_from_the_first_receive_time(log: list[Raw]) -> None:
    """Per symbol and type: the first number is its record's receive time in us, each next one is one more."""
    out = stream().step(log)
    for name in ("trades", "quotes", "books"):
        numbers: dict[str, list[int]] = defaultdict(list)
        first_ns: dict[str, int] = {}
        for event in events(getattr(out, name)):
            numbers[event["symbol"]].append(event["seq"])
            first_ns.setdefault(event["symbol"], event["ts_recv"])
        for symbol, seqs in numbers.items():
            start = first_ns[symbol] // 1000
            assert seqs == list(range(start, start + len(seqs)))


def test_trades_quotes_and_books_of_one_symbol_are_numbered_apart() -> None:
    """`seq` counts the events of one type and symbol: a quote takes no number from the trades."""
    at = [T0_NS, T0_NS + 5_000_000, T0_NS + 9_000_000, T0_NS + 11_000_000]
    out = stream().step(
        [
            raw(binance_trade(1, symbol="ETHUSDT"), provider="binance", recv_ns=at[0]),
            raw(binance_quote(1), provider="binance", recv_ns=at[1]),
            raw(binance_trade(2, symbol="ETHUSDT"), provider="binance", recv_ns=at[2]),
            raw(binance_quote(2), provider="binance", recv_ns=at[3]),
        ]
    )
    assert [event["seq"] for event in events(out.trades)] == [at[0] // 1000, at[0] // 1000 + 1]
    assert [event["seq"] for event in events(out.quotes)] == [at[1] // 1000, at[1] // 1000 + 1]


def test_event_carries_key_and_receive_time() -> None:
    """The record of an event: key is the symbol, time stamp the receive time in ms, `ts_recv` exact."""
    (record,) = stream().step([raw(binance_trade(7), provider="binance", recv_ns=T0_NS)]).trades
    key, value, timestamp_ms, headers = record
    assert (key, timestamp_ms, headers) == (b"BTCUSDT", T0_NS // 1_000_000, [])
    assert json.loads(value or b"") == {
        "type": "trade",
        "symbol": "BTCUSDT",
        "seq": T0_NS // 1000,
        "provider": "binance",
        "trade_id": "7",
        "price": 93741.2,
        "size": 0.0015,
        "side": "sell",
        "ts_exchange": 1_767_625_200_122_000_000,
        "ts_recv": T0_NS,
    }


def test_record_time_is_used_where_the_receive_time_is_missing() -> None:
    """Without header `t` the record's own time, in ms, is the receive time."""
    out = stream().step([Raw(binance_trade(1), timestamp=1_767_625_200_125, headers=[("p", b"binance")])])
    assert events(out.trades)[0]["ts_recv"] == 1_767_625_200_125_000_000


@pytest.mark.parametrize(
    "value", [b"", None, b"\x01", b"1767625200123456789", b"\xff" * 8, b"\x7f" * 8, b"\x7f" * 40], ids=repr
)
def test_receive_time_that_cannot_be_one_is_a_dead_letter(value: bytes | None) -> None:
    """Header `t` is 8 bytes of ns since 1970: anything else must not reach `seq`, which it would spoil for good."""
    canonical_stream = stream()
    broken = Raw(binance_trade(1), offset=5, headers=with_null(("p", b"binance"), ("t", value)))
    out = canonical_stream.step([broken, raw(binance_trade(2), provider="binance")])
    assert [letter["offset"] for letter in events(out.dead)] == [5]
    assert "no receive time" in events(out.dead)[0]["error"]
    assert [event["seq"] for event in events(out.trades)] == [T0_NS // 1000]
    saved(canonical_stream)  # it can be stored


def test_record_without_any_time_is_a_dead_letter() -> None:
    """Kafka's -1, no time stamp, is no receive time either."""
    out = stream().step([Raw(binance_trade(1), timestamp=-1, headers=[("p", b"binance")])])
    assert len(out.dead) == 1


@pytest.mark.parametrize("name", ["p", "t", "k", "x"])
def test_null_header_stops_nothing(name: str) -> None:
    """Kafka allows a header without a value: the record is understood or a dead letter, its neighbour unharmed."""
    good = raw(binance_trade(2), provider="binance")
    broken = Raw(binance_trade(1), headers=with_null(*(h for h in good.headers if h[0] != name), (name, None)))
    out = stream().step([broken, good])
    assert len(out.dead) + len(out.trades) == 2
    assert events(out.trades)[-1]["trade_id"] == "2"


# -- repeats


def test_late_trade_that_fills_a_hole_is_news_and_a_repeat_is_not() -> None:
    """ids 1 2 5 4 2 5 3: the second 2 and 5 are repeats, 4 and 3 came late."""
    frames = [raw(binance_trade(number), provider="binance") for number in (1, 2, 5, 4, 2, 5, 3)]
    out = stream().step(frames)
    assert [e["trade_id"] for e in events(out.trades)] == ["1", "2", "5", "4", "3"]
    assert out.counts["trade, repeat"] == 2


def test_same_id_at_two_venues_is_two_trades() -> None:
    """Ids are the venue's own: one feed's never hides another's."""
    out = stream().step([raw(okx_trades(1, 1), provider="okx"), raw(binance_trade(1), provider="binance")])
    assert [(e["provider"], e["trade_id"]) for e in events(out.trades)] == [
        ("okx", "1"),
        ("okx", "2"),
        ("binance", "1"),
    ]


def test_quote_that_says_nothing_new_is_a_repeat() -> None:
    """With an update id it must rise; without one (OKX tickers) the same content at the same time is a repeat."""
    frames = [("binance", binance_quote(n)) for n in (5, 5, 4, 6)] + [("okx", okx_quote(n)) for n in (1, 1, 2, 1)]
    out = stream().step([raw(frame, provider=provider) for provider, frame in frames])
    message = [(e["provider"], e["ask_size"] or e["bid_size"]) for e in events(out.quotes)]
    assert message == [("binance", 5.25), ("binance", 6.25), ("okx", 1.5), ("okx", 2.5)]


def test_book_of_an_older_update_is_a_repeat() -> None:
    """A snapshot that is not newer than the last one is not published again."""
    out = stream().step([raw(binance_book(number), provider="binance") for number in (10, 10, 9, 11)])
    assert len(out.books) == 2


def test_trade_and_agg_trade_never_mix() -> None:
    """Both number the same executions: only the first id space counts while it is alive, whichever comes more often."""
    frames = [binance_trade(1), binance_agg_trade(900, 1, 2), binance_trade(2), binance_agg_trade(901, 3, 3)]
    out = stream().step([raw(frame, provider="binance") for frame in frames])
    assert [e["trade_id"] for e in events(out.trades)] == ["1", "2"]
    assert out.counts["trade, other view"] == 2


def test_other_id_space_takes_over_once_the_first_is_silent() -> None:
    """ids  trade@0  agg@9.9s (passed over)  agg@10s (taken)  trade@10.1s (passed over): the switch is by log time."""
    silence = ID_SPACE_SILENCE_NS
    frames = [(0, binance_trade(1)), (silence - 1, binance_agg_trade(900, 1, 2))]
    frames += [(silence, binance_agg_trade(901, 3, 4)), (silence + 1, binance_trade(5))]
    log = [raw(frame, provider="binance", recv_ns=T0_NS + after) for after, frame in frames]
    log[1:1] = [raw(b"", provider="okx", kind="heartbeat", recv_ns=T0_NS + second * 10**9) for second in range(10)]
    out = stream().step(log)
    assert [(e["trade_id"], e.get("count", 1)) for e in events(out.trades)] == [("1", 1), ("901", 2)]


@given(logs())
def test_id_spaces_of_one_feed_alternate_only_after_silence(log: list[Raw]) -> None:
    """Between an event of one id space and the next of the other lie at least ID_SPACE_SILENCE_NS."""
    last: tuple[bool, int] | None = None
    for event in events(stream().step(log).trades):
        if (event["provider"], event["symbol"]) != ("binance", "BTCUSDT"):
            continue
        id_space = event.get("count", 1) == 2  # every generated aggregate stands for two
        if last is not None and last[0] != id_space:
            assert event["ts_recv"] - last[1] >= ID_SPACE_SILENCE_NS
        last = (id_space, event["ts_recv"])


# -- what is not data


@pytest.mark.parametrize(
    ("provider", "frame"), CONTROL, ids=lambda value: value[:30] if isinstance(value, bytes) else value
)
def test_control_frame_is_never_data(provider: str, frame: bytes) -> None:
    """Acks, pongs, errors, heartbeats and channels that are read past: counted, published nowhere, no state."""
    canonical_stream = stream()
    out = canonical_stream.step([raw(frame, provider=provider)])
    assert not any(joined([out]).values())
    assert sum(count for name, count in out.counts.items() if name.startswith("control ")) == 1
    assert canonical_stream.instruments == {}


def test_venue_errors_are_kept_to_be_shown_within_a_bound() -> None:
    """A venue that repeats an error for ever fills the counter, not the memory."""
    provider, frame = CONTROL[1]
    out = stream().step([raw(frame, provider=provider)] * (MAX_ERRORS + 5))
    assert out.counts["control error"] == MAX_ERRORS + 5
    assert len(out.errors) == MAX_ERRORS
    assert out.errors[0] == "binance error: code 2: Invalid request: unknown variant"


@pytest.mark.parametrize("value", [b"", None, b"anything"])
def test_heartbeat_is_never_data(value: bytes | None) -> None:
    """An ingestor's heartbeat is a sign of life: nothing is published for it."""
    out = stream().step([raw(value, provider="binance", kind="heartbeat")])
    assert not any(joined([out]).values())
    assert out.counts["heartbeat"] == 1


@pytest.mark.parametrize("provider", sorted(PROVIDERS))
@pytest.mark.parametrize("partitions", [1, 4, 8, 7])
def test_status_is_announced_by_one_partition_only(provider: str, partitions: int) -> None:
    """An ingestor writes its status to every partition; the one that the provider's name hashes to publishes it."""
    partitioner = Partitioner(partitions)
    record = raw(status(provider, "disconnected"), provider=provider, kind="status")

    def announcer(number: int) -> Callable[[str], bool]:
        return lambda name: partitioner(name.encode()) == number

    reported = [
        out
        for number in range(partitions)
        for out in Canonical(RAW, number, VENUES, rules=MERGE, announces=announcer(number)).step([record]).status
    ]
    assert [(key, json.loads(value or b"")) for key, value, _, _ in reported] == [
        (
            provider.encode(),
            {
                "type": "status",
                "symbol": "__system__",
                "provider": provider,
                "state": "disconnected",
                "reason": None,
                "ts_recv": T0_NS,
            },
        )
    ]


# -- what is not understood


@pytest.mark.parametrize("name", sorted(DEAD))
def test_frame_that_is_not_understood_is_a_dead_letter_with_its_reason(name: str) -> None:
    """It goes to md.dead with the reason and where it came from, once, and nowhere else."""
    record = DEAD[name]
    out = joined([stream().step([Raw(record.value, 42, record.timestamp, record.key, record.headers)])])
    assert {topic: len(records) for topic, records in out.items()} == {**dict.fromkeys(TOPICS, 0), "dead": 1}
    ((key, value, _, _),) = out["dead"]
    letter = json.loads(value or b"")
    assert key == RAW.encode()
    assert (letter["source_topic"], letter["partition"], letter["offset"]) == (RAW, PARTITION, 42)
    assert letter["error"]


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("price of abc", "float"),
        ("price of null", "null"),
        ("no price", "`p`"),
        ("unknown provider", "unknown provider 'mtgox'"),
        ("no headers", "unknown provider ''"),
        ("unknown type", "unknown type of message: 'surprise'"),
        ("status of another shape", "`provider`"),
    ],
)
def test_reason_names_what_was_wrong(name: str, reason: str) -> None:
    """At three in the morning the reason has to be enough."""
    (letter,) = events(stream().step([DEAD[name]]).dead)
    assert reason in letter["error"]


@pytest.mark.parametrize("name", sorted(DEAD))
def test_neighbours_of_a_dead_frame_are_unharmed(name: str) -> None:
    """What comes before and after it is numbered as if it had not been there."""
    around = [raw(binance_trade(number), provider="binance") for number in (1, 2)]
    with_it = stream().step([around[0], DEAD[name], around[1]])
    assert with_it.trades == stream().step(around).trades


class Foreign:
    """A venue from elsewhere, whose decoder raises what no contract names."""

    name, contiguous_ids, quotes_from_books, sizes_in_contracts = "foreign", False, True, False

    def decode(self, frame: bytes, contract_size: bytes = b"") -> list[Tick]:
        return [json.loads(frame)["tick"]]


def test_whatever_a_decoder_raises_is_a_dead_letter() -> None:
    """A faulty decoder costs its own frames, not the partition's other sources."""
    both = Canonical(RAW, PARTITION, [*VENUES, Foreign()], rules=MERGE, announces=lambda _: True)
    out = both.step([raw(b"{}", provider="foreign"), raw(binance_trade(1), provider="binance")])
    assert [letter["error"] for letter in events(out.dead)] == ["KeyError: 'tick'"]
    assert len(out.trades) == 1


# -- contracts


def okx_swap(number: int, size: str) -> bytes:
    arg, ts = '"arg":{"channel":"trades","instId":"BTC-USDT-SWAP"}', 1_767_625_200_123 + number
    trade = f'{{"tradeId":"{number}","px":"93741.2","sz":"{size}","side":"sell","ts":"{ts}"}}'
    return f'{{{arg},"data":[{trade}]}}'.encode()


def swap(number: int, size: str, contract_size: bytes | None, *, second: int = 0, offset: int = 0) -> Raw:
    """A record of a contract, worth so much; None: nobody knew."""
    found = raw(okx_swap(number, size), provider="okx", recv_ns=T0_NS + second * 10**9, kind="trade", offset=offset)
    own: list[tuple[str, bytes]] = [
        ("via", b"ws"),
        ("c", b"\1" * 8),
        *([("v", contract_size)] if contract_size is not None else []),
    ]
    key = b"BTC-USDT-SWAP" if contract_size is None else b"BTCUSDT-PERP"
    return replace(found, key=key, headers=[*found.headers, *own])


def test_a_contract_is_published_in_units_of_base() -> None:
    """By what its own record says that one was worth, also after the venue has changed that. Without, it is another
    instrument: the venue's, in contracts."""
    out = stream().step([swap(1, "35", b"0.01"), swap(2, "35", b"0.1"), swap(7, "35", None)])
    assert [(trade["symbol"], trade["size"]) for trade in events(out.trades)] == [
        ("BTCUSDT-PERP", 0.35),
        ("BTCUSDT-PERP", 3.5),
        ("BTC-USDT-SWAP", 35.0),
    ]


def test_a_contract_of_no_worth_is_a_dead_letter() -> None:
    """No size is made up, and the next record is read."""
    out = stream().step([swap(1, "35", b"0"), swap(2, "35", b"0.01")])
    (letter,) = events(out.dead)
    assert letter["error"] == "header v is no number of units of base that a contract is worth: b'0'"
    assert [trade["trade_id"] for trade in events(out.trades)] == ["2"]


def test_repair_is_told_what_the_missing_trades_were_worth() -> None:
    """By the live trades around them, also after a restart: repair may come when the venue has changed it."""
    log = [swap(1, "1", b"0.01"), swap(2, "1", b"0.01", offset=1), swap(9, "1", b"0.01", offset=2)]
    log += [swap(9 + n, "1", b"0.01", second=n, offset=2 + n) for n in range(1, 9)]
    recovered = replace(log[0], offset=11, headers=[*log[0].headers[:-1], ("v", b"0.5")])
    frame = repairs.rest_frame("/api/v5/market/history-trades?instId=BTC-USDT-SWAP&x", "trades", b'{"data":[]}')
    whole = stream()
    out = whole.step([*log, replace(recovered, value=frame)])
    (request,) = [repairs.decode_request(value or b"") for _, value, _, _ in out.gaps]
    assert (request.symbol, request.first_id, request.last_id, request.contract_size) == ("BTCUSDT-PERP", 3, 8, "0.01")
    assert whole.instruments["BTCUSDT-PERP"].feeds["okx"].contract_size == "0.01"


class BrokenRules(Rules):
    """Rules with a fault."""

    def of(self, symbol: str) -> Policy:
        raise KeyError(symbol)


def test_fault_of_our_own_rules_ends_the_step() -> None:
    """A dead letter for every record would hide it, and lose each of them for good."""
    with pytest.raises(KeyError, match="BTCUSDT"):
        stream(rules=BrokenRules(Policy(("binance",)))).step([raw(binance_trade(1), provider="binance")])


@settings(max_examples=300)
@given(st.sampled_from(sorted(PROVIDERS)), st.binary(max_size=200) | st.sampled_from(WHOLE), st.data())
def test_whatever_arrives_the_stream_goes_on(provider: str, frame: bytes, data: st.DataObject) -> None:
    """Any bytes from any venue: no exception, and a good frame afterwards is published."""
    if frame in WHOLE:
        at = data.draw(st.integers(0, len(frame)))
        frame = frame[:at] + data.draw(st.binary(max_size=6)) + frame[at + data.draw(st.integers(0, 6)) :]
    good: list[Record] = [raw(frame, provider=provider), raw(binance_quote(10**17), provider="binance")]
    assert len(stream().step(good).quotes) >= 1


# -- frames in a partition that is not theirs


def deployment(partitions: int) -> list[Canonical]:
    """The streams of all partitions, as a worker makes them."""
    partitioner = Partitioner(partitions)

    def owner(number: int) -> Callable[[str], bool]:
        return lambda key: partitioner(key.encode()) == number

    return [Canonical(RAW, number, VENUES, rules=MERGE, announces=owner(number)) for number in range(partitions)]


@pytest.mark.parametrize("frame", [binance_trade(1), binance_quote(1), binance_book(1)], ids=["trade", "quote", "book"])
def test_frame_is_taken_in_its_own_partition_and_refused_in_any_other(frame: bytes) -> None:
    """Another client's partitioner would begin a second series of the instrument, with numbers of its own."""
    taken = [joined([each.step([raw(frame, provider="binance")])]) for each in deployment(8)]
    published = [out for out in taken if out["trades"] or out["quotes"] or out["books"]]
    assert len(published) == 1
    assert published[0]["dead"] == []
    for number, out in enumerate(taken):
        if out is not published[0]:
            (letter,) = events(out["dead"])
            assert f"does not belong to partition {number}: its writer has to use the symbol" in letter["error"]


def test_misplaced_frames_are_no_fault_of_the_venue_and_leave_no_state() -> None:
    """The source is not left for what another client wrote, and the checkpoint does not grow."""
    own = Partitioner(8)(b"BTCUSDT")
    other = deployment(8)[(own + 1) % 8]
    out = other.step([raw(binance_trade(n), provider="binance", offset=n) for n in range(100)])
    assert other.sources[b"binance"].state.faults == 0
    assert other.instruments == {}
    assert out.counts["dead"] == 100


def test_repaired_trade_is_taken_in_its_own_partition() -> None:
    """Its key is the instrument's, like any frame's."""
    own = deployment(8)[Partitioner(8)(b"BTCUSDT")]
    for number in (1, 3):
        own.step([raw(binance_trade(number), provider="binance", offset=number)])
    row = b'[{"id":2,"price":"93741.2","qty":"0.1","time":1767625200122,"isBuyerMaker":true}]'
    answer = repairs.rest_frame("/api/v3/historicalTrades?symbol=BTCUSDT&fromId=2", "trade", row)
    out = joined([own.step([raw(answer, provider="binance", offset=4)])])
    assert out["dead"] == []
    assert [trade["trade_id"] for trade in events(out["trades"])] == ["2"]


def test_instrument_of_the_state_goes_on_where_it_was() -> None:
    """With more partitions than before, what waits in the old one is still its."""
    before = stream()
    before.step([raw(binance_trade(1), provider="binance")])
    assert Partitioner(8)(b"BTCUSDT") != PARTITION
    after = Canonical(
        RAW, PARTITION, VENUES, rules=MERGE, announces=lambda _: False, instruments=before.instruments, log=before.log
    )
    out = joined([after.step([raw(binance_trade(2), provider="binance", offset=1)])])
    assert (len(out["trades"]), out["dead"]) == (1, [])
