"""Metrics of every process besides its own counters: CPU, memory, descriptors, Python and its garbage collector."""

from __future__ import annotations

from prometheus_client import CollectorRegistry, GCCollector, PlatformCollector, ProcessCollector
from prometheus_client import disable_created_metrics as _disable_created_metrics

# They add a creation time to each counter and histogram; process_start_time_seconds is enough.
_disable_created_metrics()  # type: ignore[no-untyped-call]  # it has no types


def new_registry() -> CollectorRegistry:
    """A registry with the metrics of the process."""
    registry = CollectorRegistry()
    for collector in (ProcessCollector, PlatformCollector, GCCollector):
        collector(registry=registry)
    return registry
