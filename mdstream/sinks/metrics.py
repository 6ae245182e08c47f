"""A sink role's metrics for Prometheus, built from plain counters at scrape time."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from mdstream.sinks.base import Sink
from mdstream.sinks.loop import SinkLoop

CONFLICTS = "seq_conflicts_total"
"""A counter that several sinks have: one metric for all of them."""


class SinkMetrics(Collector):
    """The loop's counters, and each sink's own with the label `sink`."""

    def __init__(self, loop: SinkLoop, sinks: Sequence[Sink]) -> None:
        self._loop, self._sinks = loop, sinks

    def collect(self) -> Iterator[Metric]:
        loop = self._loop
        yield CounterMetricFamily("mdstream_sink_records", "records stored and acknowledged", value=loop.records)
        yield CounterMetricFamily("mdstream_sink_groups", "groups they were stored in", value=loop.groups)
        yield CounterMetricFamily("mdstream_sink_refused", "records put on md.dead", value=loop.refused)
        yield GaugeMetricFamily("mdstream_sink_held_records", "taken and not yet acknowledged", value=loop.held)
        failures = CounterMetricFamily("mdstream_sink_failures", "attempts that failed", labels=["sink"])
        down = GaugeMetricFamily("mdstream_sink_down", "1 while the last attempt failed", labels=["sink"])
        for name, health in loop.health.items():
            failures.add_metric([name], health.failures)
            down.add_metric([name], float(health.reason is not None))
        yield from (failures, down)
        yield from self._of_each_sink()

    def _of_each_sink(self) -> Iterator[Metric]:
        conflicts = CounterMetricFamily(
            "mdstream_seq_conflicts", "numbers stored with another content", labels=["sink"]
        )
        for sink in self._sinks:
            for name, value in sink.metrics().items():
                if name == CONFLICTS:
                    conflicts.add_metric([sink.name], value)
                    continue
                form = CounterMetricFamily if name.endswith("_total") else GaugeMetricFamily
                metric = form(f"mdstream_{sink.name}_{name.removesuffix('_total')}", f"of the {sink.name} sink")
                metric.add_metric([], value)
                yield metric
        yield conflicts
