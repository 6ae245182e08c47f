"""The Prometheus metrics of `mdstream senpai`, read from the plain counters at scrape time."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from itertools import accumulate

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily
from prometheus_client.metrics_core import Metric

from mdstream.http.endpoint import Metrics
from mdstream.senpai.state import BUCKETS_S, Histogram, State


class SenpaiMetrics(Metrics):
    """The metrics of one process. Labels are outcomes, kinds and rules: their number is bounded."""

    def __init__(self, state: State) -> None:
        self._state = state
        super().__init__()

    def collect(self) -> Iterator[Metric]:
        state = self._state
        open_ = Counter(each.kind for each in state.engine.alerts.memory())
        yield _counter("senpai_events", "events by what became of them", "outcome", state.counts)
        yield CounterMetricFamily("senpai_features", "rows of features published", state.features)
        yield _counter("senpai_signals", "signals published", "rule", state.signals)
        yield _counter("senpai_alerts", "alerts that began", "kind", state.alerts)
        alerts = GaugeMetricFamily("senpai_open_alerts", "alerts that have not ended", labels=["kind"])
        for kind, count in open_.items():
            alerts.add_metric([kind], count)
        yield alerts
        yield _counter("senpai_dropped", "events dropped because the queue was full", "kind", state.dropped)
        yield GaugeMetricFamily("senpai_queue_fill", "share of the queue that is used", value=state.fill)
        yield GaugeMetricFamily("senpai_pending_events", "events that wait", value=state.pending)
        yield GaugeMetricFamily("senpai_symbols", "symbols that are known", value=len(state.engine.symbols))
        yield GaugeMetricFamily("senpai_connected", "1 while events are read", value=state.problem is None)
        yield CounterMetricFamily("senpai_reconnects", "connections after the first", max(0, state.reconnects))
        yield CounterMetricFamily(
            "senpai_slow_consumer_errors", "disconnections for being too slow", state.slow_consumers
        )
        latest_s = state.engine.latest_ns / 1e9
        yield GaugeMetricFamily("senpai_latest_event_seconds", "receive time of the latest event", value=latest_s)
        yield _histogram("senpai_publish_seconds", "from an event to the message that it made", state.delays)


def _counter(name: str, what: str, label: str, values: Mapping[str, int]) -> CounterMetricFamily:
    made = CounterMetricFamily(name, what, labels=[label])
    for value, count in sorted(values.items()):
        made.add_metric([value], count)
    return made


def _histogram(name: str, what: str, found: Histogram) -> HistogramMetricFamily:
    bounds = [*map(str, BUCKETS_S), "+Inf"]
    buckets = list(zip(bounds, map(float, accumulate(found.counts)), strict=True))
    return HistogramMetricFamily(name, what, buckets=buckets, sum_value=found.sum_s)
