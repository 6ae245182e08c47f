"""Several connections of one feed, as processes: what overlaps is published once, what one loses comes by another."""

from __future__ import annotations

import asyncio
import json
import time
import urllib.request
from collections import defaultdict
from collections.abc import Iterable
from contextlib import suppress
from itertools import pairwise
from pathlib import Path
from typing import Any

import msgspec
import pytest
from processes import Processes, free_port, wait_until
from servers import read_topic
from venues import Made, Venues

from mdstream.errors import FrameError
from mdstream.records import decode_raw
from mdstream.stream.book import Book
from mdstream.ticks import BookUpdate
from mdstream.venues.feed import BOOK
from mdstream.venues.providers import provider

pytestmark = pytest.mark.system

WANTED = {"binance": "ETHUSDT", "okx": "LTCUSDT", "coinbase": "BTCUSD", "bybit": "SOLUSDT", "kraken": "XRPUSD"}
KEPT = ("bybit", "coinbase", "kraken", "okx")
"""Their books are kept from updates, each connection with a snapshot of its own."""
RETRY_NS = 1_000_000_000
"""The shortest pause before a lost connection is made again."""


class Ingestor:
    """One provider's ingestor, and what it says of itself."""

    def __init__(self, processes: Processes, venues: Venues, name: str, *options: object) -> None:
        self.name, self._port = name, free_port()
        args = ("ingest", "--provider", name, "--symbols", WANTED[name], "--port", self._port, *options)
        self.process = processes.mdstream(*args, env=venues.urls)

    def count(self, counter: str) -> int:
        """A counter of its feed; 0 while it does not answer."""
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{self._port}/health", timeout=5) as answer:
                return int(json.load(answer)["feeds"][self.name][counter])
        except (OSError, LookupError):
            return 0


async def events(env: dict[str, str], topic: str) -> list[dict[str, Any]]:
    records = await read_topic(env["KAFKA_BOOTSTRAP_SERVERS"], f"{env['MDSTREAM_TOPIC_PREFIX']}.{topic}")
    return [json.loads(record.value or b"{}") for record in records]


async def until_published(env: dict[str, str], made: list[Made]) -> dict[str, list[dict[str, Any]]]:
    """The published trades of each provider, up to the last one made."""
    last = {trade.provider: trade.trade_id for trade in made}
    async with asyncio.timeout(60):
        while True:
            found: dict[str, list[dict[str, Any]]] = defaultdict(list)
            for trade in await events(env, "trades"):
                found[trade["provider"]].append(trade)
            if all(found[name] and found[name][-1]["trade_id"] == last[name] for name in last):
                return found
            await asyncio.sleep(0.5)


def check_trades(published: dict[str, list[dict[str, Any]]], made: Iterable[Made]) -> None:
    """From the first one published on, each trade of a venue once and in order."""
    for name, trades in published.items():
        ids = [trade.trade_id for trade in made if trade.provider == name]
        assert [trade["trade_id"] for trade in trades] == ids[ids.index(trades[0]["trade_id"]) :], name


def settle(venues: Venues) -> list[Made]:
    venues.pause()
    time.sleep(1.5)  # what is on its way into the journal
    return venues.made()


@pytest.mark.timeout(180)
async def test_announced_restart_loses_nothing_and_disconnects_nobody(
    processes: Processes, env: dict[str, str], tmp_path: Path
) -> None:
    """The new connection is up before the venue closes the old one. No repair runs here."""
    venues = Venues.start(processes, tmp_path / "made.jsonl", "--rate", 500)
    processes.worker("core", port=free_port())
    ingestors = [Ingestor(processes, venues, name) for name in ("binance", "okx")]
    for ingestor in ingestors:
        wait_until(lambda i=ingestor: i.count("connections") == 1, what="a connection", limit_s=60)  # type: ignore[misc]
    await asyncio.sleep(2.0)
    for ingestor in ingestors:
        venues.begin(ingestor.name, "shutdown", for_s=60)
    for ingestor in ingestors:
        wait_until(lambda i=ingestor: i.count("replacements") == 1, what="a replacement", limit_s=60)  # type: ignore[misc]
        assert ingestor.count("disconnections") == 1
    venues.ask("DELETE", "/faults")
    await asyncio.sleep(1.0)
    made = settle(venues)
    published = await until_published(env, made)
    check_trades(published, made)
    states = {event["state"] for event in await events(env, "status") if event["type"] == "status"}
    assert "connected" in states
    assert "disconnected" not in states


@pytest.mark.timeout(300)
async def test_cut_line_of_a_redundant_feed_is_not_missed(
    processes: Processes, env: dict[str, str], tmp_path: Path
) -> None:
    """Trades once and in order, no pause in quotes, and books that stay those of the venue. No repair runs here."""
    venues = Venues.start(processes, tmp_path / "made.jsonl", "--rate", 600)
    processes.worker("core", port=free_port())
    ingestors = [Ingestor(processes, venues, name, "--redundant", 2) for name in WANTED]
    connections = 2
    for ingestor in ingestors:
        wait_until(lambda i=ingestor: i.count("connections") == 2, what="both lines", limit_s=60)  # type: ignore[misc]
    await asyncio.sleep(2.0)
    for _ in range(3):
        connections += 1
        for name in WANTED:
            venues.begin(name, "disconnect", one=True)
        for ingestor in ingestors:
            wait_until(
                lambda i=ingestor, n=connections: i.count("connections") == n,  # type: ignore[misc]
                what="the line that was cut",
                limit_s=60,
            )
        await asyncio.sleep(1.0)
    made = settle(venues)
    published = await until_published(env, made)
    check_trades(published, made)
    statuses = await events(env, "status")
    assert not [event for event in statuses if event.get("state") in ("disconnected", "book_lost", "switched")]
    quotes = await events(env, "quotes")
    for name, symbol in WANTED.items():
        of_feed = [quote for quote in quotes if (quote["provider"], quote["symbol"]) == (name, symbol)]
        times = sorted(quote["ts_recv"] for quote in of_feed)
        assert max(later - earlier for earlier, later in pairwise(times)) < RETRY_NS, name
    await check_books(env)


@pytest.mark.timeout(180)
async def test_lost_book_comes_back_by_another_subscription(
    processes: Processes, env: dict[str, str], tmp_path: Path
) -> None:
    """On the connection that is there, whose other subscriptions go on."""
    venues = Venues.start(processes, tmp_path / "made.jsonl", "--rate", 300)
    processes.worker("core", port=free_port())
    ingestors = [Ingestor(processes, venues, name) for name in KEPT]
    wait_until(lambda: all(ingestor.count("connections") for ingestor in ingestors), what="connections", limit_s=60)
    await asyncio.sleep(3.0)
    for name in KEPT:
        venues.begin(name, "malformed", share=0.5, how="types", replace=True, for_s=1.0)
    for ingestor in ingestors:
        ingestor.process.wait_for(f"subscribing again to {WANTED[ingestor.name]}, its book is lost")
    await asyncio.sleep(1.0)
    over_ns = time.time_ns()
    async with asyncio.timeout(60):  # the first snapshot may have been unreadable, too
        while True:
            books = await events(env, "books")
            if {book["provider"] for book in books if book["ts_recv"] > over_ns} == set(KEPT):
                break
            await asyncio.sleep(1.0)
    venues.pause()
    await asyncio.sleep(2.0)
    assert [ingestor.count("connections") for ingestor in ingestors] == [1] * len(KEPT)
    await check_books(env)


async def check_books(env: dict[str, str]) -> None:
    """The last book published of each venue is that of its latest connection alone, and so is the last quote where
    quotes are the book's top."""
    books, quotes = await events(env, "books"), await events(env, "quotes")
    for name in KEPT:
        kept = await book_of_latest_connection(env, name)
        picture, top = kept.picture(WANTED[name]), kept.quote(WANTED[name])
        book = next(book for book in reversed(books) if book["provider"] == name)
        assert [*map(tuple, book["bids"]), *map(tuple, book["asks"])] == [*picture.bids, *picture.asks], name
        if provider(name).quotes_from_books:
            quote = next(quote for quote in reversed(quotes) if quote["provider"] == name)
            shown = quote["bid"], quote["bid_size"], quote["ask"], quote["ask_size"]
            assert shown == (top.bid, top.bid_size, top.ask, top.ask_size), name


async def book_of_latest_connection(env: dict[str, str], name: str) -> Book:
    """From the raw topic."""
    records = await read_topic(env["KAFKA_BOOTSTRAP_SERVERS"], f"{env['MDSTREAM_TOPIC_PREFIX']}.raw.crypto")
    books: dict[bytes, Book] = defaultdict(Book)
    for record in records:
        source, _, kind = decode_raw(record)
        if (source, kind) == (name.encode(), BOOK):
            with suppress(FrameError, msgspec.MsgspecError):
                for tick in provider(name).decode(record.value or b""):
                    if isinstance(tick, BookUpdate):
                        books[dict(record.headers)["c"]].apply(tick, 0)
    return books[max(books)]
