"""A core worker's counters for Prometheus: updated once per batch, never per frame, and read at a scrape."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Iterator
from typing import TypeVar

from prometheus_client import Histogram
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from mdstream.stream.canonical import Canonical

K = TypeVar("K")

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

    def take(self, canonical: Canonical) -> None:
        """Add a partition's counts since the last time, and reset them there."""
        for source in canonical.sources.values():
            latency_ns = source.state.newest_latency_ns
            if source.trades and latency_ns is not None:
                self.latency.labels(source.name).observe(latency_ns / 1e6)
            self.events["trade", source.name] += source.trades
            self.events["quote", source.name] += source.quotes
            self.events["book", source.name] += source.books
            source.reset()
        _move(canonical.counts, self.others)
        _move(canonical.monitor.gaps, self.gaps)
        _move(canonical.switches, self.switches)

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


def _move(counted: Counter[K], total: Counter[K]) -> None:
    total.update(counted)
    counted.clear()
