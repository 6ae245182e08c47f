"""Recorded frames: what is decoded, and what a partition publishes of books, is what a plain reading of them gives."""

from __future__ import annotations

import json
from collections import defaultdict
from typing import Any

import msgspec
import plain_reading
import pytest
from plain_books import Levels, PlainBook, Top
from stream_histories import Raw, new_stream
from stream_outputs import events
from venue_frames import RECORDED, VENUES, recorded, written

from mdstream.records import WS, RawEncoder
from mdstream.stream.rules import Policy, Rules
from mdstream.ticks import Control
from mdstream.venues.providers import provider

CAPTURE = RECORDED / "coinbase.jsonl"


@pytest.mark.parametrize("venue", sorted(plain_reading.READINGS.keys() & set(VENUES)))
def test_decode_says_what_every_frame_says(venue: str) -> None:
    """Field by field, for each frame of the capture and each example, and nothing where there is no market data."""
    for frame in [*written(venue), *recorded(venue)]:
        ticks = [tick for tick in provider(venue).decode(frame) if not isinstance(tick, Control)]
        got = [{"is": type(tick).__name__} | msgspec.structs.asdict(tick) for tick in ticks]
        assert got == plain_reading.says(venue, frame), frame[:300]


def raw(number: int, line: str) -> Raw:
    """A captured frame as an ingestor would have written it."""
    text = json.loads(line)
    frame, recv_ns = text["frame"].encode(), text["recv_ns"]
    route = provider("coinbase").route(frame)
    key, _, timestamp_ms, headers = RawEncoder("coinbase", WS).encode(route.key, frame, route.kind, recv_ns)
    return Raw(frame, number, timestamp_ms, key, headers)


@pytest.mark.skipif(not CAPTURE.is_file(), reason="the recorded frames are not beside the project")
def test_published_top_and_levels_are_those_of_the_recorded_books() -> None:
    """After every frame of ten products the last quote is the top, and each book published the best twenty levels."""
    stream, plain = new_stream(Rules(Policy(("coinbase",)))), dict[str, PlainBook]()
    last: dict[str, Top] = {}
    levels: dict[tuple[str, int], list[Levels]] = defaultdict(list)  # by symbol and receive time
    reported: list[dict[str, Any]] = []
    for number, line in enumerate(CAPTURE.read_text().splitlines()):
        record, message = raw(number, line), json.loads(json.loads(line)["frame"])
        out = stream.step([record])
        reported += events(out.books)
        symbols = {event["symbol"] for event in events(out.quotes)}
        last |= {e["symbol"]: (e["bid"], e["bid_size"], e["ask"], e["ask_size"]) for e in events(out.quotes)}
        if message["type"] in ("snapshot", "l2update"):
            symbol = message["product_id"].replace("-", "")
            book = plain.setdefault(symbol, PlainBook())
            book.take(message)
            levels[symbol, json.loads(line)["recv_ns"]].append(book.best())
            symbols.add(symbol)
        assert all(last[symbol] == plain[symbol].top() for symbol in symbols), line[:300]
    assert len(plain) == 10
    assert len(reported) > 500
    for event in reported:
        text = tuple([tuple(level) for level in event[side]] for side in ("bids", "asks"))
        assert text in levels[event["symbol"], event["ts_recv"]]
