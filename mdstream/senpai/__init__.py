"""SenpAI's features, signals and alerts, from the events on NATS (docs/senpai.md).

    bytes ─ engine.py ─> window.py: 60 s of a symbol ─ features.py ─> a row ─ signals.py ─> signals
                                                                         └── alerts.py ──> alerts

course.py drives the engine by its stream alone. Around it: durable.py with JetStream (pulled.py reads, batches hold
messages and position), live.py without (queue.py, warm.py), connected.py for both; share.py for several members,
process.py and http.py; backtest.py and table.py. What decides is pure; pyproject.toml lists it.
"""
