"""The ground truth of a simulation: every trade of the subscribed topics, a JSON line each, sent or not."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import TextIO

from mdstream.errors import SettingsError
from mdstream.simulator.listing import Topic
from mdstream.simulator.market import Order, Trade

BUFFERED_LINES = 2_000


class Journal:
    """Appends to `path`: restarts of the simulator share one journal. Written at the latest when `flush` is called.

    Raises SettingsError if the file cannot be opened for writing.
    """

    def __init__(self, path: Path) -> None:
        try:
            self._file: TextIO = path.open("a", encoding="ascii")
        except OSError as error:
            raise SettingsError(f"cannot write the journal {path}: {error.strerror}") from None
        self._lines: list[str] = []

    def add(self, topic: Topic, order: Order, trades: Iterable[Trade]) -> None:
        """One line per trade, as the venue reported it: with its digits of prices and sizes, and truncated times. Sizes
        that it counts in contracts are in units of base."""
        listing, channel, tape = topic.listing, topic.channel, topic.listing.instrument.tape
        head = f'{{"provider":"{listing.exchange}","symbol":"{listing.canonical}","trade_id":"'
        ts_ns = order.ts_ns - order.ts_ns % channel.resolution_ns
        side = f'"{"buy" if order.buy else "sell"}"' if channel.sided else "null"
        tail = f',"side":{side},"ts_exchange":{ts_ns}'
        id_space = f',"view":"{channel.id_space}"' if channel.id_space else ""
        for t in trades:
            count = f',"count":{t.count}' if t.count > 1 else ""
            lost = ',"unrecoverable":true' if tape.has_lost(t.first_id, t.last_id) else ""
            price, size = listing.price(t.ticks), listing.base_size(t.lots)
            trade_id = channel.trade_id(t, ts_ns)
            self._lines.append(f'{head}{trade_id}","price":{price},"size":{size}{tail}{id_space}{count}{lost}}}\n')
        if len(self._lines) >= BUFFERED_LINES:
            self.flush()

    def flush(self) -> None:
        """Hand everything to the operating system. Raises OSError if it refuses."""
        self._file.writelines(self._lines)
        self._lines.clear()
        self._file.flush()

    def close(self) -> None:
        """Flush and close."""
        self.flush()
        self._file.close()
