"""A market to simulate: prices that wander and jump, a book around them, trades that count up.

Pure: time and seed are arguments, so the same seed and the same calls give the same market. All prices are whole
ticks and all sizes whole lots (10 ** -decimals each); only the venues turn them into text.

    Asset       one asset's price in USD: a random walk, calm for minutes and wild for seconds
    Instrument  one pair at one venue: a top and a book around the ratio of two assets, and its trades

Invariants, each of them tested: trade ids and aggregate ids go up by one, update ids rise, bid < ask, the levels of a
side are strictly ordered away from the top and above zero, a book's changes turn the previous book into it, fills of
one order only get worse for the taker, time never runs back (a venue's reported times may, if its clock is set).
"""

from __future__ import annotations

from collections.abc import Sequence
from math import exp, floor, log10, sqrt
from random import Random

import msgspec

from mdstream.simulator.history import History

BOOK_LEVELS = 20
MAX_FILLS = 12
"""Most fills of one taker's order."""

SECOND_NS = 1_000_000_000
STEP_NS = 1_000_000
LONGEST_STEP_S = 60.0

CALM_VOLATILITY = 1e-4
"""Standard deviation of a price's logarithm after one second; 1e-4 is about 56% a year, like bitcoin's."""
WILD_VOLATILITY = 8e-4
CALM_S, WILD_S = 40.0, 4.0
REVERSION_PER_S = 1e-4
FURTHEST_LOG = 1.0
"""A price stays within a factor e of its start, so that it never runs out of ticks."""

USD = {
    "BTC": 93741.2, "ETH": 3242.55, "BNB": 890.1, "SOL": 138.42, "XRP": 2.104, "DOGE": 0.14512, "ADA": 0.4127,
    "TRX": 0.2871, "AVAX": 13.82, "LINK": 13.44, "LTC": 82.35, "BCH": 601.7, "DOT": 2.115, "UNI": 5.871,
    "EUR": 1.172, "GBP": 1.351, "CHF": 1.262, "AUD": 0.668, "CAD": 0.729, "TRY": 0.0233, "BRL": 0.181, "JPY": 0.0064,
}  # fmt: skip
"""Start prices; an asset that is not listed starts at a price made from its name."""
LISTED = tuple(name for name in USD if name not in ("EUR", "GBP", "CHF", "AUD", "CAD", "TRY", "BRL", "JPY"))
"""The bases of the pairs that a venue lists in any case."""
STABLE = frozenset({"USD", "USDT", "USDC", "FDUSD", "TUSD", "BUSD", "DAI", "USDE", "USD1", "RLUSD"})

Levels = list[tuple[int, int]]
"""(ticks, lots), best first."""


class Trade(msgspec.Struct, frozen=True, gc=False):
    """The fills first_id..last_id (both included) of one order at one price; `lots` is their sum."""

    trade_id: int
    first_id: int
    last_id: int
    ticks: int
    lots: int

    @property
    def count(self) -> int:
        return self.last_id - self.first_id + 1


class Order(msgspec.Struct, frozen=True, gc=False):
    """What one taker's order traded, in three views of the same fills."""

    ts_ns: int
    buy: bool
    fills: Sequence[Trade]
    merged: Sequence[Trade]
    """Fills at one price as one trade, under the last one's id."""
    first_aggregate_id: int
    """Id of merged[0] where merged trades have their own ids; the next ones follow without a hole."""
    update_id: int

    @property
    def aggregates(self) -> list[Trade]:
        """`merged` with their own ids."""
        first = self.first_aggregate_id
        return [Trade(first + i, t.first_id, t.last_id, t.ticks, t.lots) for i, t in enumerate(self.merged)]


class Top(msgspec.Struct, frozen=True, gc=False):
    """The best bid and ask."""

    ts_ns: int
    update_id: int
    bid: int
    bid_lots: int
    ask: int
    ask_lots: int


class Book(msgspec.Struct, frozen=True):
    """The best BOOK_LEVELS of each side, and what changed since the instrument's previous book (0 lots: gone)."""

    ts_ns: int
    update_id: int
    previous_id: int
    number: int
    """Counts the instrument's books, from 0."""
    bids: Levels
    asks: Levels
    bid_changes: Levels
    ask_changes: Levels


class Asset:
    """One asset's price in USD over time."""

    def __init__(self, name: str, seed: int, now_ns: int) -> None:
        self._rng = Random(f"{seed}:{name}")
        drawn = 10 ** self._rng.uniform(-1.0, 2.5)
        self._start = 1.0 if name in STABLE else USD.get(name, drawn)
        self._steady = name in STABLE
        self._log = 0.0
        self._at_ns = now_ns
        self.wild = False
        self.usd = self._start

    def at(self, now_ns: int) -> float:
        """The price at `now_ns`; a time before the last one changes nothing."""
        elapsed_ns = now_ns - self._at_ns
        if elapsed_ns >= STEP_NS and not self._steady:
            self._at_ns = now_ns
            self._step(min(elapsed_ns / SECOND_NS, LONGEST_STEP_S))
        return self.usd

    def _step(self, seconds: float) -> None:
        rng = self._rng
        if rng.random() < seconds / (WILD_S if self.wild else CALM_S):
            self.wild = not self.wild
        volatility = WILD_VOLATILITY if self.wild else CALM_VOLATILITY
        moved = self._log * (1 - REVERSION_PER_S * seconds) + volatility * sqrt(seconds) * rng.gauss(0.0, 1.0)
        self._log = min(max(moved, -FURTHEST_LOG), FURTHEST_LOG)
        self.usd = self._start * exp(self._log)


class Instrument:
    """One pair at one venue. `last_order` is the one before `first_id` until it trades."""

    def __init__(
        self,
        base: Asset,
        quote: Asset,
        *,
        rng: Random,
        history: History,
        first_id: int,
        fewest_decimals: int,
        whole_sizes: bool,
        now_ns: int,
    ) -> None:
        self._base, self._quote, self._rng = base, quote, rng
        self.tape = history.tape(first_id)
        price = base.at(now_ns) / quote.at(now_ns)
        median_size = 400 / base.usd
        # Six significant digits of the price, three of a usual size: about what venues choose.
        self.price_decimals = min(max(fewest_decimals, 5 - floor(log10(price))), 8)
        self.size_decimals = 0 if whole_sizes else min(max(0, 2 - floor(log10(median_size))), 8)
        self._tick = 10.0**-self.price_decimals
        self._median_lots = max(1.0, median_size * 10**self.size_decimals)
        self._gap = max(1, round(price / self._tick * 1e-5))
        self._now_ns = now_ns
        self.clock_off_ns = 0
        """How far the venue's clock is ahead; applies to every time that it reports."""
        self._next_id = self._next_aggregate_id = first_id
        self._update_id = first_id
        self._skew = 0.0
        self._books = 0
        self.top = self._move()
        self.open_ticks = self.high_ticks = self.low_ticks = self.top.bid
        self.volume_lots = 0
        drawn = Random()
        drawn.setstate(rng.getstate())  # a copy: the market stays as it would be without
        self._lots_before: int = round(self._median_lots * 86_400 * 10 ** drawn.uniform(-2.0, 1.0))
        self.last_order = self._order_before(first_id, self.top.bid, self._lots(1.0))
        self._book: Book | None = None

    @property
    def last(self) -> Trade:
        """The last fill."""
        return self.last_order.fills[-1]

    @property
    def venue_ns(self) -> int:
        """The time as the venue reports it."""
        return self._now_ns + self.clock_off_ns

    @property
    def day_lots(self) -> int:
        """The volume of 24 hours: what was traded here, and what before the simulation."""
        return self.volume_lots + self._lots_before

    def restart(self, first_id: int) -> None:
        """Restart: trades, aggregates and updates are numbered from `first_id`, and the old ones are forgotten."""
        self._next_id = self._next_aggregate_id = self._update_id = first_id
        self.last_order = self._order_before(first_id, self.last.ticks, self.last.lots)
        self.tape.restart(first_id)

    def order(self, now_ns: int, max_fills: int = MAX_FILLS) -> Order:
        """A taker's order with one to `max_fills` fills."""
        top, buy = self.quote(now_ns), self._rng.random() < 0.5
        fills = self._fill(top.ask if buy else top.bid, self._gap if buy else -self._gap, min(max_fills, MAX_FILLS))
        merged = fills if len(fills) == 1 else _merge(fills)
        self._update_id += 3  # received, matched, done: venues number all of these and send some
        order = Order(self.venue_ns, buy, fills, merged, self._next_aggregate_id, self._update_id)
        self._next_aggregate_id += len(merged)
        self._remember(order)
        return order

    def quote(self, now_ns: int) -> Top:
        """A new top of the book. Every event moves it: a channel shows samples of the market."""
        self._now_ns = max(self._now_ns, now_ns)
        self.top = self._move()
        return self.top

    def book(self, now_ns: int) -> Book:
        """A new book; unless more than its top moved, most of its levels are those of the previous one."""
        top, before = self.quote(now_ns), self._book
        bids = self._side(top.bid, top.bid_lots, -self._gap, before.bids if before else [])
        asks = self._side(top.ask, top.ask_lots, self._gap, before.asks if before else [])
        self._update_id += 1
        self._book = Book(
            self.venue_ns,
            self._update_id,
            before.update_id if before else self._update_id,
            self._books,
            bids,
            asks,
            _changes(before.bids if before else [], bids),
            _changes(before.asks if before else [], asks),
        )
        self._books += 1
        return self._book

    def last_book(self, now_ns: int) -> Book:
        """The book that the next one's changes apply to."""
        return self._book or self.book(now_ns)

    def _move(self) -> Top:
        rng = self._rng
        # The venue's own price leans a little (1e-5 is 0.1 basis points) to one side of the assets' ratio.
        self._skew = self._skew * 0.99 + rng.gauss(0.0, 1e-5)
        ticks = self._base.at(self._now_ns) / self._quote.at(self._now_ns) * (1 + self._skew) / self._tick
        spread = 1 + int(rng.random() ** 3 * (6 if self._base.wild else 3))
        # Whatever the price, there is room for every level of the bids above zero.
        bid = max(int(ticks - spread / 2), BOOK_LEVELS * self._gap + 1)
        self._update_id += 1
        return Top(self.venue_ns, self._update_id, bid, self._lots(4.0), bid + spread, self._lots(4.0))

    def _order_before(self, first_id: int, ticks: int, lots: int) -> Order:
        """The value of `last_order` until the first order: ids continue from it."""
        before = Trade(first_id - 1, first_id - 1, first_id - 1, ticks, lots)
        return Order(self.venue_ns, False, (before,), (before,), first_id - 1, self._update_id)

    def _lots(self, scale: float) -> int:
        """A log-normal size; `scale` times the median of trades."""
        return max(1, int(self._median_lots * scale * exp(min(self._rng.gauss(0.0, 1.2), 6.0))))

    def _fill(self, ticks: int, step: int, most: int) -> list[Trade]:
        rng, next_id = self._rng, self._next_id
        fills = []
        go_on = 0.65 if self._base.wild else 0.4
        while True:
            fills.append(Trade(next_id, next_id, next_id, ticks, self._lots(1.0)))
            next_id += 1
            if len(fills) >= most or rng.random() >= go_on:
                break
            if rng.random() < 0.25:
                ticks = _next_level(ticks, step)
        self._next_id = next_id
        return fills

    def _side(self, best: int, lots: int, step: int, before: Levels) -> Levels:
        """Levels at multiples of the gap, so that a small move of the top leaves most of them unchanged."""
        rng, known = self._rng, dict(before)
        levels = [(best, lots)]
        ticks = best
        for _ in range(BOOK_LEVELS - 1):
            ticks = _next_level(ticks, step)
            kept = known.get(ticks)
            levels.append((ticks, kept if kept is not None and rng.random() < 0.8 else self._lots(4.0)))
        return levels

    def _remember(self, order: Order) -> None:
        self.last_order = order
        self.tape.add(order.ts_ns, order.buy, order.fills, order.merged)
        for trade in order.merged:
            self.high_ticks = max(self.high_ticks, trade.ticks)
            self.low_ticks = min(self.low_ticks, trade.ticks)
            self.volume_lots += trade.lots


class Market:
    """All instruments; those of one asset share its price. Ids begin at `first_id`."""

    def __init__(self, seed: int, first_id: int, history: History | None = None) -> None:
        self._seed, self._first_id = seed, first_id
        self._history = History() if history is None else history
        self._assets: dict[str, Asset] = {}

    def instrument(
        self, venue: str, base: str, quote: str, *, fewest_decimals: int, now_ns: int, whole_sizes: bool = False
    ) -> Instrument:
        """A new instrument; its randomness depends only on the seed and its names."""
        return Instrument(
            self._asset(base, now_ns),
            self._asset(quote, now_ns),
            rng=Random(f"{self._seed}:{venue}:{base}:{quote}"),
            history=self._history,
            first_id=self._first_id,
            fewest_decimals=fewest_decimals,
            whole_sizes=whole_sizes,
            now_ns=now_ns,
        )

    def _asset(self, name: str, now_ns: int) -> Asset:
        if name not in self._assets:
            self._assets[name] = Asset(name, self._seed, now_ns)
        return self._assets[name]


def _next_level(ticks: int, step: int) -> int:
    """The multiple of `step` strictly beyond `ticks`, in the direction of its sign."""
    return (ticks // step + 1) * step


def _merge(fills: Sequence[Trade]) -> list[Trade]:
    merged: list[Trade] = []
    for fill in fills:
        if merged and merged[-1].ticks == fill.ticks:
            before = merged.pop()
            merged.append(Trade(fill.last_id, before.first_id, fill.last_id, fill.ticks, before.lots + fill.lots))
        else:
            merged.append(fill)
    return merged


def _changes(before: Levels, after: Levels) -> Levels:
    """The levels that turn `before` into `after`: gone ones with 0 lots, then new and resized ones."""
    old, new = dict(before), dict(after)
    return [(ticks, 0) for ticks in old if ticks not in new] + [(t, n) for t, n in after if old.get(t) != n]
