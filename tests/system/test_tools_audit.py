"""`mdstream audit` over real topics and a real database: agreement is reported, and each loss is named at its hop."""

from __future__ import annotations

import asyncio
import json
import re
import sqlite3
import time
from collections.abc import Iterable, Sequence
from contextlib import closing
from pathlib import Path
from typing import Any, NamedTuple

import msgspec
import pytest
from msgspec.structs import replace
from processes import run_mdstream

from mdstream import events
from mdstream.bars.bars import Bars
from mdstream.bars.rules import Rules
from mdstream.events import HISTORY, Bar, Quote, Trade
from mdstream.kafka.publisher import Partitioner, Publisher
from mdstream.records import ProducerRecord
from mdstream.repairs import rest_frame
from mdstream.replay.capture import Frame, Writer
from mdstream.sinks.sqlite import FILE_NAME, SCHEMA

pytestmark = pytest.mark.system

START_MS = 1_767_625_200_000
MS = 1_000_000
SYMBOLS = ("BTCUSDT", "ETHUSDT", "SOLUSDT")
PREFIX = re.compile(r"^t[0-9a-f]{12}\.")
COUNT = 300
"""Trades of the feed, one a second: five minutes of three instruments."""


def frame(number: int) -> bytes:
    symbol, at_ms = SYMBOLS[number % 3], START_MS + number * 1000
    data = {"e": "trade", "s": symbol, "t": number, "p": f"{number}.5", "q": "2", "T": at_ms, "m": number % 2 == 0}
    return json.dumps({"stream": f"{symbol.lower()}@trade", "data": data}, separators=(",", ":")).encode()


def trade(number: int, **changed: Any) -> Trade:
    """What the canonical stream makes of `frame(number)`."""
    at_ns = (START_MS + number * 1000) * MS
    fields: dict[str, Any] = {
        "symbol": SYMBOLS[number % 3],
        "seq": number // 3 + 1,
        "provider": "binance",
        "trade_id": str(number),
        "price": number + 0.5,
        "size": 2.0,
        "side": "sell" if number % 2 == 0 else "buy",
        "ts_exchange": at_ns,
        "ts_recv": at_ns + 5 * MS,
    }
    return Trade(**(fields | changed))


def quote(minute: int, bid: float = 1.0) -> Quote:
    """A quote of BTCUSDT at the beginning of a minute."""
    at_ns = (START_MS + minute * 60_000) * MS
    return Quote("BTCUSDT", minute + 1, "binance", bid, 1.0, bid + 1, 1.0, None, at_ns)


@pytest.fixture
def feed(env: dict[str, str], tmp_path: Path) -> dict[str, str]:
    """The environment, with COUNT trades on the raw topic. Nobody builds bars here."""
    env["MDSTREAM_BARS"] = ""
    path = tmp_path / "feed.jsonl"
    with Writer(path) as writer:
        for n in range(COUNT):
            writer.write(Frame((START_MS + n * 1000 + 5) * MS, "binance", frame(n)))
        writer.write(Frame((START_MS + COUNT * 1000) * MS, "binance", b"not json"))
    assert run_mdstream("topics", "--create", env=env).returncode == 0
    replay(env, path)
    return env


def replay(env: dict[str, str], path: Path) -> None:
    done = run_mdstream("replay", path, "--as-fast-as-possible", env=env)
    assert done.returncode == 0, done.stderr


async def publish(env: dict[str, str], trades: Sequence[Trade]) -> None:
    """Write canonical trades, as a core worker does."""
    await send(env, "trades", [(one.symbol.encode(), events.encode(one), one.ts_recv // MS, []) for one in trades])


async def send(env: dict[str, str], kind: str, records: Sequence[ProducerRecord]) -> None:
    """Write records to a topic, each to the partition of its key."""
    partition_of = Partitioner(int(env["MDSTREAM_PARTITIONS"]))
    publisher = Publisher(env["KAFKA_BOOTSTRAP_SERVERS"], client_id="test")
    await publisher.start()
    topic = f"{env['MDSTREAM_TOPIC_PREFIX']}.{kind}"
    futures: list[asyncio.Future[object]] = []
    try:
        for key in sorted({key for key, *_ in records if key is not None}):
            futures += await publisher.send(topic, partition_of(key), [one for one in records if one[0] == key])
        await asyncio.gather(*futures)
    finally:
        await publisher.stop()


def store(env: dict[str, str], trades: Iterable[Trade]) -> None:
    """Write trades to a database of the files role's form."""
    path = Path(env["MDSTREAM_DATA_DIR"]) / FILE_NAME
    path.parent.mkdir(parents=True)
    columns = ("symbol", "seq", "provider", "trade_id", "price", "size", "side", "ts_exchange", "ts_recv")
    with closing(sqlite3.connect(path)) as connection:
        for statement in SCHEMA:
            connection.execute(statement)
        rows = [(*(getattr(one, column) for column in columns), 1, 0) for one in trades]
        insert = f"INSERT INTO trades ({','.join(columns)}, count, recovered) VALUES ({','.join('?' * 11)})"
        connection.executemany(insert, rows)
        connection.commit()


def audit(env: dict[str, str], *options: object, status: int) -> dict[str, Any]:
    done = run_mdstream("audit", "--json", *options, env=env)
    assert done.returncode == status, done.stderr + done.stdout
    report: dict[str, Any] = json.loads(done.stdout)
    assert report["agree"] is (status == 0)
    return report


def named(report: dict[str, Any]) -> list[tuple[str, str, str]]:
    """Kind, hop and trade id of each difference."""
    return [(one["kind"], short(one["hop"]), one["trade_id"]) for one in report["differences"]]


def short(hop: str) -> str:
    """A hop's name without the test's own prefix."""
    return PREFIX.sub("", hop)


def journal(path: Path, numbers: Sequence[int]) -> Path:
    """A simulator's journal of the feed's trades."""
    lines = []
    for n in numbers:
        one = trade(n)
        fields = ("provider", "symbol", "trade_id", "price", "size", "side", "ts_exchange")
        lines.append(json.dumps({field: getattr(one, field) for field in fields}) + "\n")
    path.write_text("".join(lines))
    return path


async def test_hops_that_hold_the_same_trades_agree(feed: dict[str, str], tmp_path: Path) -> None:
    """Count and hash are equal from the journal to the database; records that are no trade are in a note."""
    trades = [trade(n) for n in range(COUNT)]
    await publish(feed, trades)
    store(feed, trades)
    report = audit(feed, "--journal", journal(tmp_path / "sent.jsonl", range(COUNT)), "--minutes", status=0)
    assert [short(hop["name"]) for hop in report["hops"]] == [
        "journal", "raw.*", "trades", "SQLite market_data.db",
    ]  # fmt: skip
    assert {hop["trades"] for hop in report["hops"]} == {COUNT}
    assert len({hop["hash"] for hop in report["hops"]}) == 1
    assert len(report["minutes"]) == 15
    assert report["notes"] == [f"{report['hops'][1]['name']}: 1 frames not understood"]
    text = run_mdstream("audit", env=feed)
    assert text.returncode == 0
    assert text.stdout.endswith("every hop holds the same trades\n")


async def test_each_fault_is_named_at_its_hop(feed: dict[str, str], tmp_path: Path) -> None:
    """
    journal    0 ... 299  300    the venue sent one more: missing at raw
    raw        0 ... 299
    canonical  no 7, 8 at another price, 9 under two numbers
    database   no 10
    """
    trades = [trade(n) for n in range(COUNT) if n != 7]
    trades[7] = trade(8, price=8.25)
    await publish(feed, [*trades, trade(9, seq=101)])
    store(feed, [one for one in trades if one.trade_id != "10"])
    report = audit(feed, "--journal", journal(tmp_path / "sent.jsonl", range(COUNT + 1)), status=1)
    assert sorted(named(report)) == [
        ("different", "trades", "8"),
        ("doubled", "trades", "9"),
        ("missing", "SQLite market_data.db", "10"),
        ("missing", "raw.*", "300"),
        ("missing", "trades", "7"),
    ]
    [doubled] = [one for one in report["differences"] if one["kind"] == "doubled"]
    assert doubled["seqs"] == [4, 101]
    assert len({offset for _, offset in doubled["places"]}) == 2
    assert [(hole["symbol"], hole["first"], hole["last"]) for hole in report["holes"]] == [("ETHUSDT", 3, 3)]
    assert [(one["rewritten"], one["holes"], one["doubled"]) for one in report["topics"][:1]] == [(0, 1, 1)]
    table = run_mdstream("audit", env=feed)
    assert table.returncode == 1
    assert table.stdout.endswith("the hops do not agree\n")
    assert "sell 2.0 at 8.5" in table.stdout
    assert "sell 2.0 at 8.25" in table.stdout


async def test_repeats_are_no_fault(feed: dict[str, str], tmp_path: Path) -> None:
    """A second replay on the raw topic, and events that a restart repeated byte for byte: both are only counted."""
    replay(feed, tmp_path / "feed.jsonl")
    trades = [trade(n) for n in range(COUNT)]
    await publish(feed, [*trades, *trades[-20:]])
    report = audit(feed, status=0)
    raw, canonical = report["hops"]
    assert (raw["trades"], raw["repeats"]) == (COUNT, COUNT)
    assert (canonical["trades"], canonical["repeats"], canonical["doubled"]) == (COUNT, 20, 0)


async def test_an_event_that_was_rewritten_is_a_fault(feed: dict[str, str]) -> None:
    """Its number came again with other bytes: readers that drop repeats never see the second."""
    trades = [trade(n) for n in range(COUNT)]
    await publish(feed, [*trades, trade(5, ts_recv=1)])
    report = audit(feed, status=1)
    assert named(report) == [("rewritten", "trades", "5")]
    [one] = report["differences"]
    assert one["seqs"] == [2]
    assert len(one["places"]) == 2
    assert report["topics"][0]["rewritten"] == 1


def bars_of(trades: Sequence[Trade]) -> list[ProducerRecord]:
    """Their bars of a minute, all of them, as records of md.bars."""
    bars = Bars(Rules(("1m",), lateness_ns=0))
    bars.step([Log(n, events.encode(one)) for n, one in enumerate(trades)])
    return [(tally.symbol.encode(), tally.public(), 0, []) for tally in bars.collect(2 * START_MS * MS).bars]


class Log(NamedTuple):
    """A record as the transport hands it over."""

    offset: int
    value: bytes
    key: bytes | None = None
    timestamp: int = 0
    headers: tuple[tuple[str, bytes], ...] = ()


async def test_quotes_and_bars_are_one_content_for_each_number(feed: dict[str, str]) -> None:
    """
    quotes   seq 1 2 3 3 5     3 again with the same bytes, 4 is missing; then 2 with other bytes
    bars     of each minute and instrument what its trades make; then one again with another volume, one with the next
             revision that lacks a trade, and none for ETHUSDT
    past     a venue's bar of the minute before, twice; then with another volume, and one of a minute of live trades
    """
    feed["MDSTREAM_BARS"] = "1m"
    trades = [trade(n) for n in range(COUNT)]
    await publish(feed, trades)
    bars = bars_of(trades)
    quotes: list[ProducerRecord] = [(b"BTCUSDT", events.encode(quote(n)), 0, []) for n in (0, 1, 2, 2, 4)]
    await send(feed, "bars", [bar for bar in bars if bar[0] != b"ETHUSDT"])
    await send(feed, "quotes", quotes)
    report = audit(feed, status=1)
    facts = {short(one["name"]): one for one in report["topics"]}
    assert (facts["quotes"]["events"], facts["quotes"]["repeats"], facts["quotes"]["holes"]) == (4, 1, 1)
    assert {(one["kind"], short(one["topic"]), one["symbol"]) for one in report["faults"]} == {
        ("hole", "quotes", "BTCUSDT"),
        ("missing", "bars", "ETHUSDT"),
    }
    assert (facts["bars"]["missing"], facts["bars"]["different"], facts["bars"]["rewritten"]) == (4, 0, 0)
    assert audit(feed, "--trades-only", status=0)["faults"] == []

    await send(feed, "bars", [bar for bar in bars if bar[0] == b"ETHUSDT"])
    await send(feed, "quotes", [(b"BTCUSDT", events.encode(quote(3)), 0, [])])
    prices, minute = (1.0, 2.0, 0.5, 1.5, 9.0, None, None), 60_000 * MS
    past = Bar("BTCUSDT", "1m", START_MS * MS - minute, *prices, HISTORY, "binance", backfilled=True)
    await send(feed, "bars", [(b"BTCUSDT", events.encode(past), 0, [])] * 2)
    assert audit(feed, status=0)["faults"] == []

    [first, second, *_] = [msgspec.json.decode(bar[1] or b"", type=Bar) for bar in bars if bar[0] == b"BTCUSDT"]
    wrong = [replace(first, volume=1.0), replace(second, trades=19, revision=1)]
    wrong += [replace(past, volume=8.0), replace(past, ts_open=past.ts_open + 2 * minute)]
    await send(feed, "bars", [(b"BTCUSDT", events.encode(bar), 0, []) for bar in wrong])
    await send(feed, "quotes", [(b"BTCUSDT", events.encode(quote(1, 9.0)), 0, [])])
    faults = audit(feed, status=1)["faults"]
    assert [(one["kind"], short(one["topic"]), one["what"]) for one in faults] == [
        ("rewritten", "quotes", "seq 2"),
        ("rewritten", "bars", "1m 2026-01-05T15:00:00Z revision 0"),
        ("rewritten", "bars", f"1m 2026-01-05T14:59:00Z revision {HISTORY}"),
        ("different", "bars", f"1m 2026-01-05T15:01:00Z revision {HISTORY}"),
        ("different", "bars", "1m 2026-01-05T15:01:00Z revision 1"),
    ]
    assert [len(one["places"]) for one in faults] == [2, 2, 2, 1, 1]
    table = run_mdstream("audit", env=feed)
    assert table.returncode == 1
    assert "20 trades, 40.0 at" in table.stdout
    assert "19 trades, 40.0" in table.stdout


async def test_what_is_younger_than_a_minute_is_not_audited(env: dict[str, str]) -> None:
    """On a running system it is on its way: at one hop and not yet at the next."""
    assert run_mdstream("topics", "--create", env=env).returncode == 0
    now_ns = time.time_ns()
    await publish(env, [trade(0, ts_exchange=now_ns - 3_600_000 * MS, ts_recv=now_ns), trade(3, ts_exchange=now_ns)])
    assert audit(env, "--trades-only", status=2)["verdict"] == "nothing to compare"
    assert {one[0] for one in named(audit(env, "--trades-only", "--to", "now", status=1))} == {"extra"}


def match(kind: str, trade_id: int) -> Frame:
    """A Coinbase trade: the side on the wire is the maker's."""
    message = {"type": kind, "trade_id": trade_id, "side": "sell", "size": "2", "price": "1.5", "product_id": "BTC-USD"}
    extra = {"maker_order_id": "m", "taker_order_id": "t", "sequence": trade_id, "time": "2026-01-05T15:00:00.000000Z"}
    return Frame(START_MS * MS + trade_id, "coinbase", json.dumps(message | extra, separators=(",", ":")).encode())


@pytest.mark.parametrize("taken", [(2, 3), (1, 2, 3)], ids=["not taken", "taken for news"])
async def test_a_trade_from_before_the_feed_began_is_no_loss(
    env: dict[str, str], tmp_path: Path, taken: tuple[int, ...]
) -> None:
    """
    raw        last_match 1   match 2   match 3   last_match 3
    canonical                 2         3                        or 1 2 3, where an earlier reader knew where it stood
    """
    path = tmp_path / "feed.jsonl"
    with Writer(path) as writer:
        for frame_ in (match("last_match", 1), match("match", 2), match("match", 3), match("last_match", 3)):
            writer.write(frame_)
    assert run_mdstream("topics", "--create", env=env).returncode == 0
    replay(env, path)
    common = {"symbol": "BTCUSD", "provider": "coinbase", "price": 1.5, "side": "buy", "ts_exchange": START_MS * MS}
    await publish(env, [trade(n, seq=n, **common) for n in taken])
    report = audit(env, status=0)
    assert [hop["trades"] for hop in report["hops"]] == [len(taken)] * 2
    assert len([note for note in report["notes"] if "before the feed began" in note]) == 3 - len(taken)


async def test_scope_narrows_the_audit(feed: dict[str, str]) -> None:
    """By minute, instrument and provider; a fault outside is not this audit's."""
    await publish(feed, [trade(n) for n in range(COUNT) if n != 7])  # an ETHUSDT of the first minute
    minutes = ("--from", "2026-01-05T15:01", "--to", "2026-01-05T15:03")
    report = audit(feed, *minutes, "--symbol", "BTCUSDT", status=0)
    assert [hop["trades"] for hop in report["hops"]] == [40, 40]
    assert named(audit(feed, "--to", "2026-01-05T15:01", status=1)) == [("missing", "trades", "7")]


def test_range_without_trades_proves_nothing(feed: dict[str, str]) -> None:
    """It is not said that all agree: neither of a provider that sent nothing, nor of a minute without trades."""
    report = audit(feed, "--provider", "okx", "--symbol", "BTCUSDT", status=2)
    assert report["verdict"] == "nothing to compare"
    assert [hop["trades"] for hop in report["hops"]] == [0, 0]
    done = run_mdstream("audit", "--from", "2026-01-05T16:00", env=feed)
    assert done.returncode == 2
    assert done.stdout.endswith(
        "there is nothing to compare: no hop holds a trade of this range (--to now: all there is)\n"
    )


def okx(trade_id: int, second: int) -> Frame:
    """A BTCUSDT trade of another source."""
    at_ms = START_MS + second * 1000
    fill = {"instId": "BTC-USDT", "tradeId": str(trade_id), "px": "9.5", "sz": "2", "side": "buy", "ts": str(at_ms)}
    message = {"arg": {"channel": "trades", "instId": "BTC-USDT"}, "data": [fill]}
    return Frame((at_ms + 5) * MS, "okx", json.dumps(message, separators=(",", ":")).encode())


def okx_trade(trade_id: int, second: int, seq: int, **changed: Any) -> Trade:
    """What the canonical stream makes of it."""
    at_ns = (START_MS + second * 1000) * MS
    times = {"ts_exchange": at_ns, "ts_recv": at_ns + 5 * MS}
    same = {"provider": "okx", "symbol": "BTCUSDT", "trade_id": str(trade_id), "price": 9.5, "side": "buy"}
    return trade(0, seq=seq, **same, **times, **changed)


async def test_trades_that_stood_by_are_no_loss(feed: dict[str, str], tmp_path: Path) -> None:
    """
    raw        binance 0 3 6 ... 297         a trade each three seconds
               okx     1000 ... 1099         at the same seconds
    canonical  binance to 147, okx from 150 to 198 without 1060, binance again
    """
    path = tmp_path / "okx.jsonl"
    with Writer(path) as writer:
        for n in range(100):
            writer.write(okx(1000 + n, 3 * n))
    replay(feed, path)
    others = [trade(n) for n in range(COUNT) if n % 3]
    first = [trade(n) for n in range(0, 150, 3)]
    second = [okx_trade(1000 + n, 3 * n, n + 1) for n in range(50, 67)]
    third = [trade(n) for n in range(201, COUNT, 3)]
    await publish(feed, [*others, *first, *second[:10], *second[11:], *third])
    report = audit(feed, status=1)
    assert named(report) == [("missing", "trades", "1060")]
    raw, canonical = report["hops"]
    assert (raw["trades"], raw["stood_by"]) == (COUNT + 100, 50 + 17 + 33)
    assert canonical["trades"] == COUNT - 1
    assert "stood by" in run_mdstream("audit", env=feed).stdout.splitlines()[0]
    await publish(feed, [second[10]])
    assert audit(feed, "--minutes", status=0)["differences"] == []


async def test_answers_to_repair_count_where_a_trade_was_missing(feed: dict[str, str], tmp_path: Path) -> None:
    """
    md.status  a gap of BTCUSDT: 300 to 302
    raw        via REST: 297 to 303     297 came live too, 303 nobody asked for
    canonical  300 301 302              marked as recovered
    """
    answer = [
        {"id": n, "price": f"{n}.5", "qty": "2", "time": START_MS + COUNT * 1000, "isBuyerMaker": True}
        for n in (297, 300, 301, 302, 303)
    ]
    body = json.dumps(answer, separators=(",", ":")).encode()
    path = tmp_path / "rest.jsonl"
    with Writer(path) as writer:
        frame_ = rest_frame("/api/v3/historicalTrades?symbol=BTCUSDT&fromId=297&limit=7", "trade", body)
        writer.write(Frame((START_MS + COUNT * 1000) * MS, "binance", frame_))
    replay(feed, path)
    gap = events.Gap("BTCUSDT", "binance", "300", "302", "open", (START_MS + COUNT * 1000) * MS, 3)
    await send(feed, "status", [(b"BTCUSDT", events.encode(gap), START_MS, [])])
    live = [trade(n) for n in range(COUNT)]
    common = {"symbol": "BTCUSDT", "side": "sell", "recovered": True, "ts_exchange": (START_MS + COUNT * 1000) * MS}
    recovered = [trade(n, seq=n - 199, **common) for n in (300, 301, 302)]
    await publish(feed, [*live, *recovered[:2]])
    assert named(audit(feed, status=1)) == [("missing", "trades", "302")]
    await publish(feed, recovered[2:])
    assert [hop["trades"] for hop in audit(feed, status=0)["hops"]] == [COUNT + 3] * 2


async def test_two_prefixes_are_compared(feed: dict[str, str]) -> None:
    """
    live       trades 0 ... 299    quotes of three minutes
    other      no 7, 8 at another price, 300 beside; another quote in the second minute, none in the third
    """
    other = {**feed, "MDSTREAM_TOPIC_PREFIX": f"{feed['MDSTREAM_TOPIC_PREFIX']}x"}
    assert run_mdstream("topics", "--create", env=other).returncode == 0
    compare = ("--compare", other["MDSTREAM_TOPIC_PREFIX"])
    assert audit(feed, *compare, status=2)["verdict"] == "nothing to compare"

    trades = [trade(n) for n in range(COUNT)]
    for env, prices in ((feed, (1.0, 1.0, 1.0)), (other, (1.0, 2.0))):
        await send(env, "quotes", [(b"BTCUSDT", events.encode(quote(n, p)), 0, []) for n, p in enumerate(prices)])
    await publish(feed, trades)
    await publish(other, [*trades[:7], trade(8, price=8.25), *trades[9:], trade(COUNT)])
    report = audit(feed, *compare, "--list", 5, status=1)
    assert report["trades"] == {
        "identical": COUNT - 2, "different": 1, "only here": 1, "only there": 1, "doubled": 0, "rewritten": 0,
    }  # fmt: skip
    there = f"{other['MDSTREAM_TOPIC_PREFIX']}.trades"
    assert sorted(named(report)) == [("different", there, "8"), ("extra", there, "300"), ("missing", there, "7")]
    assert report["minutes"]["quotes"] == {"identical": 1, "different": 1, "only here": 1, "only there": 0}
    verdicts = [(one["kind"], one["minute"], one["verdict"]) for one in report["differing_minutes"]]
    assert verdicts == [("quotes", "2026-01-05T15:01Z", "different"), ("quotes", "2026-01-05T15:02Z", "only here")]
    table = run_mdstream("audit", *compare, env=feed)
    assert table.returncode == 1
    assert table.stdout.endswith("the prefixes do not hold the same events\n")

    minute = ("--from", "2026-01-05T15:00", "--to", "2026-01-05T15:01", "--symbol", "BTCUSDT")
    assert audit(feed, *compare, *minute, status=0)["trades"]["identical"] == 20


async def test_list_bounds_what_is_named_not_what_is_counted(feed: dict[str, str]) -> None:
    """Everything lost: the totals say how many."""
    report = audit(feed, "--list", 3, status=1)
    assert len(report["differences"]) == 3
    [total] = report["totals"]
    assert (short(total["hop"]), total["kind"], total["trades"]) == ("trades", "missing", COUNT)
    assert "and 280 more" in run_mdstream("audit", env=feed).stdout


@pytest.mark.parametrize(
    ("options", "status", "problem"),
    [
        (("--from", "soon"), 2, "'soon' is not a time"),
        (("--from", "1m", "--to", "1h"), 2, "--from 1m --to 1h: the range is empty"),
        (("--compare", "x", "--minutes"), 2, "--compare compares two prefixes, not hops"),
        (("--compare", "a.b"), 2, "topic_prefix='a.b'"),
        (("--provider", "mtgox"), 2, "no provider 'mtgox': there are"),
        (("--journal", "none.jsonl"), 3, "none.jsonl, line 1: No such file or directory"),
    ],
)
def test_what_cannot_be_audited_is_one_line(
    env: dict[str, str], options: tuple[str, ...], status: int, problem: str
) -> None:
    """With the exit status of a wrong argument or of a failure."""
    done = run_mdstream("audit", *options, env=env)
    assert done.returncode == status
    assert done.stderr.count("\n") == 1
    assert problem in done.stderr
