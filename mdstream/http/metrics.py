"""What every process tells Prometheus besides its own counters: CPU, memory, descriptors, Python and its collector."""

from __future__ import annotations

from prometheus_client import CollectorRegistry, GCCollector, PlatformCollector, ProcessCollector
from prometheus_client import disable_created_metrics as _disable_created_metrics

# One gauge more for each counter and histogram, of when it was made: process_start_time_seconds says it once.
_disable_created_metrics()  # type: ignore[no-untyped-call]  # it has no types


def new_registry() -> CollectorRegistry:
    """A registry with the metrics of the process in it."""
    registry = CollectorRegistry()
    for collector in (ProcessCollector, PlatformCollector, GCCollector):
        collector(registry=registry)
    return registry
