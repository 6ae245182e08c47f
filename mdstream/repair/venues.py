"""The venues whose past can be requested, as found in mdstream/venues/."""

from __future__ import annotations

from mdstream.venues import parts
from mdstream.venues.history import History
from mdstream.venues.past import Past
from mdstream.venues.timed import Timed

HISTORIES: dict[str, type[History]] = parts(History, "history")  # type: ignore[type-abstract]
"""By trade ids."""
TIMED: dict[str, type[Timed]] = parts(Timed, "timed")  # type: ignore[type-abstract]
"""By time."""
PASTS: dict[str, type[Past]] = {**TIMED, **HISTORIES}
"""Of either kind."""
