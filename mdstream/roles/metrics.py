"""A core worker's counters for Prometheus: updated once per batch, never per frame, and read at a scrape."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Iterator

from prometheus_client import Histogram
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from mdstream.stream.output import Output

LATENCY_BUCKETS_MS = (1, 2, 5, 10, 20, 50, 100, 200, 500, 1000, 2000, 5000)


class CanonicalMetrics(Collector):
    """Events by type and provider, other raw records by outcome, and the latency of trades."""

    def __init__(self) -> None:
        self.events: Counter[tuple[str, str]] = Counter()
        self.others: Counter[str] = Counter()
        self.gaps: Counter[tuple[str, str]] = Counter()
        self.switches: Counter[tuple[str, str]] = Counter()
        self.latency = Histogram(
            "market_exchange_latency_ms",
            "from the venue's time to the ingestor's, of the last trade of each batch",
            ["provider"],
            buckets=LATENCY_BUCKETS_MS,
            registry=None,
        )
        self._last = (time.monotonic(), 0)

    def add(self, output: Output) -> None:
        """Add what a step has counted."""
        for provider, latency_ns in output.latencies_ns.items():
            self.latency.labels(provider).observe(latency_ns / 1e6)
        self.events.update(output.events)
        self.others.update(output.counts)
        self.gaps.update(output.gap_changes)
        self.switches.update(output.switches)

    def collect(self) -> Iterator[Metric]:
        events = CounterMetricFamily("market_events", "canonical events published", labels=["type", "provider"])
        for (kind, provider), count in sorted(self.events.items()):
            events.add_metric([kind, provider], count)
        yield events
        others = CounterMetricFamily("mdstream_raw_records", "raw records that became no event", labels=["outcome"])
        for outcome, count in sorted(self.others.items()):
            others.add_metric([outcome], count)
        yield others
        gaps = CounterMetricFamily("market_gaps", "gaps by what became of them", labels=["provider", "state"])
        for (provider, state), count in sorted(self.gaps.items()):
            gaps.add_metric([provider, state], count)
        yield gaps
        switches = CounterMetricFamily(
            "market_failovers", "switches of an instrument's source", labels=["left", "taken"]
        )
        for (left, taken), count in sorted(self.switches.items()):
            switches.add_metric([left, taken], count)
        yield switches
        yield GaugeMetricFamily("market_events_per_second", "since it was last asked", value=self._rate())
        yield from self.latency.collect()

    def _rate(self) -> float:
        now, total = time.monotonic(), self.events.total()
        (then, before), self._last = self._last, (now, total)
        return (total - before) / max(now - then, 1e-9)
