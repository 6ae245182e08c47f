"""What is counted of one venue's repairs: plain numbers, put into form when somebody asks."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field

RECOVERED, PARTLY, UNRECOVERABLE = "recovered", "partly", "unrecoverable"
"""How a request ends: all of its trades came, some did, none did."""
TROUBLE, ABSENT = "trouble", "absent"
"""Why something is asked for again: the venue could not answer; it answered, but without all that is missing."""


@dataclass
class Counters:
    """Since the process began."""

    requests: Counter[str] = field(default_factory=lambda: Counter({RECOVERED: 0, PARTLY: 0, UNRECOVERABLE: 0}))
    retries: Counter[str] = field(default_factory=lambda: Counter({TROUBLE: 0, ABSENT: 0}))
    pages: int = 0
    recovered: int = 0
    lost: int = 0


def outcome(*, found: int, missing: int) -> str:
    """How a request ended."""
    if not missing:
        return RECOVERED
    return PARTLY if found else UNRECOVERABLE
