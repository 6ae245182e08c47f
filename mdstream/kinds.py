"""Kinds (header `k`) of raw records that no venue sent: those that ingestors and the repair write themselves.

The kinds of a venue's frames come from its provider's `route` (venues/feed.py).
"""

from __future__ import annotations

HEARTBEAT, STATUS, REPAIR = b"heartbeat", b"status", b"repair"
OURS = frozenset({HEARTBEAT, STATUS, REPAIR})
