"""The venues that can be simulated, and their REST interfaces, as found in mdstream/venues/."""

from __future__ import annotations

from mdstream.simulator.exchange import Exchange
from mdstream.simulator.rest import Rest
from mdstream.venues import parts

EXCHANGES: dict[str, type[Exchange]] = parts(Exchange, "simulated")
RESTS: dict[str, type[Rest]] = parts(Rest, "simulated_rest")  # type: ignore[type-abstract]
