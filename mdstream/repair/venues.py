"""The venues whose past trades can be requested, as found in mdstream/venues/."""

from __future__ import annotations

from mdstream.venues import parts
from mdstream.venues.history import History

HISTORIES: dict[str, type[History]] = parts(History, "history")  # type: ignore[type-abstract]
