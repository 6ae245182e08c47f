"""The roles of a worker process: each runs pure logic between Kafka and the outside.

stateful.py                claim, restore, checkpoint, release: what the next two have in common
canonical.py  bars.py      the core role: publish, then checkpoint; checkpoint, then publish
latest.py                  the core role: the latest prices
sink.py                    the other roles: store events outside Kafka
"""
