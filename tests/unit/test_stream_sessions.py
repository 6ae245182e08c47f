"""Nights, weekends and bells in the stream: US stocks of two consolidated feeds, in simulated time.

            19:59      20:00                   04:00   04:17
massive     | | | | |  ├─────── closed ────────┤         |       followed
iqfeed      | | | | |  ├─────── closed ────────┤        |        stands by, and is the first to trade
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator
from datetime import date, datetime, timedelta
from heapq import merge
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from stream_histories import Raw
from stream_outputs import events, joined

from mdstream.records import WS, RawEncoder
from mdstream.stream.canonical import Canonical
from mdstream.stream.output import Output
from mdstream.stream.rules import Policy, Rules
from mdstream.trading_hours import US_STOCKS, is_trading_day
from mdstream.venues.providers import PROVIDERS
from mdstream.venues.times import new_york_day

MS, S = 1_000_000, 1_000_000_000
NEW_YORK = ZoneInfo("America/New_York")
VENUES = [each() for each in PROVIDERS.values()]
FIRST, SECOND = "massive", "iqfeed"
DELAY_MS = {FIRST: 400, SECOND: 20, "alpaca": 20}
"""From a trade to its frame: the standby is ahead by more than the time between two evaluations."""
BEAT_NS = 2 * S

Item = tuple[int, str, bytes, bytes]
"""Receive time, provider, kind, frame."""


def ns(text: str) -> int:
    """2026-11-27 13:00 in New York."""
    return int(datetime.fromisoformat(text).replace(tzinfo=NEW_YORK).timestamp()) * S


def frame(venue: str, number: int, ts_ns: int) -> bytes:
    """A trade with the id `number` of its day, as the venue sends it."""
    moment = datetime.fromtimestamp(ts_ns / 1e9, NEW_YORK)
    match venue:
        case "massive":
            text = (
                f'{{"ev":"T","sym":"AAPL","x":4,"i":"{number}","z":3,"p":246.5,"s":100,"t":{ts_ns // MS},"q":{number}}}'
            )
            return f"[{text}]".encode()
        case "alpaca":
            utc = f"{datetime.fromtimestamp(ts_ns // S, ZoneInfo('UTC')):%Y-%m-%dT%H:%M:%S}.{ts_ns % S:09}Z"
            text = f'{{"T":"t","i":{number},"S":"AAPL","x":"V","p":246.5,"s":100,"t":"{utc}","c":["@"],"z":"C"}}'
            return f"[{text}]".encode()
    day, clock = f"{moment:%m/%d/%Y}", f"{moment:%H:%M:%S.%f}"
    return f"Q,AAPL,Cv,246.5,100,{day},{clock},{number},1,246.4,200,246.6,400,01,5,{clock},{clock},100,".encode()


def trades(venue: str, begin: str, end: str, every_s: float) -> Iterator[Item]:
    """One each `every_s` from `begin` on, before `end`; the ids are tenths of a second, and begin anew each day."""
    for ts_ns in range(ns(begin), ns(end), int(every_s * S)):
        number = ts_ns // (S // 10) % 864_000
        yield ts_ns + DELAY_MS[venue] * MS, venue, b"trade", frame(venue, number, ts_ns)


def beats(venue: str, begin: str, end: str) -> Iterator[Item]:
    """What an ingestor writes, whether the market is open or not."""
    yield from ((at_ns, venue, b"heartbeat", b"{}") for at_ns in range(ns(begin), ns(end), BEAT_NS))


class Partition:
    """A raw partition of a market, and the worker that owns it."""

    def __init__(self, *sources: str, market: str = "equities") -> None:
        self.stream = Canonical(
            f"md.raw.{market}", 0, VENUES, rules=Rules(Policy(sources, named=True)), announces=lambda _: True
        )
        self._offset = 0

    def reads(self, *items: Iterable[Item]) -> Output:
        """Everything that is received, in order."""
        records = []
        for at_ns, venue, kind, value in merge(*items):
            key, _, _, headers = RawEncoder(venue, WS).encode(b"AAPL", value, kind, at_ns)
            records.append(Raw(value, self._offset, at_ns // MS, key, headers))
            self._offset += 1
        return self.stream.step(records)

    def lives(self, begin: str, end: str, *items: Iterable[Item]) -> Output:
        """The same, with the heartbeats of both ingestors."""
        return self.reads(beats(FIRST, begin, end), beats(SECOND, begin, end), *items)


def switches(*outputs: Output) -> list[tuple[str, str]]:
    """When and to what."""
    return [
        (f"{datetime.fromtimestamp(event['ts_recv'] // S, NEW_YORK):%d %H:%M:%S}", event["provider"])
        for event in events(joined(outputs)["status"])
        if event.get("state") == "switched"
    ]


EVENING = ("2026-11-30 19:58", "2026-11-30 20:00")
NIGHT = ("2026-11-30 20:00", "2026-12-01 04:00")


def evening(market: str = "equities") -> tuple[Partition, Output]:
    """Both trade up to the end of the extended hours, then the night passes: what was published in it."""
    partition = Partition(FIRST, SECOND, market=market)
    partition.lives(*EVENING, trades(FIRST, *EVENING, 0.5), trades(SECOND, *EVENING, 0.5))
    assert partition.stream.instruments["AAPL"].active == FIRST
    return partition, partition.lives(*NIGHT)


# ------------------------------------------------------------------------------------------------- who is followed


@pytest.mark.parametrize("first", ["04:00:00", "04:17:00"])
def test_first_trade_of_the_day_at_the_standby_causes_no_switch(first: str) -> None:
    """The followed source has the same trade, a moment later: it was never silent, the market was closed."""
    partition, night = evening()
    morning = (f"2026-12-01 {first}", "2026-12-01 04:30")
    quiet = partition.lives("2026-12-01 04:00", f"2026-12-01 {first}")
    out = partition.lives(*morning, trades(FIRST, *morning, 60), trades(SECOND, *morning, 60))
    assert switches(night, quiet, out) == []
    assert {event["provider"] for event in events(out.trades)} == {FIRST}


def test_thin_trading_after_the_bell_causes_no_switch() -> None:
    """
    15:58 ||||||||||||||||||| 16:00  |        |        |        |    five times a second, then every two minutes
    The interval of the regular session is none of the extended one, and who trades first is not the better source.
    """
    partition, busy, thin = Partition(FIRST, SECOND), ("2026-11-30 15:58", "2026-11-30 16:00"), 120
    partition.lives(*busy, trades(FIRST, *busy, 0.2), trades(SECOND, *busy, 0.2))
    after = ("2026-11-30 16:00", "2026-11-30 17:00")
    shifted = ("2026-11-30 16:01", after[1])
    out = partition.lives(*after, trades(FIRST, *shifted, thin), trades(SECOND, *shifted, thin))
    assert switches(out) == []
    assert len(out.trades) == 30


def test_source_that_is_dead_in_the_morning_is_left() -> None:
    """Half a minute after the first trade that it lacks: its interval in this session is not known yet."""
    partition, _ = evening()
    morning = ("2026-12-01 04:00", "2026-12-01 04:01")
    out = partition.lives(*morning, trades(SECOND, *morning, 0.5))
    ((at, to),) = switches(out)
    assert to == SECOND
    assert "01 04:00:30" <= at <= "01 04:00:32"
    assert len(out.trades) == 120  # the standby's buffer reaches back to the first trade of the day


def test_source_that_stalls_during_a_session_is_left_as_ever() -> None:
    """Three seconds after the last data, once its interval is known."""
    partition = Partition(FIRST, SECOND)
    both, one = ("2026-12-01 09:30", "2026-12-01 09:31"), ("2026-12-01 09:31", "2026-12-01 09:32")
    partition.lives(*both, trades(FIRST, *both, 0.2), trades(SECOND, *both, 0.2))
    ((at, to),) = switches(partition.lives(*one, trades(SECOND, *one, 0.2)))
    assert (to, at) in {(SECOND, f"01 09:31:0{second}") for second in (3, 4)}


def test_source_that_failed_is_not_trusted_again_for_a_quiet_night() -> None:
    """
    19:58 fails │ closed │ 04:00 no data of it ... 04:10 data      followed again once it was good for half a minute
    """
    partition = Partition(FIRST, SECOND)
    both, one = ("2026-11-30 19:56", "2026-11-30 19:58"), ("2026-11-30 19:58", "2026-11-30 20:00")
    partition.lives(*both, trades(FIRST, *both, 0.5), trades(SECOND, *both, 0.5))
    failed = partition.lives(*one, trades(SECOND, *one, 0.5))
    night = partition.lives(*NIGHT)
    dead, back = ("2026-12-01 04:00", "2026-12-01 04:10"), ("2026-12-01 04:10", "2026-12-01 04:12")
    still = partition.lives(*dead, trades(SECOND, *dead, 0.5))
    assert [to for _, to in switches(failed)] == [SECOND]
    assert switches(night, still) == []
    again = partition.lives(*back, trades(FIRST, *back, 0.5), trades(SECOND, *back, 0.5))
    ((at, to),) = switches(again)
    assert (to, at[:8]) == (FIRST, "01 04:10")
    assert at >= "01 04:10:30"


def test_source_that_is_lost_at_night_is_left_when_the_market_opens() -> None:
    """Nobody misses it before, and nothing is published of a switch at midnight."""
    partition, _ = evening()
    lost = [(ns("2026-12-01 04:00") - 60 * S, FIRST, b"status", b'{"provider":"massive","state":"disconnected"}')]
    night = partition.reads(lost, beats(SECOND, "2026-12-01 03:59", "2026-12-01 04:00"))
    morning = ("2026-12-01 04:00", "2026-12-01 04:01")
    out = partition.lives(*morning, trades(SECOND, *morning, 0.5))
    assert switches(night) == []
    assert switches(out) == [("01 04:00:00", SECOND)]


# ----------------------------------------------------------------------------------------------------- what is told


@pytest.mark.parametrize(
    ("closes", "opens"),
    [
        ("2026-11-27 17:00", "2026-11-30 04:00"),  # half a day, a weekend
        ("2026-03-06 20:00", "2026-03-09 04:00"),  # the clock is put forward
        ("2026-10-30 20:00", "2026-11-02 04:00"),  # and back
        ("2026-11-25 20:00", "2026-11-27 04:00"),  # Thanksgiving
    ],
)
def test_heartbeats_say_closed_from_the_end_of_a_day_to_the_beginning_of_the_next(closes: str, opens: str) -> None:
    """A consumer that alerts on silence sees that none is due, and when it is again."""
    partition, hour = Partition(FIRST), timedelta(hours=1)
    begins, ends = (str(datetime.fromisoformat(at) + by) for at, by in ((closes, -hour), (opens, hour)))
    minute = (begins, str(datetime.fromisoformat(begins) + timedelta(minutes=1)))
    out = partition.reads(trades(FIRST, *minute, 1), beats(FIRST, begins, ends))
    told = {
        event["ts_recv"]: event.get("state") for event in events(out.status) if event["symbol"] == "AAPL"
    }  # by time
    assert set(told.values()) == {"closed", None}
    assert {at_ns: state == "closed" for at_ns, state in told.items()} == {
        at_ns: ns(closes) <= at_ns < ns(opens) for at_ns in told
    }
    assert max(b - a for a, b in zip(told, list(told)[1:], strict=False)) <= 12 * S


def test_instrument_without_known_hours_is_never_closed() -> None:
    """The same name in a market that does not close: silence at night is silence."""
    partition, _ = evening(market="crypto")
    out = partition.lives("2026-12-01 04:00", "2026-12-01 04:01")
    assert {event.get("state") for event in events(out.status) if event["symbol"] == "AAPL"} == {None}


# --------------------------------------------------------------------------------------------------------------- halts


def status(code: str, at: str, *, venue_at: str = "") -> Iterator[Item]:
    """Alpaca says that the stock is halted (H) or traded again (T)."""
    utc = datetime.fromtimestamp(ns(venue_at or at) // S, ZoneInfo("UTC"))
    text = f'[{{"T":"s","S":"AAPL","sc":"{code}","rm":"News pending","t":"{utc:%Y-%m-%dT%H:%M:%SZ}","z":"C"}}]'
    yield ns(at) + 1, "alpaca", b"other", text.encode()


def halts(*outputs: Output) -> list[tuple[str, str, str]]:
    """When, what, and by whom."""
    return [
        (f"{datetime.fromtimestamp(event['ts_recv'] // S, NEW_YORK):%H:%M:%S}", event["state"], event["provider"])
        for event in events(joined(outputs)["status"])
        if event.get("state") in ("halted", "resumed") and event["type"] == "status"
    ]


def test_halt_of_a_stock_is_no_fault_of_its_sources() -> None:
    """The followed source is silent, the standby has a late report: without the halt it would be left."""
    partition = Partition("alpaca", SECOND)
    before, after = ("2026-11-30 11:00", "2026-11-30 11:02"), ("2026-11-30 11:30", "2026-11-30 11:31")
    partition.lives(*before, trades("alpaca", *before, 0.5), trades(SECOND, *before, 0.5))
    halted = partition.lives(
        before[1], after[0],
        status("H", before[1]), status("H", "2026-11-30 11:03", venue_at=before[1]),
        trades(SECOND, "2026-11-30 11:02:01", "2026-11-30 11:02:05", 0.5),
    )  # fmt: skip
    again = partition.lives(
        *after,
        status("T", after[0]),
        trades("alpaca", "2026-11-30 11:30:05", after[1], 0.5),
        trades(SECOND, *after, 0.5),
    )
    assert switches(halted, again) == []
    assert halts(halted, again) == [("11:02:00", "halted", "alpaca"), ("11:30:00", "resumed", "alpaca")]
    told = [event for event in events(halted.status) if event["symbol"] == "AAPL" and event["type"] == "heartbeat"]
    assert {event["state"] for event in told} == {"halted"}


def test_resumption_that_nobody_reported_follows_from_trades() -> None:
    """The connection was lost when it came. A late report of a trade before the halt is no sign of it."""
    partition = Partition("alpaca")
    day = ("2026-11-30 11:00", "2026-11-30 11:40")
    out = partition.reads(
        beats("alpaca", *day), trades("alpaca", "2026-11-30 11:00", "2026-11-30 11:10", 1),
        status("H", "2026-11-30 11:10"), trades("alpaca", "2026-11-30 11:10:01", "2026-11-30 11:10:09", 1),
        trades("alpaca", "2026-11-30 11:30", "2026-11-30 11:40", 1),
    )  # fmt: skip
    assert halts(out) == [("11:10:00", "halted", "alpaca"), ("11:30:01", "resumed", "alpaca")]


def test_halted_stock_is_closed_at_night() -> None:
    """A halt may last for days; the market's hours go on meanwhile."""
    partition = Partition("alpaca")
    out = partition.reads(
        trades("alpaca", EVENING[0], "2026-11-30 19:59", 1),
        status("H", "2026-11-30 19:59"),
        beats("alpaca", "2026-11-30 19:59", "2026-12-01 04:10"),
    )
    told = {event["ts_recv"]: event.get("state") for event in events(out.status) if event["symbol"] == "AAPL"}
    assert {state for at_ns, state in told.items() if ns(NIGHT[0]) <= at_ns < ns(NIGHT[1])} == {"closed"}
    assert {state for at_ns, state in told.items() if at_ns > ns(NIGHT[1])} == {"halted"}


def test_halt_by_a_venue_that_is_no_source_of_the_stock_is_not_told() -> None:
    partition = Partition(SECOND)
    out = partition.reads(trades(SECOND, *EVENING, 1), status("H", "2026-11-30 19:59"))
    assert halts(out) == []


def test_status_with_an_impossible_time_is_refused() -> None:
    partition = Partition("alpaca")
    out = partition.reads(status("H", "2026-11-30 19:59", venue_at="2300-01-01 00:00"))
    assert (halts(out), len(out.dead)) == ([], 1)


# ------------------------------------------------------------------------------------------- ids that begin anew


@pytest.mark.parametrize("venue", ["alpaca", "massive", "iqfeed"])
@given(counts=st.lists(st.integers(1, 12), min_size=2, max_size=4), data=st.data())
@settings(deadline=None, max_examples=40)
def test_ids_of_a_new_day_are_a_new_series(venue: str, counts: list[int], data: st.DataObject) -> None:
    """
    day 1   1 2 3 4 5     day 2   1 2 4 3 ...     over nights, a weekend and a change of the clock
    Each trade is published once, also if it is repeated the next day; nothing is missed, reset or repaired.
    """
    days = [day for day in (date(2026, 10, 28) + timedelta(n) for n in range(9)) if is_trading_day(day)]
    made = [
        (ns(f"{day} 19:59") + number * S, number)
        for day, count in zip(days, counts, strict=False)
        for number in range(1, count + 1)
    ]
    received: list[Item] = []
    for index, (ts_ns, number) in enumerate(made):
        received.append((ts_ns + 20 * MS, venue, b"trade", frame(venue, number, ts_ns)))
        for again in data.draw(st.lists(st.integers(0, index), max_size=3)):
            old_ns, old = made[again]
            received.append((ts_ns + 30 * MS, venue, b"trade", frame(venue, old, old_ns)))
    out = Partition(venue).reads(received)
    published = Counter(event["ts_exchange"] for event in events(out.trades))
    assert published == Counter(ts_ns for ts_ns, _ in made)
    assert (out.gaps, [event for event in events(out.status) if event["type"] != "heartbeat"]) == ([], [])


@given(st.dates(date(2015, 1, 2), date(2030, 12, 31)).filter(is_trading_day))
def test_a_day_of_ids_is_a_trading_day(day: date) -> None:
    """From the first trade of the extended hours to the last, on either side of a change of the clock."""
    begins_ns = US_STOCKS.at(ns(f"{day} 04:00")).from_ns
    ends_ns = US_STOCKS.at(ns(f"{day} 16:59")).to_ns
    assert new_york_day(begins_ns) == new_york_day(ends_ns - 1) == f"{day:%Y%m%d}"
