"""The connection to NATS of a consumer: kept up, until trying again would not help."""

from __future__ import annotations

import asyncio
import logging
import random
from collections.abc import Awaitable, Callable, Iterator

from mdstream.config import Settings
from mdstream.errors import SinkError
from mdstream.net.backoff import delays_s
from mdstream.net.redact import redacted
from mdstream.senpai.state import State
from mdstream.sinks.nats_stream import RefusedError, UnusableError
from mdstream.sinks.nats_wire import Failure, Wire, access_of, connect, is_unauthorized, reason_of, servers_of

log = logging.getLogger(__name__)

CLIENT = "mdstream-senpai"
MIN_RETRY_S, MAX_RETRY_S = 0.25, 5.0


class Connection:
    """One connection after the other. Raises SettingsError for an address that is none."""

    def __init__(self, settings: Settings, state: State) -> None:
        self._state = state
        self._servers, self._access = servers_of(settings), access_of(settings)
        self.place = ", ".join(map(redacted, self._servers))

    async def keep(self, session: Callable[[Wire], Awaitable[None]], *, outcome: str) -> None:
        """Connect, and run a session until it fails, forever; `outcome`: what becomes of events meanwhile.

        A session sets `state.problem` to None once it runs: pauses begin short again after it. Raises SinkError.
        """
        delays = _delays_s()
        while True:
            self._state.reconnects += 1
            try:
                wire = await connect(self._servers, self._access, name=CLIENT)
                try:
                    await session(wire)
                finally:
                    await wire.drop()
            except UnusableError as error:
                raise SinkError("senpai", self.place, str(error), retriable=False) from error
            except (*Failure, RefusedError) as error:
                if is_unauthorized(error):
                    raise SinkError("senpai", self.place, reason_of(error), retriable=False) from error
                if self._failed(reason_of(error), outcome):
                    delays = _delays_s()
            await asyncio.sleep(next(delays))

    def _failed(self, reason: str, outcome: str) -> bool:
        """Show, and log once, why it does not run. Returns whether it ran before."""
        state = self._state
        before, state.problem = state.problem, f"NATS at {self.place}: {reason}"
        if before != state.problem:
            log.warning("%s; it is tried again, and %s", state.problem, outcome)
        state.slow_consumers += "slow consumer" in reason.lower()
        return before is None


def _delays_s() -> Iterator[float]:
    return delays_s(random.Random(), min_s=MIN_RETRY_S, max_s=MAX_RETRY_S)
