"""Raw records: what stands on md.raw.<market>, and what the ingestor counts."""

from __future__ import annotations

import json

import pytest

from mdstream.ingest import counters
from mdstream.ingest.backlog import Backlog, Limits
from mdstream.ingest.bus import Bus
from mdstream.ingest.counters import FeedCounters, RouteCounts
from mdstream.ingest.intake import Intake
from mdstream.kafka.publisher import Partitioner, Record
from mdstream.venues.feed import Route
from topics import Topic

NOW_NS = 1_767_625_200_123_456_789
PARTITIONS = 4


def new_intake(backlog: Backlog, *, first_lane: int = 0) -> Intake:
    return Intake("okx", backlog, first_lane=first_lane, partitions=PARTITIONS, counters=FeedCounters())


def by_lane(backlog: Backlog) -> dict[int, list[Record]]:
    return {lane: backlog.take(lane, 1 << 40)[0] for lane in backlog.waiting()}


def test_intake_leaves_a_frame_as_it_came() -> None:
    """Value untouched, key the symbol, time in ms, and the headers p, t, k, via in this order."""
    backlog = Backlog(PARTITIONS)
    frame = b'{"any": "\xff bytes"}'
    assert new_intake(backlog).add_frame(frame, Route(b"BTCUSDT", b"trade"), NOW_NS) is False
    headers = [("p", b"okx"), ("t", NOW_NS.to_bytes(8, "big")), ("k", b"trade"), ("via", b"ws")]
    assert by_lane(backlog) == {Partitioner(PARTITIONS)(b"BTCUSDT"): [(b"BTCUSDT", frame, 1_767_625_200_123, headers)]}


def test_intake_uses_the_lanes_of_its_own_topic() -> None:
    """Partition p of the second topic is lane 4 + p here."""
    backlog = Backlog(2 * PARTITIONS)
    new_intake(backlog, first_lane=PARTITIONS).add_frame(b"x", Route(b"AAPL", b"trade"), NOW_NS)
    assert list(by_lane(backlog)) == [PARTITIONS + Partitioner(PARTITIONS)(b"AAPL")]


def test_intake_says_when_the_backlog_is_full() -> None:
    """So that the reader stops reading; the frame it had in hand is kept."""
    backlog = Backlog(PARTITIONS, Limits(records=2))
    intake = new_intake(backlog)
    full = [intake.add_frame(b"x", Route(b"BTCUSDT", b"quote"), NOW_NS) for _ in range(3)]
    assert full == [False, True, True]
    assert backlog.records == 3


def test_intake_counts_frames_by_kind() -> None:
    """Heartbeats and status records are no frames."""
    intake = new_intake(Backlog(PARTITIONS))
    for kind in (b"trade", b"trade", b"quote", b"book", b"other"):
        intake.add_frame(b"1234", Route(b"BTCUSDT", kind), NOW_NS)
    intake.add_heartbeat(connected=True, symbols=1, now_ns=NOW_NS)
    assert intake.counters.frames == {b"trade": 2, b"quote": 1, b"book": 1, b"other": 1}
    assert (intake.counters.total, intake.counters.bytes) == (5, 20)


def test_heartbeat_goes_to_every_partition() -> None:
    """Keyed by the provider, the same everywhere: whoever reads one partition knows that the feed is alive."""
    backlog = Backlog(PARTITIONS)
    new_intake(backlog).add_heartbeat(connected=True, symbols=3, now_ns=NOW_NS)
    lanes = by_lane(backlog)
    assert sorted(lanes) == [0, 1, 2, 3]
    for ((key, value, timestamp_ms, headers),) in lanes.values():
        assert (key, timestamp_ms) == (b"okx", 1_767_625_200_123)
        assert dict(headers) == {"p": b"okx", "t": NOW_NS.to_bytes(8, "big"), "k": b"heartbeat", "via": b"ws"}
        said = {"type": "heartbeat", "provider": "okx", "connected": True, "symbols": 3, "ts": NOW_NS}
        assert json.loads(value or b"") == said


def test_heartbeat_is_left_out_when_the_backlog_is_full() -> None:
    """An hour without Kafka must not pile up heartbeats on top of frames; the skipped ones are counted."""
    backlog = Backlog(PARTITIONS, Limits(records=1))
    intake = new_intake(backlog)
    intake.add_frame(b"x", Route(b"BTCUSDT", b"trade"), NOW_NS)
    intake.add_heartbeat(connected=True, symbols=1, now_ns=NOW_NS)
    assert backlog.records == 1
    assert intake.counters.heartbeats_skipped == 1


def test_status_goes_to_every_partition_also_when_the_backlog_is_full() -> None:
    """There are few, and what they say is not said again."""
    backlog = Backlog(PARTITIONS, Limits(records=1))
    intake = new_intake(backlog)
    intake.add_frame(b"x", Route(b"BTCUSDT", b"trade"), NOW_NS)
    intake.add_status(state="disconnected", reason="no frame for 30 s", now_ns=NOW_NS)
    lanes = by_lane(backlog)
    assert sorted(lanes) == [0, 1, 2, 3]
    said = {"type": "status", "provider": "okx", "state": "disconnected", "reason": "no frame for 30 s", "ts": NOW_NS}
    for records in lanes.values():
        key, value, _, headers = records[-1]
        assert (key, dict(headers)["k"], json.loads(value or b"")) == (b"okx", b"status", said)


def test_bus_lays_the_markets_topics_end_to_end() -> None:
    """Each provider's frames land in its own market's lanes."""
    raw = {name: Topic(f"md.raw.{name}", "", "", PARTITIONS, 1) for name in ("crypto", "equities")}
    bus = Bus(raw, "127.0.0.1:1")
    bus.intake("okx", "crypto").add_frame(b"x", Route(b"BTCUSDT", b"trade"), NOW_NS)
    bus.intake("alpaca", "equities").add_frame(b"x", Route(b"BTCUSDT", b"trade"), NOW_NS)
    partition = Partitioner(PARTITIONS)(b"BTCUSDT")
    assert list(by_lane(bus.backlog)) == [partition, PARTITIONS + partition]


def test_route_counts_are_kept_by_kind_when_keys_run_over(monkeypatch: pytest.MonkeyPatch) -> None:
    """Keys come from the wire: a venue that sends ever new ones fills no memory, and no frame goes uncounted."""
    monkeypatch.setattr(counters, "MAX_ROUTES", 10)
    routes = RouteCounts()
    for n in range(1000):
        routes[Route(b"S%d" % n, b"trade")] += 1
        routes[Route(b"BTCUSDT", b"quote")] += 1
        assert len(routes) <= 10
    assert routes.by_kind() == {b"trade": 1000, b"quote": 1000, b"book": 0, b"other": 0}
