"""Log time: the clock of a raw partition, made from the receive times in it. It never goes back.

    records of A  t= 1.00   1.01          1.02          receive times of one ingestor's clock
    records of B       1.00    1.01  1.90               another's
    log time         1.00 1.01  1.01 1.90  1.90

A clock that is more than BEHIND_NS behind, or that leaps ahead by more than LEAP_NS at once, is adjusted to log time. A
leap means that a clock was set, or that nothing was written; neither shows that a single feed was silent. With the
ingestors' heartbeats, a log that is being written to never leaps.
"""

from __future__ import annotations

from mdstream.stream.state import LogState, SourceState

LEAP_NS = 5_000_000_000
BEHIND_NS = 60_000_000_000


def advance(log: LogState, source: SourceState, recv_ns: int) -> None:
    """Advance log time by a record of a source."""
    ahead_ns = recv_ns + source.offset_ns - log.now_ns
    if 0 < ahead_ns <= LEAP_NS:
        log.now_ns += ahead_ns
    elif -BEHIND_NS <= ahead_ns <= 0:
        pass
    elif log.now_ns:
        source.offset_ns -= ahead_ns
    else:
        log.now_ns = recv_ns
