"""Kinds of raw records that no venue sent: what the ingestors and the repair write of themselves (header `k`).

A venue's frames are of the kinds that its provider's `route` gives (venues/feed.py).
"""

from __future__ import annotations

HEARTBEAT, STATUS, REPAIR = b"heartbeat", b"status", b"repair"
OURS = frozenset({HEARTBEAT, STATUS, REPAIR})
