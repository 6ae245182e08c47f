"""SenpAI's features, signals and alerts, from the events on NATS (docs/senpai.md).

    bytes ─ engine.py ─> window.py: 60 s of a symbol ─ features.py ─> a row ─ signals.py ─> signals
                                                                         └── alerts.py ──> alerts

All of it is pure but queue.py, which bounds what waits between NATS and the engine.
"""
