"""An engine that only its stream drives: time passes with the receive times of the events, heartbeats among them. Pure.

    events    ──e────e──e─────e──|──e───>      at each tick of receive time: advance(latest - SETTLE)
                                tick

So the same stream gives the same messages, live, after a restart and in a backtest. SETTLE is how much later than
others the events of one symbol may come and still be in their row.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator

from mdstream.senpai.engine import Engine
from mdstream.senpai.messages import Message
from mdstream.senpai.window import LONG_NS, SECOND_NS

TICK_NS = SECOND_NS // 10
SETTLE_NS = SECOND_NS
REPLAYED_NS = LONG_NS + 15 * SECOND_NS
"""What is stepped again after a restart: the window, and what is late within reason."""
MOST = 250
"""About how many messages one call returns at most."""


class Course:
    """The engine, and where in its stream to begin again after a restart."""

    def __init__(self, engine: Engine) -> None:
        self.engine = engine
        self._due_ns = 0
        self._starts: deque[tuple[int, int]] = deque()  # a time and a position: what was received later comes later

    @property
    def start(self) -> int | None:
        """The position after which everything of the last REPLAYED_NS comes; None before the first event."""
        return self._starts[0][1] if self._starts else None

    @property
    def unfinished(self) -> bool:
        """Whether `proceed` has more messages: get them before the next event."""
        return self.engine.latest_ns >= self._due_ns

    def step(self, value: bytes, *, now_ns: int | None = None, position: int = 0) -> list[Message]:
        """Process an event, which arrived at `now_ns` and is at a position of the stream."""
        made = self.engine.step(value, now_ns)
        return made + self.proceed(position) if self.unfinished else made

    def proceed(self, position: int = 0) -> list[Message]:
        """Let the time pass that the last event told."""
        latest_ns = self.engine.latest_ns
        made = self.engine.advance(latest_ns - SETTLE_NS, most=MOST)
        if len(made) < MOST:
            self._due_ns = (latest_ns // TICK_NS + 1) * TICK_NS
            self._note_start(latest_ns, position)
        return made

    def all(self, value: bytes, *, now_ns: int | None = None, position: int = 0) -> Iterator[Message]:
        """Process an event to the end."""
        yield from self.step(value, now_ns=now_ns, position=position)
        while self.unfinished:
            yield from self.proceed(position)

    def _note_start(self, latest_ns: int, position: int) -> None:
        starts = self._starts
        if not starts:  # of what is before the first event nothing is needed
            starts.append((latest_ns - 1, position - 1))
        elif latest_ns >= starts[-1][0] + SECOND_NS:
            starts.append((latest_ns, position))
        while len(starts) > 1 and starts[1][0] <= latest_ns - REPLAYED_NS:
            starts.popleft()
