"""What a worker process does: each role runs a pure machine between Kafka and the world.

canonical.py  bars.py  latest.py   the core role: restore, process, checkpoint, release
sink.py                            the others: events into a place that keeps them
"""
