"""Kept books, as a partition publishes them: quotes at once, books at intervals, the same after a restart."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from unittest.mock import patch

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from plain_books import PlainBook, Top, l2update, snapshot, ticker
from stream_histories import Raw, new_stream
from stream_outputs import RAW, events, joined, read_into, saved

from mdstream.records import WS, RawEncoder
from mdstream.stream import books, checkpoint
from mdstream.stream.canonical import Canonical
from mdstream.stream.ledger import Ledger
from mdstream.stream.output import Out, Output
from mdstream.stream.rules import Policy, Rules
from mdstream.venues.providers import provider

T0_MS = 1_767_625_200_000
MS = 1_000_000
SECOND_MS = 1_000
ALONE = Rules(Policy(("coinbase",)))
PREFERRED = Rules(Policy(("coinbase", "okx")))
STANDBY = Rules(Policy(("okx", "coinbase")))
MERGED = Rules(Policy(("coinbase", "okx"), merge=True))
BTC = "BTC-USDT"


class Log:
    """A partition's log, written by ingestors. Times in ms since the beginning."""

    def __init__(self) -> None:
        self.records: list[Raw] = []
        self.at_ms = 0

    def add(self, venue: str, frame: bytes, *, at_ms: int | None = None, kind: str | None = None) -> None:
        """A frame, at the time of the one before where none is given."""
        self.at_ms = self.at_ms if at_ms is None else at_ms
        recv_ns = (T0_MS + self.at_ms) * MS
        routed = provider(venue).route(frame)
        k = routed.kind if kind is None else kind.encode()
        key, _, timestamp_ms, headers = RawEncoder(venue, WS).encode(routed.key, frame, k, recv_ns)
        self.records.append(Raw(frame, len(self.records), timestamp_ms, key, headers))

    def heartbeat(self, venue: str, **at: int) -> None:
        self.add(venue, b"{}", kind="heartbeat", **at)

    def status(self, venue: str, state: str, **at: int) -> None:
        self.add(venue, json.dumps({"provider": venue, "state": state}).encode(), kind="status", **at)


def book(bid: str = "99", ask: str = "101", *, product: str = BTC) -> bytes:
    return snapshot([(bid, "1"), ("90", "2")], [(ask, "1"), ("110", "2")], product=product)


def bid(price: str, size: str = "1", *, product: str = BTC) -> bytes:
    return l2update([("buy", price, size)], product=product)


def okx_trade(number: int, at_ms: int) -> bytes:
    trade = {"instId": BTC, "tradeId": str(number), "px": "100", "sz": "1", "side": "buy", "ts": str(T0_MS + at_ms)}
    return json.dumps({"arg": {"channel": "trades", "instId": BTC}, "data": [trade]}).encode()


def okx_quote(bid: str, at_ms: int) -> bytes:
    text = {"instId": BTC, "bidPx": bid, "bidSz": "1", "askPx": "102", "askSz": "1", "ts": str(T0_MS + at_ms)}
    return json.dumps({"arg": {"channel": "tickers", "instId": BTC}, "data": [text]}).encode()


def okx_book(at_ms: int) -> bytes:
    text = {"bids": [["98", "1", "0", "1"]], "asks": [["102", "1", "0", "1"]], "ts": str(T0_MS + at_ms), "seqId": at_ms}
    return json.dumps({"arg": {"channel": "books5", "instId": BTC}, "data": [text]}).encode()


def match(number: int, at_ms: int = 0, *, product: str = BTC) -> bytes:
    minutes, rest_ms = divmod(at_ms, 60_000)
    return json.dumps(
        {"type": "match", "trade_id": number, "side": "sell", "size": "1", "price": "100", "product_id": product,
         "time": f"2026-01-05T15:{minutes:02}:{rest_ms / 1000:06.3f}Z"},
        separators=(",", ":"),
    ).encode()  # fmt: skip


def run(log: Log, rules: Rules = ALONE) -> Output:
    return new_stream(rules).step(log.records)


def tops(out: Output) -> list[tuple[str, float | None, float | None]]:
    return [(e["provider"], e["bid"], e["ask"]) for e in events(out.quotes)]


# -- what is published, and when


def test_every_change_of_the_top_is_a_quote_with_the_times_of_its_frame() -> None:
    log = Log()
    log.add("coinbase", book(), at_ms=0)
    log.add("coinbase", l2update([("buy", "100", "3")], product=BTC, time="2026-01-05T15:00:00.05Z"), at_ms=70)
    log.add("coinbase", bid("91"), at_ms=80)
    log.add("coinbase", bid("100", "0"), at_ms=90)
    quotes = events(run(log).quotes)
    assert [(e["bid"], e["bid_size"], e["ask"], e["ts_recv"] - T0_MS * MS) for e in quotes] == [
        (99, 1, 101, 0), (100, 3, 101, 70 * MS), (99, 1, 101, 90 * MS),
    ]  # fmt: skip
    assert [e["ts_exchange"] for e in quotes] == [None, (T0_MS + 50) * MS, None]
    assert [e["seq"] for e in quotes] == list(range(T0_MS * 1000, T0_MS * 1000 + 3))


def test_books_are_published_at_most_ten_times_a_second_and_the_last_change_is_published_too() -> None:
    """
    update   0(snapshot)  10  20  ..  90  100 110                        heartbeat at 1000
    book     0                            100                            ^ what came at 110, with its own time
    """
    log = Log()
    log.add("coinbase", book(), at_ms=0)
    for at_ms in range(10, 120, 10):
        log.add("coinbase", bid("95", str(at_ms)), at_ms=at_ms)
    log.heartbeat("coinbase", at_ms=1000)
    reported = events(run(log).books)
    assert [(e["bids"][1][1], e["ts_recv"] // MS - T0_MS) for e in reported] == [(2, 0), (100, 100), (110, 110)]


def test_book_that_did_not_change_is_not_published_again() -> None:
    log = Log()
    log.add("coinbase", book(), at_ms=0)
    for at_ms in range(100, 3000, 100):
        log.add("coinbase", bid("90", "2"), at_ms=at_ms)
    assert len(events(run(log).books)) == 1


def test_crossed_book_is_not_published() -> None:
    """Neither its top nor its levels, also when an evaluation comes in between."""
    log = Log()
    log.add("coinbase", book(), at_ms=0)
    log.add("coinbase", bid("101"), at_ms=300)
    log.heartbeat("coinbase", at_ms=1000)
    out = run(log)
    assert (tops(out), len(out.books)) == ([("coinbase", 99, 101)], 1)
    log.add("coinbase", bid("101", "0"), at_ms=1100)
    assert (len(run(log).quotes), len(run(log).books)) == (2, 2)


@pytest.mark.parametrize("rules", [ALONE, MERGED], ids=["failover", "merge"])
def test_ticker_publishes_the_top_only_where_there_is_no_book(rules: Rules) -> None:
    """It comes with trades alone: beside a book it would bring back what has changed since."""
    log = Log()
    log.add("coinbase", ticker("97", "103", 1, product=BTC), at_ms=0)
    log.add("coinbase", book(), at_ms=10)
    log.add("coinbase", ticker("98", "102", 2, product=BTC), at_ms=20)
    assert tops(run(log, rules)) == [("coinbase", 97, 103), ("coinbase", 99, 101)]


def test_books_of_merged_sources_are_published_side_by_side() -> None:
    """Each under its provider, numbered together."""
    log = Log()
    log.add("coinbase", book(), at_ms=0)
    log.add("okx", okx_book(5), at_ms=5)
    log.add("coinbase", bid("100"), at_ms=110)
    reported = events(run(log, MERGED).books)
    assert [(e["provider"], e["bids"][0][0]) for e in reported] == [("coinbase", 99), ("okx", 98), ("coinbase", 100)]
    assert [e["seq"] - reported[0]["seq"] for e in reported] == [0, 1, 2]


# -- what makes a book worthless


BROKEN = l2update([("buy", "1e5", "1")], product=BTC)


def test_frame_of_a_book_that_is_not_understood_loses_the_book() -> None:
    """What it changed is unknown: until the next snapshot only tickers give quotes, and md.status says why."""
    log = Log()
    log.add("coinbase", book(), at_ms=0)
    log.add("coinbase", BROKEN, at_ms=10)
    log.add("coinbase", bid("100"), at_ms=20)
    log.add("coinbase", ticker("96", "102", 1, product=BTC), at_ms=30)
    log.add("coinbase", book("97"), at_ms=40)
    out = run(log)
    assert tops(out) == [("coinbase", 99, 101), ("coinbase", 96, 102), ("coinbase", 97, 101)]
    (letter,) = events(out.dead)
    assert "not a price" in letter["error"]
    (text,) = events(out.status)
    assert (text["symbol"], text["provider"], text["state"]) == ("BTCUSDT", "coinbase", "book_lost")
    assert "could not be understood" in text["reason"]


def test_other_dead_frames_lose_no_book() -> None:
    """Neither those of its trades nor those of another instrument."""
    log = Log()
    log.add("coinbase", book(), at_ms=0)
    log.add("coinbase", match(1).replace(b'"100"', b'"abc"'), at_ms=10)
    log.add("coinbase", BROKEN.replace(b"BTC", b"ETH"), at_ms=20)
    log.add("coinbase", bid("100"), at_ms=30)
    out = run(log)
    assert (len(out.dead), len(out.quotes), out.status) == (2, 2, [])


def test_book_that_stays_crossed_is_lost_and_reported() -> None:
    log = Log()
    log.add("coinbase", book(), at_ms=0)
    for at_ms in range(1000, 8000, 1000):
        log.add("coinbase", bid("102", str(at_ms)), at_ms=at_ms)
    (text,) = events(run(log).status)
    assert text["state"] == "book_lost"


def test_book_without_a_snapshot_is_reported_every_ten_seconds() -> None:
    """So that its ingestor subscribes again, as often as it takes."""
    log = Log()
    for second in range(26):
        log.add("coinbase", bid(f"{90 + second}"), at_ms=second * SECOND_MS)
    log.add("coinbase", book(), at_ms=26_000)
    log.add("coinbase", bid("99.5"), at_ms=60_000)
    lost = [e for e in events(run(log).status) if e.get("state") == "book_lost"]
    assert [(e["ts_recv"] - T0_MS * MS) // (SECOND_MS * MS) for e in lost] == [0, 10, 20]
    assert {e["reason"] for e in lost} == {"updates came, but no snapshot before"}


def test_records_that_are_gone_from_the_log_lose_the_books() -> None:
    """Retention was faster than we: what changed meanwhile is not known."""
    log = Log()
    log.add("coinbase", book(), at_ms=0)
    for size in "123":
        log.add("coinbase", bid("100", size), at_ms=int(size))
    stream = new_stream(ALONE)
    stream.step(log.records[:2])
    out = stream.step(log.records[3:])
    assert (out.quotes, [e["state"] for e in events(out.status)]) == ([], ["book_lost"])


def test_after_a_disconnect_the_ticker_speaks_until_the_book_does() -> None:
    """The venue may refuse level2 to the next connection; a frame of the book shows that it goes on."""
    log = Log()
    log.add("coinbase", book(), at_ms=0)
    log.status("coinbase", "disconnected", at_ms=1000)
    log.status("coinbase", "connected", at_ms=2000)
    log.add("coinbase", ticker("98", "102", 1, product=BTC), at_ms=2100)
    log.add("coinbase", book("97"), at_ms=2200)
    log.add("coinbase", ticker("98", "102", 2, product=BTC), at_ms=2300)
    assert tops(run(log)) == [("coinbase", 99, 101), ("coinbase", 98, 102), ("coinbase", 97, 101)]


def test_book_that_continues_after_a_reconnect_publishes_its_top_again() -> None:
    """Tickers gave quotes meanwhile; the book's holds, though the update did not change it."""
    log = Log()
    log.add("coinbase", book(), at_ms=0)
    log.status("coinbase", "connected", at_ms=100)
    log.add("coinbase", ticker("98", "102", 1, product=BTC), at_ms=200)
    log.add("coinbase", bid("95"), at_ms=300)
    log.add("coinbase", bid("95", "2"), at_ms=400)
    assert tops(run(log)) == [("coinbase", 99, 101), ("coinbase", 98, 102), ("coinbase", 99, 101)]


# -- failover


def market(seconds: int, *, coinbase_until_ms: int = 1 << 60, okx_until_ms: int = 1 << 60) -> Log:
    """Both venues with trades, quotes and books every 100 ms; Coinbase's top stays, its depth moves."""
    log = Log()
    log.add("coinbase", book(), at_ms=0)
    for at_ms in range(100, seconds * SECOND_MS, 100):
        log.at_ms = at_ms
        if at_ms % SECOND_MS == 0:
            log.heartbeat("coinbase")
            log.heartbeat("okx")
        if at_ms < coinbase_until_ms:
            log.add("coinbase", match(at_ms // 100, at_ms))
            log.add("coinbase", ticker("98", "102", at_ms, product=BTC))
            log.add("coinbase", bid("95", str(at_ms)))
        if at_ms < okx_until_ms:
            log.add("okx", okx_trade(at_ms // 100, at_ms))
            log.add("okx", okx_quote(f"{98 + at_ms % 300 / 1000}", at_ms))
            log.add("okx", okx_book(at_ms))
    return log


def test_coinbase_stays_followed_beside_okx() -> None:
    """A minute and a half of both: the preferred one has all three kinds of data, so nobody changes over."""
    stream = new_stream(PREFERRED)
    out = stream.step(market(90).records)
    assert [e for e in events(out.status) if e.get("state") == "switched"] == []
    assert {e["provider"] for e in events(out.books)} == {"coinbase"}
    (lines,) = stream.monitor.lines().values()
    assert {name: finding.health.name for name, finding in stream.monitor.findings(lines).items()} == {
        "coinbase": "GOOD",
        "okx": "GOOD",
    }


def test_venue_that_is_switched_to_publishes_its_top_at_once() -> None:
    """Coinbase stood by, and its top has not changed for twenty seconds when OKX stalls: its book was kept."""
    out = new_stream(STANDBY).step(market(40, okx_until_ms=20_000).records)
    switch = [e for e in events(out.status) if e.get("state") == "switched"][-1]
    assert (switch["provider"], switch["previous"]) == ("coinbase", "okx")
    assert tops(out)[-2:] == [("okx", 98.1, 102), ("coinbase", 99, 101)]
    first = next(e for e in events(out.books) if e["provider"] == "coinbase" and e["bids"][1][1] > 1000)
    assert first["bids"][1] == [95, (switch["ts_recv"] // MS - T0_MS) // 100 * 100 - 100]


def test_venue_without_a_book_hands_over_its_tickers() -> None:
    """As other venues do: the quotes since the last one of the venue before."""
    log = Log()
    for record in market(20, okx_until_ms=15_000).records:
        if dict(record.headers)["k"] != b"book" or dict(record.headers)["p"] != b"coinbase":
            moved = Raw(record.value, len(log.records), record.timestamp, record.key, record.headers)
            log.records.append(moved)
    reported = events(run(log, STANDBY).quotes)
    assert [e["ts_recv"] // MS - T0_MS for e in reported if e["provider"] == "coinbase"][-50:] == [
        *range(15_000, 20_000, 100)
    ]


# -- a venue whose quotes are not the book's


def okx_changes(at_ms: int, *, bid: str = "97", whole: bool = False) -> bytes:
    """An update each 100 ms, numbered by its time."""
    data = {"bids": [[bid, str(at_ms + 1), "0", "1"]], "asks": [["103", "1", "0", "1"]], "ts": str(T0_MS + at_ms)}
    ids = {"seqId": at_ms, "prevSeqId": -1 if whole else at_ms - 100}
    action = "snapshot" if whole else "update"
    return json.dumps({"arg": {"channel": "books", "instId": BTC}, "action": action, "data": [data | ids]}).encode()


def test_quotes_of_their_own_channel_go_on_beside_a_kept_book() -> None:
    """The book is published, and its top moves; the quotes are the channel's alone."""
    log = Log()
    log.add("okx", okx_changes(0, whole=True), at_ms=0)
    for at_ms in range(100, 1000, 100):
        log.add("okx", okx_changes(at_ms, bid=f"97.{at_ms}"), at_ms=at_ms)
        log.add("okx", okx_quote(f"98.{at_ms}", at_ms))
    log.heartbeat("okx", at_ms=2000)
    out = run(log, Rules(Policy(("okx",))))
    assert [bid for _, bid, _ in tops(out)] == [float(f"98.{at_ms}") for at_ms in range(100, 1000, 100)]
    assert [e["bids"][0][0] for e in events(out.books)][-1] == 97.9


def test_switch_to_such_a_venue_publishes_its_book_and_its_own_quotes() -> None:
    """Those since the last quote of the venue before."""
    log = Log()
    for record in market(20, coinbase_until_ms=10_000).records:
        at_ms, (provider_, kind) = record.timestamp - T0_MS, (dict(record.headers)[k] for k in ("p", "k"))
        log.at_ms = at_ms
        if (provider_, kind) == (b"okx", b"book"):
            log.add("okx", okx_changes(at_ms, whole=at_ms == 100))
        else:
            log.records.append(Raw(record.value, len(log.records), record.timestamp, record.key, record.headers))
    out = run(log, PREFERRED)
    switch = next(e for e in events(out.status) if e.get("state") == "switched" and e["provider"] == "okx")
    first_book = next(e for e in events(out.books) if e["provider"] == "okx")
    assert first_book["bids"][0][0] == 97
    assert first_book["ts_recv"] <= switch["ts_recv"]
    assert {e["bid"] for e in events(out.quotes) if e["provider"] == "okx"} == {98, 98.1, 98.2}


# -- after a restart

PRODUCTS = (BTC, "ETH-USDT")
SIZES = st.sampled_from(["0", "0.00000000", "1", "2.5"])
BIDS = st.tuples(st.just("buy"), st.integers(94, 100).map(str), SIZES)
ASKS = st.tuples(st.just("sell"), st.integers(100, 106).map(str), SIZES)  # crossed at 100 now and then
UPDATES = st.lists(BIDS | ASKS, min_size=1, max_size=2)
TIMES = st.sampled_from(["", *(f"2026-01-05T15:00:00.00000{n}Z" for n in range(8))])
OF_UPDATES = st.tuples(UPDATES, st.sampled_from(PRODUCTS), TIMES).map(
    lambda text: ("coinbase", l2update(text[0], product=text[1], time=text[2]), None)
)
OF_BOOKS = st.one_of(
    st.sampled_from(PRODUCTS).map(lambda product: ("coinbase", book(product=product), None)),
    *[OF_UPDATES] * 8,
    st.integers(1, 5).map(lambda n: ("coinbase", ticker("98", "102", n, product=BTC), None)),
    st.just(("coinbase", BROKEN, None)),
    st.integers(1, 99).map(lambda n: ("okx", okx_quote("98", n), None)),
    st.integers(1, 99).map(lambda n: ("okx", okx_trade(n, n), None)),
    st.integers(1, 99).map(lambda n: ("coinbase", match(n), None)),
    st.integers(1, 99).map(lambda n: ("okx", okx_book(n), None)),
    st.sampled_from(["connected", "disconnected"]).map(
        lambda state: ("coinbase", json.dumps({"provider": "coinbase", "state": state}).encode(), "status")
    ),
)  # fmt: skip
PAUSES_MS = st.sampled_from([0, 10, 60, 150, 300, 2000])


@st.composite
def logs(draw: st.DrawFn) -> Log:
    """Two products: snapshots, changes with copies among them, tickers, and what makes a book worthless; OKX beside."""
    log = Log()
    for product in reversed(PRODUCTS):  # who spoke first must not matter
        log.add("coinbase", book(product=product))
    for (venue, frame, kind), pause_ms in draw(st.lists(st.tuples(OF_BOOKS, PAUSES_MS), min_size=5, max_size=50)):
        log.add(venue, frame, kind=kind, at_ms=log.at_ms + pause_ms)
    return log


def restored(written: Sequence[Out], rules: Rules) -> Canonical:
    """The stream of a worker that takes over from these checkpoints."""
    return new_stream(rules, checkpoint.read(read_into(Ledger(RAW, checkpoint.LAYOUT), *written)))


def lives(log: Sequence[Raw], rules: Rules, cuts: Sequence[int]) -> Iterator[Output]:
    """What workers publish that die one after the other, each right behind the checkpoint it wrote at its cut."""
    state_log: list[Out] = []
    worker, begin = new_stream(rules), 0
    for cut in [*sorted(cuts), len(log)]:
        out = worker.step(log[begin:cut])
        yield out
        state_log.append(saved(worker, out))
        worker = restored(state_log, rules)
        begin = worker.read_from


RULES = st.sampled_from([ALONE, PREFERRED, STANDBY, MERGED])


@settings(max_examples=150)
@given(logs(), RULES, st.data(), st.sampled_from([1, 500, 3000, 30_000]))
def test_output_is_the_same_wherever_workers_took_over(
    log: Log, rules: Rules, data: st.DataObject, keep_ms: int
) -> None:
    """Byte for byte, with the same seq: whatever the books are made of, a snapshot in the log or an image."""
    cuts = data.draw(st.lists(st.integers(1, len(log.records)), max_size=6))
    with patch.object(books, "KEEP_NS", keep_ms * MS):
        expected = joined([new_stream(rules).step(log.records)])
        assert joined(lives(log.records, rules, cuts)) == expected


@given(logs())
def test_quotes_are_the_top_that_a_plain_reading_gives(log: Log) -> None:
    """Of updates without copies: whenever the book is known, the last quote is its top."""
    stream, plain = new_stream(ALONE), dict[str, PlainBook]()
    last: dict[str, Top] = {}
    for record in log.records:
        message = json.loads(record.value or b"")
        out = stream.step([record])
        last |= {e["symbol"]: (e["bid"], e["bid_size"], e["ask"], e["ask_size"]) for e in events(out.quotes)}
        if message.get("type") == "snapshot":
            plain[message["product_id"]] = PlainBook()
        if out.dead:
            plain.pop(BTC, None)
        elif (
            message.get("type") in ("snapshot", "l2update")
            and message["product_id"] in plain
            and not message.get("time")
        ):
            known = plain[message["product_id"]]
            known.take(message)
            if known.crossed:  # it may be lost by now
                del plain[message["product_id"]]
            else:
                assert last[message["product_id"].replace("-", "")] == known.top()
        elif message.get("time"):
            plain.pop(message["product_id"], None)


def test_checkpoint_writes_an_image_of_a_book_only_now_and_then() -> None:
    """A minute of ten changes a second, a checkpoint each second: two images, each beside its instrument's record."""
    log = Log()
    log.add("coinbase", book(), at_ms=0)
    for at_ms in range(100, 61_000, 100):
        log.add("coinbase", bid("95", str(at_ms)), at_ms=at_ms)
    stream, keys = new_stream(ALONE), []
    for begin in range(0, len(log.records), 10):
        keys += [key for key, *_ in saved(stream, stream.step(log.records[begin : begin + 10]))]
        age_ms = log.at_ms if stream.position == len(log.records) else (begin + 9) * 100
        assert age_ms - log.records[stream.read_from].timestamp + T0_MS <= 30_500
    assert keys.count(b"md.raw.crypto|BTCUSDT book coinbase") == 2
    assert keys.count(b"md.raw.crypto|BTCUSDT") == 61


def test_book_whose_image_is_not_there_waits_for_a_snapshot() -> None:
    """A checkpoint that lost it, for whatever reason, must not begin with an empty book as if it were right."""
    log = Log()
    log.add("coinbase", book(), at_ms=0)
    for at_ms in range(1000, 40_000, 1000):
        log.add("coinbase", bid("95", str(at_ms)), at_ms=at_ms)
    stream = new_stream(ALONE)
    out = stream.step(log.records)
    written = [record for record in saved(stream, out) if record[0] != b"md.raw.crypto|BTCUSDT book coinbase"]
    log.add("coinbase", bid("100"), at_ms=40_000)
    log.add("coinbase", book("98"), at_ms=41_000)
    next_owner = restored([written], ALONE)
    assert tops(next_owner.step(log.records[next_owner.read_from :])) == [("coinbase", 98, 101)]


def test_book_that_was_no_source_for_a_while_is_not_taken_up_again_as_it_was() -> None:
    """A setting took Coinbase out and put it back; a bid that went meanwhile is in no image."""
    log, ends, state_log = Log(), list[int](), list[Out]()
    log.add("coinbase", book("100"), at_ms=0)
    for life in range(3):
        for second in range(1, 41):
            log.add("coinbase", bid("95", str(second)), at_ms=(life * 40 + second) * SECOND_MS)
            log.add("okx", okx_trade(life * 40 + second, log.at_ms))
        if life == 1:
            log.add("coinbase", bid("100", "0"))
        ends.append(len(log.records))
    reported = []
    for rules, end in zip([ALONE, Rules(Policy(("okx",))), ALONE], ends, strict=True):
        worker = restored(state_log, rules)
        out = worker.step(log.records[worker.read_from : end])
        reported.append({e["bids"][0][0] for e in events(out.books)})
        state_log.append(saved(worker, out))
    assert reported == [{100}, set(), set()]


def test_book_whose_snapshot_cannot_be_read_again_is_never_kept_as_an_empty_one() -> None:
    """Whatever made it unreadable: an image of nothing would look like a market without orders."""
    log = Log()
    log.add("coinbase", book(), at_ms=0)
    stream = new_stream(ALONE)
    state_log = [saved(stream, stream.step(log.records))]
    log.records[0] = Raw(b"{", 0, log.records[0].timestamp, b"BTCUSDT", log.records[0].headers)
    for at_ms in range(1000, 70_000, 1000):
        log.add("coinbase", bid("95", str(at_ms)), at_ms=at_ms)
    for end in (35, len(log.records)):
        worker = restored(state_log, ALONE)
        worker.position = max(worker.position, 1)
        out = worker.step(log.records[worker.read_from : end])
        assert (out.quotes, out.books) == ([], [])
        state_log.append(saved(worker, out))
