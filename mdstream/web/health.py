"""Every worker's /live, /ready, /health and /metrics."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from faust.web import Request, Response, View
from prometheus_client import CONTENT_TYPE_LATEST, generate_latest
from prometheus_client.core import GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from mdstream.app import App
from mdstream.config import Settings


def attach(app: App, _settings: Settings) -> None:
    """Declare the pages; every role has them."""
    app.registry.register(Positions(app))
    app.registry.register(Progress(app))

    @app.page("/live", name="live")
    async def live_page(self: View, request: Request) -> Response:  # noqa: ARG001  the signature is Faust's
        found = app.watchdog.verdict
        return self.json({"live": found.live, "problems": found.problems}, status=200 if found.live else 503)

    @app.page("/ready", name="ready")
    async def ready_page(self: View, request: Request) -> Response:  # noqa: ARG001
        found = app.watchdog.verdict
        return self.json({"ready": found.ready, "problems": found.problems}, status=200 if found.ready else 503)

    @app.page("/health", name="health")
    async def health_page(self: View, request: Request) -> Response:  # noqa: ARG001
        answer = health(app)
        return self.json(answer, status=200 if answer["status"] == "ok" else 503)

    @app.page("/metrics", name="metrics")
    async def metrics_page(self: View, request: Request) -> Response:  # noqa: ARG001
        media_type, _, _ = CONTENT_TYPE_LATEST.partition(";")
        return self.text(generate_latest(app.registry).decode(), content_type=media_type)


def health(app: App) -> dict[str, Any]:
    """The worker's partitions, positions and status.

    `status`: ok, starting, holding (on purpose), unreachable (Kafka), stuck. `waiting`: records ahead of each position.
    `quiet_s`: seconds without a new record on our partitions of each topic; only its writers know what is normal.
    """
    verdict, rule = app.watchdog.verdict, app.watchdog.rule
    partitions = {f"{tp.topic}/{tp.partition}": offsets.committable for tp, offsets in app.positions().items()}
    return {
        "status": verdict.status,
        "problems": verdict.problems,
        "role": app.settings.role,
        "partitions": dict(sorted(partitions.items())),
        "waiting": {f"{tp.topic}/{tp.number}": ahead for tp, ahead in sorted(rule.ahead.items()) if ahead},
        "quiet_s": {topic: round(quiet_s, 1) for topic, quiet_s in sorted(rule.quiet_s.items())},
    }


class Positions(Collector):
    """The next offset of each batched partition: delivered to the agent, done, and committed."""

    def __init__(self, app: App) -> None:
        self._app = app

    def collect(self) -> Iterator[Metric]:
        labels = ["topic", "partition"]
        delivered = GaugeMetricFamily("mdstream_delivered_offset", "next offset to hand to the agent", labels=labels)
        done = GaugeMetricFamily("mdstream_done_offset", "end of the acknowledged prefix", labels=labels)
        committed = GaugeMetricFamily("mdstream_committed_offset", "what the broker has confirmed", labels=labels)
        for tp, offsets in self._app.positions().items():
            at = [tp.topic, str(tp.partition)]
            delivered.add_metric(at, offsets.delivered)
            done.add_metric(at, offsets.committable)
            if offsets.confirmed is not None:
                committed.add_metric(at, offsets.confirmed)
        yield from (delivered, done, committed)


class Progress(Collector):
    """The watchdog's findings at Kafka's last answer."""

    def __init__(self, app: App) -> None:
        self._watchdog = app.watchdog

    def collect(self) -> Iterator[Metric]:
        rule = self._watchdog.rule
        labels = ["topic", "partition"]
        waiting = GaugeMetricFamily("mdstream_waiting_records", "records that are not done", labels=labels)
        stuck = GaugeMetricFamily(
            "mdstream_stuck_seconds", "records wait, and none is done, for so long", labels=labels
        )
        quiet = GaugeMetricFamily("mdstream_quiet_seconds", "no new record on our partitions", labels=["topic"])
        for tp, ahead in rule.ahead.items():
            waiting.add_metric([tp.topic, str(tp.number)], ahead)
        for tp, stalled_s in rule.stalled_s.items():
            stuck.add_metric([tp.topic, str(tp.number)], stalled_s)
        for topic, quiet_s in rule.quiet_s.items():
            quiet.add_metric([topic], quiet_s)
        unanswered_s = self._watchdog.unanswered_s
        yield from (waiting, stuck, quiet)
        yield GaugeMetricFamily("mdstream_kafka_unanswered_seconds", "since Kafka last answered", unanswered_s)
