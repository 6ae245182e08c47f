"""Every worker's /health and /metrics."""

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
    """Declare the pages of any role's worker."""
    app.registry.register(Positions(app))

    @app.page("/health", name="health")
    async def health_page(self: View, request: Request) -> Response:  # noqa: ARG001  the signature is Faust's
        said = health(app)
        return self.json(said, status=200 if said["status"] == "ok" else 503)

    @app.page("/metrics", name="metrics")
    async def metrics_page(self: View, request: Request) -> Response:  # noqa: ARG001
        media_type, _, _ = CONTENT_TYPE_LATEST.partition(";")
        return self.text(generate_latest(app.registry).decode(), content_type=media_type)


def health(app: App) -> dict[str, Any]:
    """What the worker owns and how far it is. `status`: ok, or starting while no partitions were assigned yet."""
    partitions = {f"{tp.topic}/{tp.partition}": offsets.committable for tp, offsets in app.positions().items()}
    return {
        "status": "starting" if app.rebalancing or not partitions else "ok",
        "role": app.settings.role,
        "partitions": dict(sorted(partitions.items())),
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
