"""The embedded broker: one Kafka node in memory, in Python, with a memory limit.

It implements the part of Kafka's protocol that clients of one broker need, in the versions that aiokafka has structs
for: producing (also idempotently), fetching, groups, topics, and deleting records. It has no transactions, no security
and no replicas, and loses its records when it stops. Decision 38 explains why it exists.
"""
