"""Is there data where data is due? The rule over counts, a second a step."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from datetime import datetime, timedelta

from hypothesis import given
from hypothesis import strategies as st

from mdstream.ingest.freshness import FACTOR, FAMILIAR, MAX_WAIT_S, SETTLE_S, WINDOW_S, Freshness, SilenceTracker
from mdstream.trading_hours import NEW_YORK, trading_hours
from mdstream.venues.feed import OTHER, QUOTE, TRADE, Route

MIN_S = 60.0
TRADES, QUOTES = Route(b"BTCUSDT", TRADE), Route(b"BTCUSDT", QUOTE)


def silence_of(gaps_s: Iterable[float]) -> SilenceTracker:
    """The tracker of a source with data after each of these silences."""
    silence = SilenceTracker()
    for gap_s in (1, *gaps_s):
        silence.step(gap_s, has_data=True)
    return silence


class Story:
    """A connection's seconds, one after the other."""

    def __init__(self, min_silence_s: float = MIN_S, *, snapshot: Sequence[Route] = ()) -> None:
        self._snapshot, self._snapshots_due = snapshot, 0
        self.freshness = Freshness(["BTCUSDT"], min_silence_s)
        self._counts: Counter[Route] = Counter()
        self.reconnects: list[int] = []
        self.second = 0
        self.connect()

    def connect(self) -> None:
        self.freshness.connected()
        self._snapshots_due = 2  # the venue answers the subscription in the first two seconds

    def seconds(self, count: int, *spoken: Route) -> None:
        """So many seconds, with a frame of each of these in every one."""
        for _ in range(count):
            self.second += 1
            self._counts.update(spoken)
            if self._snapshots_due:
                self._snapshots_due -= 1
                self._counts.update(self._snapshot)
            data_frames = sum(n for route, n in self._counts.items() if route.kind != OTHER)
            if self.freshness.step(1.0, self._counts, data_frames):
                self.reconnects.append(self.second)
                self.connect()

    def reconnected_after(self) -> list[int]:
        """Seconds between reconnects."""
        return [b - a for a, b in zip(self.reconnects, self.reconnects[1:], strict=False)]


# ---------------------------------------------------------------------------------------------- expected intervals


def test_busy_source_is_stale_after_the_least_silence() -> None:
    """It has data every second, so a minute without is unusual."""
    silence = silence_of([1] * 100)
    silence.step(59, has_data=False)
    assert not silence.stale(MIN_S)
    silence.step(1, has_data=False)
    assert silence.stale(MIN_S)


def test_quiet_source_is_stale_after_three_of_its_longest_silences() -> None:
    """It trades every few minutes, so it is allowed half an hour."""
    silence = silence_of([10, 600, 20] * 5)
    silence.step(FACTOR * 600 - 1, has_data=False)
    assert not silence.stale(MIN_S)
    silence.step(1, has_data=False)
    assert silence.stale(MIN_S)


def test_source_with_little_data_has_no_expected_interval() -> None:
    """A snapshot and two updates say nothing about what is due."""
    silence = silence_of([1] * (FAMILIAR - 2))
    silence.step(1e6, has_data=False)
    assert not silence.stale(MIN_S)


def test_long_silence_is_forgotten_after_two_hours() -> None:
    """What was usual last night is not this morning."""
    silence = silence_of([1] * 20 + [900])
    for _ in range(int(2 * WINDOW_S)):
        silence.step(1, has_data=True)
    assert silence.expected_s == 1


def test_silence_that_a_reconnect_ended_teaches_nothing() -> None:
    """It was a fault: the expected interval does not change."""
    silence = silence_of([1] * 20)
    silence.step(500, has_data=False)
    silence.interrupt()
    silence.step(1, has_data=True)
    assert silence.expected_s == 1


@given(st.lists(st.floats(0.1, 1000), min_size=FAMILIAR, max_size=40))
def test_source_within_its_expected_interval_is_never_stale(gaps_s: list[float]) -> None:
    """No silence up to the longest so far, and none below the least."""
    silence = silence_of(gaps_s)
    for gap_s in gaps_s:
        silence.step(min(gap_s, max(silence.expected_s, MIN_S / 2)), has_data=False)
        assert not silence.stale(MIN_S)
        silence.step(0, has_data=True)


# --------------------------------------------------------------------------------------------------------- connection


def test_channel_that_falls_silent_is_stale_while_others_speak() -> None:
    """
    trades  ||||||||||||............................|||
    quotes  |||||||||||||||||||||||||||||||||||||||||||
                                      ^ stale       ^ no longer
    """
    story = Story()
    story.seconds(100, TRADES, QUOTES)
    story.seconds(59, QUOTES)
    assert story.freshness.stale == frozenset()
    story.seconds(1, QUOTES)
    assert story.freshness.stale == {TRADES}
    assert story.freshness.describe_channels([TRADES]) == "BTCUSDT trade (silent 60 s, longest 1 s)"
    story.seconds(1, TRADES)
    assert story.freshness.stale == frozenset()
    assert story.reconnects == []


def test_heartbeats_do_not_stand_for_data() -> None:
    """The venue's own frames continue, the data has stopped: reconnect."""
    story = Story()
    story.seconds(100, TRADES, Route(b"BTCUSDT", OTHER))
    story.seconds(60, Route(b"BTCUSDT", OTHER), Route(b"okx", OTHER))
    assert story.reconnects == [160]
    assert story.freshness.data_stale
    assert story.freshness.describe() == "no data for 60 s, where 1 s was the longest silence"


def test_one_channel_that_speaks_keeps_the_connection() -> None:
    """Only when all its data stopped is the connection to blame."""
    story = Story()
    story.seconds(100, TRADES, QUOTES)
    story.seconds(10_000, QUOTES)
    assert story.reconnects == []


def test_closed_market_causes_no_storm() -> None:
    """A reconnect that brings nothing doubles the wait for the next, up to an hour; so a weekend has some fifty."""
    story = Story()
    story.seconds(100, TRADES)
    story.seconds(60 * 3600)
    waits = story.reconnected_after()
    settle = int(SETTLE_S)
    assert waits[:6] == [n + settle for n in (120, 240, 480, 960, 1920, 3600)]
    assert set(waits[6:]) == {int(MAX_WAIT_S) + settle}
    assert len(story.reconnects) < 70


def test_snapshot_after_a_reconnect_proves_nothing() -> None:
    """Venues answer a subscription with the last known state, also of a market without trades."""
    story = Story(snapshot=[TRADES, QUOTES])
    story.seconds(100, TRADES)
    story.seconds(3600)
    settle = int(SETTLE_S)
    assert story.reconnected_after() == [n + settle for n in (120, 240, 480, 960)]
    assert story.freshness.data_stale


def test_data_that_returns_starts_the_waits_over() -> None:
    """The next stall is met as quickly as the first."""
    story = Story()
    story.seconds(100, TRADES)
    story.seconds(1000)
    story.seconds(int(SETTLE_S) + 100, TRADES)
    before, began = len(story.reconnects), story.second
    assert not story.freshness.data_stale
    story.seconds(60)
    assert story.reconnects[before:] == [began + 60]


def test_connection_that_never_had_data_is_left_alone() -> None:
    """Nothing says that data is due: its subscription may have been refused, which is reported by itself."""
    story = Story()
    story.seconds(100_000, Route(b"okx", OTHER))
    assert story.reconnects == []
    assert story.freshness.stale == frozenset()


def test_watch_that_is_switched_off_finds_nothing() -> None:
    """With 0 for the least silence."""
    story = Story(min_silence_s=0)
    story.seconds(100, TRADES)
    story.seconds(100_000)
    assert (story.reconnects, story.freshness.stale, story.freshness.data_stale) == ([], frozenset(), False)
    assert story.freshness.data_limit_s is None


def test_limit_and_silence_of_each_channel_can_be_shown() -> None:
    """The limit is unknown until the connection's data has a usual interval."""
    story = Story()
    assert story.freshness.data_limit_s is None
    story.seconds(1000, TRADES)
    story.seconds(7)
    assert story.freshness.data_limit_s == MIN_S
    assert story.freshness.silences[TRADES].silent_s == 7


def test_line_names_some_channels_and_counts_the_rest() -> None:
    """A venue that stops sends a thousand channels into silence at once."""
    symbols = [f"S{n}" for n in range(9)]
    freshness = Freshness(symbols, MIN_S)
    line = freshness.describe_channels([Route(symbol.encode(), TRADE) for symbol in symbols])
    assert line == "S0 trade, S1 trade, S2 trade, S3 trade, S4 trade and 4 more"


@given(st.lists(st.integers(1, 20), min_size=20, max_size=60))
def test_quiet_market_within_its_expected_interval_never_reconnects(gaps_s: list[int]) -> None:
    """Silences below the least are no reason, in whatever order they come."""
    story = Story()
    for gap_s in gaps_s:
        story.seconds(gap_s - 1)
        story.seconds(1, TRADES)
    assert story.reconnects == []


# -------------------------------------------------------------------------------------------------------- mute symbols


def test_symbol_without_any_data_is_mute_and_logged() -> None:
    """A venue acknowledges an unknown name and is silent: without data there is no expected interval."""
    freshness, counts = Freshness(["BTCUSDT", "NOSUCHUSDT", "ETHUSDT"], MIN_S), Counter[Route]()
    freshness.connected()
    mute: list[frozenset[str]] = []
    for second in range(1, 100):
        counts[TRADES] += 1
        if second == 80:  # it was only quiet
            counts[Route(b"ETHUSDT", QUOTE)] += 1
        assert not freshness.step(1.0, counts, counts.total())
        mute.append(freshness.mute)
    assert set(mute[:59]) == {frozenset()}
    assert set(mute[59:79]) == {frozenset({"NOSUCHUSDT", "ETHUSDT"})}
    assert set(mute[79:]) == {frozenset({"NOSUCHUSDT"})}
    assert freshness.describe_mute() == ("no data for NOSUCHUSDT in 99 s: does the venue have such an instrument?")


def test_symbols_that_come_and_go_are_watched_from_then_on() -> None:
    """A new one is mute after its own time, not that of the connection; one that is gone is nothing any more."""
    story = Story()
    story.seconds(100, TRADES)
    story.freshness.change(add=["ETHUSDT"])
    story.seconds(59, TRADES)
    assert story.freshness.mute == set()
    story.seconds(1, TRADES)
    assert story.freshness.mute == {"ETHUSDT"}
    story.freshness.change(add=["LTCUSDT"], remove=["ETHUSDT", "BTCUSDT"])
    story.seconds(1)
    assert story.freshness.mute == set()
    assert {route.key for route in story.freshness.silences} == {b"LTCUSDT"}


# --------------------------------------------------------------------------------------------------- closed markets

STOCK = Route(b"AAPL", TRADE)


class Day:
    """A connection to US stocks at times of New York, ten seconds a step; some of them have a trade."""

    def __init__(self, *symbols: str) -> None:
        self.freshness = Freshness(symbols, MIN_S, lambda symbol: trading_hours("equities", symbol))
        self._counts: Counter[Route] = Counter()
        self.reconnects: list[str] = []
        self.freshness.connected()

    def passes(self, begin: str, end: str, *spoken: Route) -> None:
        at, last = (datetime.fromisoformat(text).replace(tzinfo=NEW_YORK) for text in (begin, end))
        while at.timestamp() < last.timestamp():
            self._counts.update(spoken)
            if self.freshness.step(10.0, self._counts, self._counts.total(), int(at.timestamp()) * 1_000_000_000):
                self.reconnects.append(f"{at:%d %H:%M}")
                self.freshness.connected()
            at += timedelta(seconds=10)


def test_closed_market_is_neither_stale_nor_mute_nor_reconnected() -> None:
    """
    19:00 |||||||||| 20:00   a weekend   04:00 |||||||||||       Friday to Monday, over the end of daylight saving time
    """
    day = Day("AAPL", "MSFT")
    day.passes("2026-10-30 19:00", "2026-10-30 20:00", STOCK)
    assert (day.freshness.closed, day.freshness.quiet) == (False, True)
    assert day.freshness.mute == {"MSFT"}
    day.passes("2026-10-30 20:00", "2026-11-02 04:00")
    assert (day.freshness.closed, day.freshness.quiet) == (True, True)
    assert (day.freshness.stale, day.freshness.data_stale) == (frozenset(), False)
    day.passes("2026-11-02 04:00", "2026-11-02 09:30", STOCK)
    assert (day.freshness.closed, day.freshness.quiet) == (False, True)
    day.passes("2026-11-02 09:30", "2026-11-02 09:31", STOCK)
    assert (day.freshness.closed, day.freshness.quiet) == (False, False)
    assert day.reconnects == []
    assert day.freshness.silences[STOCK].expected_s == 10


def test_feed_that_is_dead_in_the_morning_is_reconnected_after_its_usual_silence() -> None:
    """The night is forgotten, not what was learnt before it: a minute after the opening, no data is too long."""
    day = Day("AAPL")
    day.passes("2026-10-30 19:00", "2026-10-30 20:00", STOCK)
    day.passes("2026-10-30 20:00", "2026-11-02 04:00")
    day.passes("2026-11-02 04:00", "2026-11-02 04:01")
    assert day.reconnects == ["02 04:00"]
    assert day.freshness.stale == {STOCK}


def test_connection_with_a_symbol_that_never_closes_is_not_closed() -> None:
    """A future's silence counts at night, a stock's beside it does not."""
    future = Route(b"ESH26.CME", TRADE)
    day = Day("AAPL", "ESH26.CME")
    day.passes("2026-10-30 19:00", "2026-10-30 20:00", STOCK, future)
    day.passes("2026-10-30 20:00", "2026-10-30 20:02")
    assert (day.freshness.closed, day.freshness.quiet) == (False, False)
    assert day.freshness.stale == {future}
    assert day.reconnects == ["30 20:00"]


def test_nobody_is_mute_where_freshness_is_not_watched() -> None:
    """MDSTREAM_DATA_SILENCE_S=0."""
    freshness = Freshness(["BTCUSDT"], 0.0)
    for _ in range(100):
        freshness.step(1.0, {}, 0)
    assert freshness.mute == frozenset()
