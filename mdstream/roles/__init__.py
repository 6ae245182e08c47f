"""The roles of a worker process: each runs pure logic between Kafka and the outside.

canonical.py  bars.py  latest.py   the core role: restore, process, checkpoint, release
sink.py                            the other roles: store events outside Kafka
"""
