"""The Prometheus metrics, read from the plain counters at the scrape, so that counting costs nothing."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily
from prometheus_client.metrics_core import Metric

from mdstream.http.endpoint import Metrics
from mdstream.ingest.bus import Bus
from mdstream.ingest.feed import Feed
from mdstream.ingest.overflow import DROPPABLE

FEED_COUNTERS = {
    "connections": "connections that were opened",
    "disconnections": "connections that ended",
    "replacements": "connections that another one took over from before the venue ended them",
    "failed_attempts": "connection attempts that failed",
    "silences": "connections closed because nothing came for too long",
    "data_silences": "connections closed because no data came for too long, though other frames may have",
    "oversized": "connections closed because of a frame above the limit",
    "venue_errors": "errors that the venue answered with, to a subscription for instance",
    "venue_notices": "announcements of the venue, of a restart for instance",
    "not_understood": "frames without an instrument that could not be understood",
    "rejected_subscriptions": "subscriptions that the venue rejected by name",
    "missing_subscriptions": "subscriptions that the venue did not acknowledge in time",
}


class IngestMetrics(Metrics):
    """The metrics of one ingestor."""

    def __init__(self, feeds: Sequence[Feed], bus: Bus) -> None:
        self._feeds, self._bus = feeds, bus
        super().__init__()

    def collect(self) -> Iterator[Metric]:
        yield from self._of_feeds()
        yield from self._of_bus()

    def _of_feeds(self) -> Iterator[Metric]:
        frames = CounterMetricFamily("mdstream_ingest_frames", "frames received", labels=["provider", "kind"])
        received = CounterMetricFamily(
            "mdstream_ingest_received_bytes", "bytes of frames received", labels=["provider"]
        )
        rate = GaugeMetricFamily("mdstream_ingest_frames_per_second", "over the last second", labels=["provider"])
        up = GaugeMetricFamily("mdstream_ingest_connected", "1 while all symbols are connected", labels=["provider"])
        symbols = GaugeMetricFamily("mdstream_ingest_symbols", "requested symbols", labels=["provider"])
        stale = GaugeMetricFamily(
            "mdstream_ingest_stale_channels", "silent for longer than expected", labels=["provider"]
        )
        silent = GaugeMetricFamily(
            "mdstream_ingest_stale_seconds", "silence of each stale channel", labels=["provider", "symbol", "kind"]
        )
        mute = GaugeMetricFamily(
            "mdstream_ingest_mute_symbols", "subscribed symbols without any data", labels=["provider"]
        )
        closed = GaugeMetricFamily(
            "mdstream_ingest_closed", "1 while the markets of all symbols are closed", labels=["provider"]
        )
        for feed in self._feeds:
            name, counters = feed.provider.name, feed.intake.counters
            for kind, count in counters.frames.items():
                frames.add_metric([name, kind.decode()], count)
            received.add_metric([name], counters.bytes)
            rate.add_metric([name], counters.frames_per_second)
            up.add_metric([name], feed.connected)
            closed.add_metric([name], feed.closed)
            symbols.add_metric([name], len(feed.symbols))
            mute.add_metric([name], len(feed.mute()))
            channels = feed.stale_channels()
            stale.add_metric([name], len(channels))
            for (key, kind), silent_s in channels.items():
                silent.add_metric([name, key.decode(), kind.decode()], silent_s)
        yield from (frames, received, rate, up, closed, symbols, mute, stale, silent)
        for field, text in FEED_COUNTERS.items():
            family = CounterMetricFamily(f"mdstream_ingest_{field}", text, labels=["provider"])
            for feed in self._feeds:
                family.add_metric([feed.provider.name], getattr(feed.intake.counters, field))
            yield family

    def _of_bus(self) -> Iterator[Metric]:
        backlog, sent = self._bus.backlog, self._bus.sender.counters
        yield GaugeMetricFamily(
            "mdstream_ingest_queued_records", "records that Kafka has not acknowledged", backlog.records
        )
        yield GaugeMetricFamily("mdstream_ingest_queued_bytes", "bytes that Kafka has not acknowledged", backlog.bytes)
        yield GaugeMetricFamily(
            "mdstream_ingest_stalled_seconds", "since Kafka last accepted records", self._bus.sender.stalled_s
        )
        yield CounterMetricFamily("mdstream_ingest_sent_records", "records that Kafka acknowledged", sent.records)
        yield CounterMetricFamily("mdstream_ingest_sent_bytes", "bytes that Kafka acknowledged", sent.bytes)
        yield CounterMetricFamily("mdstream_ingest_deliveries", "batches that Kafka acknowledged", sent.deliveries)
        yield CounterMetricFamily("mdstream_ingest_kafka_errors", "batches that had to be sent again", sent.errors)
        yield CounterMetricFamily("mdstream_ingest_kafka_restarts", "producers that had to be replaced", sent.restarts)
        yield CounterMetricFamily("mdstream_ingest_diversions", "times the spool was used", backlog.times_diverted)
        overflow, spooler = backlog.overflow, self._bus.spooler
        yield GaugeMetricFamily("mdstream_ingest_overflow_records", "records on their way to the spool", len(overflow))
        yield GaugeMetricFamily("mdstream_ingest_spool_bytes", "bytes in the spool", spooler.spool_bytes)
        failing = spooler.error is not None
        yield GaugeMetricFamily("mdstream_ingest_spool_failing", "1 while the spool cannot be written", failing)
        yield CounterMetricFamily("mdstream_ingest_spooled_records", "records written to the spool", spooler.records)
        dropped = CounterMetricFamily("mdstream_ingest_dropped_records", "for want of room", labels=["kind"])
        for kind in DROPPABLE:
            dropped.add_metric([kind.decode()], overflow.dropped[kind])
        yield dropped
