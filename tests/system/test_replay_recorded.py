"""Captures through `mdstream replay` and a core worker: canonical events say what the venues' frames say."""

from __future__ import annotations

import asyncio
import json
import sys
import urllib.request
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

import pytest
from processes import Processes, free_port, run_mdstream, wait_until
from servers import read_topic

from mdstream.ticks import NO_ID

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "conformance"))
import plain_reading
from plain_books import PlainBook
from venue_frames import RECORDED, VENUES, recorded, written

READ = sorted(plain_reading.READINGS.keys() & set(VENUES))

pytestmark = pytest.mark.system

TRADE_FIELDS = ("price", "size", "side", "ts_exchange")
QUOTE_FIELDS = ("bid", "bid_size", "ask", "ask_size", "ts_exchange")
KEPT = ("coinbase", "okx")
BOOK_FIELDS = ("bids", "asks", "ts_exchange")
FRAMES = [written, recorded] if RECORDED.is_dir() else [written]


def captured(frames_of: Callable[[str], Iterable[bytes]]) -> list[tuple[int, str, bytes]]:
    """Receive time, provider and frame of every frame, a millisecond apart."""
    frames = ((name, frame) for name in READ for frame in frames_of(name))
    return [(1_767_625_200_000_000_000 + i * 10**6, name, frame) for i, (name, frame) in enumerate(frames)]


def decoded(rows: list[tuple[int, str, bytes]]) -> Iterator[tuple[str, int, dict[str, Any]]]:
    """What the frames say: provider, receive time, fields. Of a book that is kept: its best levels; Coinbase's top."""
    books: dict[tuple[str, str], PlainBook] = {}
    for recv_ns, name, frame in rows:
        for fields in plain_reading.says(name, frame):
            of = name, fields["symbol"]
            if fields["is"] == "BookUpdate":
                reported = list(kept(books, name, fields, json.loads(frame)))
            elif name == "coinbase" and fields["is"] == "QuoteTick" and of in books and not books[of].crossed:
                reported = []  # the book has it
            else:
                reported = [fields]
            for each in reported:
                yield name, recv_ns, json.loads(json.dumps(each))  # tuples become lists, as on the wire


def kept(
    books: dict[tuple[str, str], PlainBook], name: str, fields: dict[str, Any], message: dict[str, Any]
) -> Iterator[dict[str, Any]]:
    """What comes of a frame of a book that is kept."""
    of = name, fields["symbol"]
    if not fields["whole"] and of not in books:
        return
    book = books.setdefault(of, PlainBook())
    before = None if fields["whole"] or book.crossed else book.top()
    book.take(message if name == "coinbase" else as_coinbase(message))
    if book.crossed:
        return
    common = {"symbol": fields["symbol"], "ts_exchange": fields["ts_exchange"], "update_id": NO_ID}
    if book.top() != before and name == "coinbase":
        yield common | {"is": "QuoteTick"} | dict(zip(QUOTE_FIELDS, book.top(), strict=False))
    bids, asks = book.best()
    yield common | {"is": "BookTick", "bids": bids, "asks": asks}


def as_coinbase(message: dict[str, Any]) -> dict[str, Any]:
    """A frame of OKX's books in the form that PlainBook reads."""
    (data,) = message["data"]
    sides = {"buy": data["bids"], "sell": data["asks"]}
    if message["action"] == "snapshot":
        return {
            "type": "snapshot",
            "bids": [row[:2] for row in data["bids"]],
            "asks": [row[:2] for row in data["asks"]],
        }
    return {"type": "l2update", "changes": [(side, *row[:2]) for side, rows in sides.items() for row in rows]}


def events(env: dict[str, str], topic: str) -> list[dict[str, Any]]:
    name = f"{env['MDSTREAM_TOPIC_PREFIX']}.{topic}"
    records = asyncio.run(read_topic(env["KAFKA_BOOTSTRAP_SERVERS"], name))
    return [json.loads(record.value) for record in records]


def write_captures(folder: Path, rows: list[tuple[int, str, bytes]]) -> list[Path]:
    paths = []
    for name in READ:
        path = folder / f"{name}.jsonl"
        lines = [
            json.dumps({"recv_ns": recv_ns, "provider": of, "frame": frame.decode()})
            for recv_ns, of, frame in rows
            if of == name
        ]
        path.write_text("".join(f"{line}\n" for line in lines))
        paths.append(path)
    return paths


def processed(port: int, replayed: int) -> bool:
    """Whether the worker at `port` has taken in as many raw records as were replayed."""
    with urllib.request.urlopen(f"http://127.0.0.1:{port}/health", timeout=5) as answer:
        done: dict[str, int] = json.load(answer)["partitions"]
    return sum(offset for name, offset in done.items() if ".raw." in name) >= replayed


@pytest.mark.parametrize("frames_of", FRAMES)
def test_canonical_events_equal_what_the_frames_say_and_a_second_replay_adds_no_trade(
    processes: Processes, env: dict[str, str], tmp_path: Path, frames_of: Callable[[str], Iterable[bytes]]
) -> None:
    """Every trade, quote and book, field by field; the second time every trade is known. Of a book that is kept, not
    every state is told.

    Of all sources, so they are merged: with failover, what OKX says of an instrument that Binance gave first stands by.
    """
    rows = captured(frames_of)
    captures = write_captures(tmp_path, rows)
    port = free_port()
    worker = processes.worker("core", port=port, env={"MDSTREAM_POLICY": "merge"})
    worker.wait_for(" is up: ")

    def replay() -> None:
        for capture in captures:
            done = run_mdstream("replay", capture, "--as-fast-as-possible", env=env)
            assert done.returncode == 0, done.stderr

    replay()
    wait_until(lambda: processed(port, len(rows)), what="the first replay to be processed")
    trades, quotes, books = (events(env, topic) for topic in ("trades", "quotes", "books"))

    want_trades: dict[tuple[str, str, str], tuple[Any, ...]] = {}
    want_quotes, want_books = set(), []
    id_spaces: dict[tuple[str, str], str] = {}
    newest: dict[tuple[str, str, str], int] = {}
    oldest: dict[tuple[str, str], int] = {}
    for name, recv_ns, fields in decoded(rows):
        of = name, fields["symbol"]
        if fields["is"] == "TradeTick":
            values = *(fields[f] for f in TRADE_FIELDS), recv_ns
            # Ids from before the first one are history; so is the answer to a subscription that begins a feed.
            counts = id_spaces.setdefault(of, fields["id_space"]) == fields["id_space"] and fields[
                "first_id"
            ] >= oldest.setdefault(of, fields["first_id"])
            if counts and not fields["resume"]:
                want_trades.setdefault((*of, fields["trade_id"]), values)
        elif fields["update_id"] == NO_ID or fields["update_id"] > newest.get((*of, fields["is"]), NO_ID):
            newest[(*of, fields["is"])] = fields["update_id"]
            if fields["is"] == "QuoteTick":
                want_quotes.add((*of, *(fields[f] for f in QUOTE_FIELDS)))
            else:
                want_books.append([*of, *(fields[f] for f in BOOK_FIELDS)])

    got = {(t["provider"], t["symbol"], t["trade_id"]): (*(t[f] for f in TRADE_FIELDS), t["ts_recv"]) for t in trades}
    assert got == want_trades
    assert len(trades) == len(want_trades)
    assert {(q["provider"], q["symbol"], *(q[f] for f in QUOTE_FIELDS)) for q in quotes} == want_quotes
    assert want_books
    got_books = [[b["provider"], b["symbol"], *(b[f] for f in BOOK_FIELDS)] for b in books]
    whole, of_kept = ([b for b in got_books if (b[0] in KEPT) == is_kept] for is_kept in (False, True))
    assert sorted(whole, key=str) == sorted((b for b in want_books if b[0] not in KEPT), key=str)
    assert of_kept
    assert not [b for b in of_kept if b not in want_books]

    replay()
    wait_until(lambda: processed(port, 2 * len(rows)), what="the second replay to be processed")
    assert len(events(env, "trades")) == len(trades)
    assert not events(env, "dead")
