"""Kept books as processes: a simulated Coinbase with OKX beside it, ingestors, and a core worker that is killed."""

from __future__ import annotations

import asyncio
import json
import urllib.request
from itertools import groupby
from pathlib import Path
from typing import Any

import pytest
from plain_books import PlainBook, Top
from processes import Processes, free_port, wait_until
from servers import read_topic
from venues import Venues

pytestmark = pytest.mark.system

SYMBOL = "BTCUSDT"


def source(port: int) -> dict[str, Any]:
    """What the worker at `port` says of Coinbase's feed of SYMBOL; {} while it does not know any."""
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/feeds?symbol={SYMBOL}", timeout=5) as answer:
            return dict(json.load(answer)["sources"]["coinbase"])
    except (OSError, LookupError):
        return {}


def followed(port: int) -> bool:
    text = source(port)
    return bool(text) and (text["state"], text["health"]) == ("active", "good") and text["silent_s"]["book"] is not None


@pytest.mark.timeout(180)
async def test_quotes_are_the_tops_of_the_raw_books_though_the_worker_was_killed(
    processes: Processes, env: dict[str, str], tmp_path: Path
) -> None:
    """Each top that the raw frames make, once and in order; what is repeated after the kill is the same to the byte."""
    own = {"MDSTREAM_SOURCES": "coinbase,okx"}
    venues = Venues.start(processes, tmp_path / "made.jsonl", "--rate", 500)
    port = free_port()
    worker = processes.worker("core", port=port, env=own)
    ingestors = [
        processes.mdstream("ingest", "--provider", name, "--symbols", SYMBOL, "--port", free_port(), env=venues.urls)
        for name in ("coinbase", "okx")
    ]
    wait_until(lambda: followed(port), what="coinbase to be followed with its books", limit_s=60)
    prefix, servers = env["MDSTREAM_TOPIC_PREFIX"], env["KAFKA_BOOTSTRAP_SERVERS"]

    async def published(name: str) -> list[dict[str, Any]]:
        records = await read_topic(servers, f"{prefix}.{name}")
        once = dict.fromkeys(record.value or b"{}" for record in records)  # a crash may repeat
        return [event for event in map(json.loads, once) if event["provider"] == "coinbase"]

    worker.kill()
    worker = processes.worker("core", port=port, env=own)
    wait_until(lambda: followed(port), what="coinbase to be followed again", limit_s=60)
    venues.pause()
    for process in ingestors:
        assert process.stop() == 0, process.output()[-2000:]
    venues.stop()

    book, tops, tickers = PlainBook(), list[Top](), set[Top]()
    for record in await read_topic(servers, f"{prefix}.raw.crypto"):
        message = json.loads(record.value or b"{}")
        match dict(record.headers)["p"], message.get("type"):
            case b"coinbase", "snapshot" | "l2update":
                book.take(message)
                tops.append(book.top())
            case b"coinbase", "ticker":
                text = (float(message[f"best_{what}"]) for what in ("bid", "bid_size", "ask", "ask_size"))
                tickers.add(tuple(text))  # type: ignore[arg-type]
    expected = [top for top, _ in groupby(tops)]
    assert len(expected) > 50

    def changes(quotes: list[dict[str, Any]]) -> list[Top]:
        """The tops of the quotes, except those of tickers before there was a book."""
        reported = [(quote["bid"], quote["bid_size"], quote["ask"], quote["ask_size"]) for quote in quotes]
        return [top for top, _ in groupby(top for top in reported if top not in tickers)]

    async with asyncio.timeout(30):
        while changes(quotes := await published("quotes"))[-1:] != expected[-1:]:
            pass
    reported = changes(quotes)
    assert len(reported) > 50
    assert reported == expected[-len(reported) :]  # before, okx was the first with data
    assert len({quote["seq"] for quote in quotes}) == len(quotes)
    assert all(event["bids"][0][0] < event["asks"][0][0] for event in await published("books"))
    assert worker.stop() == 0, worker.output()[-2000:]
