"""Raw records: what is on md.raw.<market>, and what the ingestor counts."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from mdstream.config import load
from mdstream.ingest import counters
from mdstream.ingest.backlog import Backlog
from mdstream.ingest.bus import Bus
from mdstream.ingest.counters import RouteCounts
from mdstream.ingest.intake import Intake
from mdstream.ingest.plan import Wanted
from mdstream.kafka.publisher import Partitioner
from mdstream.records import WS, ProducerRecord, RawEncoder
from mdstream.venues.feed import Route
from mdstream.venues.okx.feed import Okx
from mdstream.venues.providers import provider
from topics import Topic

NOW_NS = 1_767_625_200_123_456_789
PARTITIONS = 4


class Both(Okx):
    """A venue with instruments of two markets."""

    name = "both"

    def market_of(self, symbol: str) -> str:
        return "equities" if symbol == "AAPL" else self.market


def new_intake(backlog: Backlog) -> Intake:
    return Intake(provider("okx"), backlog, {"crypto": range(PARTITIONS)})


def add(intake: Intake, frame: bytes, route: Route) -> None:
    """A frame received at NOW_NS."""
    record = RawEncoder(intake.provider, WS).encode(route.key, frame, route.kind, NOW_NS)
    intake.add_frame(record, route, len(frame))


def by_queue(backlog: Backlog) -> dict[int, list[ProducerRecord]]:
    return {queue: list(backlog.take(queue, 1 << 40)[0]) for queue in backlog.waiting()}


@pytest.mark.parametrize(
    ("key", "first_queue"),
    [(b"BTCUSDT", PARTITIONS), (b"AAPL", 0), (b"both", PARTITIONS)],
)
def test_intake_uses_the_queues_of_the_instruments_market(key: bytes, first_queue: int) -> None:
    """A market is the instrument's; frames of no instrument go to the provider's own."""
    backlog = Backlog(2 * PARTITIONS)
    intake = Intake(Both(), backlog, {"crypto": range(PARTITIONS, 2 * PARTITIONS), "equities": range(PARTITIONS)})
    add(intake, b"x", Route(key, b"trade"))
    assert list(by_queue(backlog)) == [first_queue + Partitioner(PARTITIONS)(key)]


def test_intake_loses_no_frame_of_a_market_that_nobody_asked_for() -> None:
    """It goes to the provider's own market."""
    backlog = Backlog(PARTITIONS)
    add(Intake(Both(), backlog, {"crypto": range(PARTITIONS)}), b"x", Route(b"AAPL", b"trade"))
    assert list(by_queue(backlog)) == [Partitioner(PARTITIONS)(b"AAPL")]


def test_intake_counts_frames_by_kind() -> None:
    """Heartbeats and status records are no frames."""
    intake = new_intake(Backlog(PARTITIONS))
    for kind in (b"trade", b"trade", b"quote", b"book", b"other"):
        add(intake, b"1234", Route(b"BTCUSDT", kind))
    intake.add_heartbeat(connected=True, symbols=1, now_ns=NOW_NS)
    assert intake.counters.frames == {b"trade": 2, b"quote": 1, b"book": 1, b"other": 1}
    assert (intake.counters.total, intake.counters.bytes) == (5, 20)


def test_heartbeat_goes_to_every_partition_of_every_topic() -> None:
    """Keyed by the provider, the same everywhere: whoever reads one partition knows that the feed is alive."""
    backlog = Backlog(8)
    queues_of = {"crypto": range(PARTITIONS), "equities": range(PARTITIONS, 8)}
    Intake(provider("okx"), backlog, queues_of).add_heartbeat(connected=True, symbols=3, now_ns=NOW_NS)
    queues = by_queue(backlog)
    assert sorted(queues) == list(range(8))
    for ((key, value, timestamp_ms, headers),) in queues.values():
        assert (key, timestamp_ms) == (b"okx", 1_767_625_200_123)
        assert dict(headers) == {"p": b"okx", "t": NOW_NS.to_bytes(8, "big"), "k": b"heartbeat", "via": b"ws"}
        message = {"type": "heartbeat", "provider": "okx", "connected": True, "symbols": 3, "ts": NOW_NS}
        assert json.loads(value or b"") == message


def test_status_goes_to_every_partition() -> None:
    """After what came before it: whoever reads one partition knows what the feed is doing."""
    backlog = Backlog(PARTITIONS)
    intake = new_intake(backlog)
    add(intake, b"x", Route(b"BTCUSDT", b"trade"))
    intake.add_status(state="disconnected", reason="no frame for 30 s", now_ns=NOW_NS)
    queues = by_queue(backlog)
    assert sorted(queues) == [0, 1, 2, 3]
    message = {
        "type": "status",
        "provider": "okx",
        "state": "disconnected",
        "reason": "no frame for 30 s",
        "ts": NOW_NS,
    }
    for records in queues.values():
        key, value, _, headers = records[-1]
        assert (key, dict(headers)["k"], json.loads(value or b"")) == (b"okx", b"status", message)


def test_bus_lays_the_markets_topics_end_to_end(tmp_path: Path) -> None:
    """A provider's frames land in the queues of their instruments' markets, whatever the order of the topics."""
    raw = {name: Topic(f"md.raw.{name}", "", "", PARTITIONS, 1) for name in ("equities", "crypto")}
    bus = Bus(raw, load(data_dir=tmp_path))
    wanted = Wanted(Both(), ("AAPL", "BTCUSDT"))
    assert wanted.markets == ("crypto", "equities")
    intake, partition = bus.intake(wanted), Partitioner(PARTITIONS)
    for key in (b"AAPL", b"BTCUSDT"):
        add(intake, b"x", Route(key, b"trade"))
    assert list(by_queue(bus.backlog)) == [partition(b"AAPL"), PARTITIONS + partition(b"BTCUSDT")]


def test_route_counts_are_kept_by_kind_when_keys_run_over(monkeypatch: pytest.MonkeyPatch) -> None:
    """Keys come from the wire: a venue that sends ever new ones fills no memory, and no frame goes uncounted."""
    monkeypatch.setattr(counters, "MAX_ROUTES", 10)
    routes = RouteCounts()
    for n in range(1000):
        routes[Route(b"S%d" % n, b"trade")] += 1
        routes[Route(b"BTCUSDT", b"quote")] += 1
        assert len(routes) <= 10
    assert routes.by_kind() == {b"trade": 1000, b"quote": 1000, b"book": 0, b"other": 0}
