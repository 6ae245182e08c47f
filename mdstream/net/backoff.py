"""How long to wait before trying again."""

from __future__ import annotations

import random
from collections.abc import Iterator


def delays_s(rng: random.Random, *, min_s: float = 1.0, max_s: float = 60.0) -> Iterator[float]:
    """Seconds to wait before each further attempt, in [least, most]: doubling, with jitter, endlessly.

    Each is drawn from [ceiling/2, ceiling], with ceilings of 2, 4, 8 ... times `min_s`, so that clients dropped
    together reconnect at different times, and none before `min_s`.
    """
    ceiling = min_s
    while True:
        ceiling = min(ceiling * 2, max_s)
        yield rng.uniform(max(ceiling / 2, min_s), ceiling)
