"""The ingestors: a venue's frames, untouched, into the raw topic.

    Link ──> Dialogue ──> Intake ──> Backlog ──> Sender ──> md.raw.<market>
     ^          │            ^          │ full: the dialogue stops reading, TCP holds the venue back
     │       Session         │
     └── Connection ─> Feed ─┘ status, heartbeats: the same way, so that they stay in order with the frames

A frame costs one await (its receive) and no task, future, lock or metric; everything else is per batch or second.
"""
