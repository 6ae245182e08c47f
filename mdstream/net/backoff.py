"""How long to wait before trying again."""

from __future__ import annotations

import random
from collections.abc import Iterator


def delays_s(rng: random.Random, *, least: float = 1.0, most: float = 60.0) -> Iterator[float]:
    """Seconds to wait before each further attempt, in [least, most]: doubling, with jitter, endlessly.

    Each is drawn from [ceiling/2, ceiling], with ceilings of 2, 4, 8 ... times `least`, so that clients dropped
    together reconnect at different times, and none before `least`.
    """
    ceiling = least
    while True:
        ceiling = min(ceiling * 2, most)
        yield rng.uniform(max(ceiling / 2, least), ceiling)
