"""The Prometheus metrics of `mdstream repair`, read from the plain counters at scrape time."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily
from prometheus_client.metrics_core import Metric

from mdstream.http.endpoint import Metrics
from mdstream.repair.desk import Desk
from mdstream.repair.requests import Requests


class RepairMetrics(Metrics):
    """The metrics of one process."""

    def __init__(self, desks: Sequence[Desk], requests: Requests) -> None:
        self._desks, self._requests = desks, requests
        super().__init__()

    def collect(self) -> Iterator[Metric]:
        yield from self._counted()
        yield from self._open_requests()
        yield CounterMetricFamily(
            "mdstream_repair_refused", "records of md.gaps put on md.dead", self._requests.refused
        )
        yield GaugeMetricFamily(
            "mdstream_repair_held_requests", "read, not covered by a commit", value=self._requests.held
        )

    def _counted(self) -> Iterator[Metric]:
        requests = CounterMetricFamily("mdstream_repair_requests", "finished requests", labels=["provider", "outcome"])
        retries = CounterMetricFamily(
            "mdstream_repair_retries", "requests to a venue that were repeated", labels=["provider", "reason"]
        )
        pages = CounterMetricFamily("mdstream_repair_pages", "HTTP requests to the venue", labels=["provider"])
        recovered = CounterMetricFamily("mdstream_repair_trades", "missing trades recovered", labels=["provider"])
        lost = CounterMetricFamily(
            "mdstream_repair_lost_trades", "trades that are no longer available", labels=["provider"]
        )
        for desk in self._desks:
            name, counters = desk.history.name, desk.counters
            for outcome, count in counters.requests.items():
                requests.add_metric([name, outcome], count)
            for reason, count in counters.retries.items():
                retries.add_metric([name, reason], count)
            pages.add_metric([name], counters.pages)
            recovered.add_metric([name], counters.recovered)
            lost.add_metric([name], counters.lost)
        yield from (requests, retries, pages, recovered, lost)

    def _open_requests(self) -> Iterator[Metric]:
        open_ = GaugeMetricFamily("mdstream_repair_open_requests", "open requests", labels=["provider"])
        oldest = GaugeMetricFamily(
            "mdstream_repair_oldest_request_seconds", "age of the oldest open request", labels=["provider"]
        )
        troubled = GaugeMetricFamily(
            "mdstream_repair_venue_troubled", "1 while requests to the venue fail", labels=["provider"]
        )
        for desk in self._desks:
            name = desk.history.name
            open_.add_metric([name], desk.open)
            oldest.add_metric([name], desk.oldest_s(time.time()))
            troubled.add_metric([name], desk.problem is not None)
        yield from (open_, oldest, troubled)
