"""The embedded broker: one node of Kafka in memory, in Python, that keeps no more than it is told to.

It speaks the part of Kafka's protocol that clients of one broker need, in the versions that aiokafka has structs for:
producing (idempotently too), fetching, groups, topics, and deleting records. It has no transactions, no security and no
replicas, and what it held is gone when it stops. Why it exists is told in decision 38.
"""
