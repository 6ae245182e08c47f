"""The ingestors: a venue's frames, untouched, into the raw topic.

    Link ──> Dialogue ──> Intake ──> Backlog ──> Sender ──> md.raw.<market>
     ^          │            ^         │  ^
     │       Session         │         v  │ while Kafka is away or slow
     │                       │      Spooler: overflow, spool
     └── Connection ─> Feed ─┘ status, heartbeats: the same way, so that they stay in order with the frames

A frame costs one await (its receive) and no task, future, lock or metric; everything else is per batch or second.
"""
