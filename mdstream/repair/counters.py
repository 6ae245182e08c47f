"""Counters of one venue's repairs: plain numbers, turned into metrics at scrape time."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field

RECOVERED, PARTLY, UNRECOVERABLE = "recovered", "partly", "unrecoverable"
"""How a request ends: all, some or none of its trades were found."""
TROUBLE, ABSENT = "trouble", "absent"
"""Why a page is requested again: the venue could not answer, or its answer lacked missing trades."""


@dataclass
class Counters:
    """Since the process started."""

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
