"""The bars agent's counters for Prometheus: updated once per batch, read at a scrape."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator

from prometheus_client.core import CounterMetricFamily, Metric
from prometheus_client.registry import Collector

from mdstream.bars.bars import Collected, Report
from mdstream.bars.rules import Rules

OUTCOMES = ("trade", "repeat", "unmeasured", "correction", "unknown", "unreadable")


class BarsMetrics(Collector):
    """Trades by outcome; bars, revisions and late trades by interval."""

    def __init__(self, rules: Rules) -> None:
        # All at zero from the start: a rate over a counter that appears with its first event misses that event.
        self._trades = Counter(dict.fromkeys(OUTCOMES, 0))
        self._bars = Counter(dict.fromkeys(rules.levels, 0))
        self._revisions, self._late = self._bars.copy(), self._bars.copy()

    def add(self, report: Report) -> None:
        """Add what a partition has counted."""
        self._trades.update(report.trades)
        self._late.update(report.late)

    def count(self, collected: Collected) -> None:
        """Add the bars that are published."""
        self._bars.update(tally.interval for tally in collected.bars)
        self._revisions.update(tally.interval for tally in collected.bars if tally.revision)

    def collect(self) -> Iterator[Metric]:
        yield _family("mdstream_bar_trades", "trades by what bars made of them", "outcome", self._trades)
        yield _family("mdstream_bars", "bars published, revisions included", "interval", self._bars)
        yield _family("mdstream_bar_revisions", "bars published again, changed", "interval", self._revisions)
        yield _family("mdstream_late_trades", "trades that came too late for their bar", "interval", self._late)


def _family(name: str, what: str, label: str, counts: Counter[str]) -> CounterMetricFamily:
    family = CounterMetricFamily(name, what, labels=[label])
    for value, count in counts.items():
        family.add_metric([value], count)
    return family
