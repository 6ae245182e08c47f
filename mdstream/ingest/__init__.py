"""The ingestors: a venue's frames, untouched, into the raw topic.

    websocket ──> Connection ──> Intake ──> Backlog ──> Sender ──> md.raw.<market>
                      │             ^          │ full: Connection stops reading, TCP holds the venue back
                      └─> Feed ─────┘ status, heartbeats: the same way, so that they stay in order with the frames

A frame costs one await (its receive) and no task, future, lock or metric; everything else is per batch or second.
"""
