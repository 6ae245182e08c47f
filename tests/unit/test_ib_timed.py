"""Interactive Brokers' past bars and trades: what is asked for, and what the gateway's errors mean."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mdstream.bars.rules import interval
from mdstream.repairs import rest_frame
from mdstream.venues.ib.feed import MOST_TICKS
from mdstream.venues.ib.pacing import SAME_S
from mdstream.venues.ib.timed import BAR_SIZES, PACING_WAIT_S, IbTimed, Query, refused, says_no_data
from mdstream.venues.past import Page
from mdstream.venues.rest import Answer, PermanentError, RetryableError
from mdstream.venues.timed import TRADES

NS = 1_000_000_000
HISTORY = "Historical Market Data Service error message:"


@given(st.sampled_from(sorted(BAR_SIZES)), st.integers(0, 10**6), st.integers(1, 720))
def test_a_window_is_covered_by_what_is_asked_for(name: str, number: int, count: int) -> None:
    """In seconds up to a day, which may lead back further, as only trading time counts; else in days, of which the last
    may have just begun."""
    each = interval(name).ns
    begin_ns, end_ns = number * each, (number + count) * each
    page = IbTimed().ask("AAPL", name, begin_ns, end_ns)
    assert isinstance(page, Page)
    query = Query.of(page.target)
    assert query == ("AAPL", name, begin_ns // NS, end_ns // NS)
    end = datetime.strptime(query.end.replace("UTC", "+0000"), "%Y%m%d %H:%M:%S %z")
    amount, unit = query.duration.split()
    if unit == "S":
        assert (end - timedelta(seconds=int(amount))).timestamp() <= query.begin_s
        assert 60 <= int(amount) <= 86_400
    else:
        last_day = (end - timedelta(seconds=1)).replace(hour=0, minute=0, second=0)
        assert (last_day - timedelta(days=int(amount) - 1)).timestamp() <= query.begin_s
        assert int(amount) <= 365
    assert end == datetime.fromtimestamp(query.end_s, UTC)


def test_windows_that_are_asked_for_in_the_same_words_are_the_same_to_the_venue() -> None:
    """Its rule against repeats is about the words: a window of less than a minute is asked for as a whole one."""
    queries = [Query("AAPL", "1s", begin_s, 1_767_625_200) for begin_s in (1_767_625_140, 1_767_625_198)]
    assert {query.what for query in queries} == {"AAPL 1 secs 60 S 20260105 15:00:00 UTC"}
    assert Query("AAPL", "5s", *queries[0][2:]).what == "AAPL 5 secs 60 S 20260105 15:00:00 UTC"


def test_small_bars_are_those_of_the_venue_s_rule() -> None:
    """Up to 30 s. All begin at a multiple of themselves by any clock of full hours."""
    small = {name for name in BAR_SIZES if Query("AAPL", name, 0, 0).small}
    assert {name for name in BAR_SIZES if interval(name).ns <= 30 * NS} == small
    assert all(3_600 * NS % interval(name).ns == 0 for name in BAR_SIZES)


@pytest.mark.parametrize(
    ("symbol", "name", "reason"),
    [
        ("AAPL", "1d", "ib has no past bars of 1d"),
        ("BTC-USD", "1m", "ib has no symbol of the form 'BTC-USD': expected a ticker like AAPL"),
    ],
)
def test_what_the_venue_does_not_have_is_not_asked_for(symbol: str, name: str, reason: str) -> None:
    """With the reason."""
    page = IbTimed().ask(symbol, name, 0, 86_400 * NS)
    assert isinstance(page, PermanentError)
    assert page.reason.startswith(reason)


def test_a_target_of_something_else_is_an_error_of_ours() -> None:
    """Nobody else makes targets."""
    with pytest.raises(ValueError, match="not a request of history: '/trades"):
        Query.of("/trades?symbol=AAPL")


@pytest.mark.parametrize(
    ("code", "text", "wait_s"),
    [
        (162, f"{HISTORY}Historical data request pacing violation", PACING_WAIT_S),
        (10197, "No market data during competing live session", 60.0),
        (162, f"{HISTORY}API historical data query cancelled: 3", None),
        (162, f"{HISTORY}Trading TWS session is connected from a different IP address", None),
        (1101, "Connectivity between IBKR and TWS has been restored- data lost.", None),
        (366, "No historical data query found for ticker id", None),
    ],
)
def test_what_may_pass_is_asked_for_again(code: int, text: str, wait_s: float | None) -> None:
    """After as long as the venue's rule takes, if it has one: a repeat has to be allowed then."""
    found = refused(code, text)
    assert isinstance(found, RetryableError)
    assert found.wait_s == wait_s
    assert found.reason.startswith(f"{code} {text.rstrip('.')}")
    assert PACING_WAIT_S > SAME_S


@pytest.mark.parametrize(
    ("code", "text", "advice"),
    [
        (200, "No security definition has been found for the request", "name an instrument that the venue has"),
        (162, f"{HISTORY}No market data permissions for ISLAND STK", "subscribe to these data in the venue's"),
        (162, f"{HISTORY}No historical market data for EUR/CASH@IDEALPRO Last 60", ""),
        (321, "Error validating request", ""),
        (354, "Requested market data is not subscribed.", "subscribe to these data in the venue's client portal"),
    ],
)
def test_what_will_not_pass_is_told_with_what_to_do(code: int, text: str, advice: str) -> None:
    """As the answer of an HTTP server would be, so that it is judged as one."""
    answer = refused(code, text)
    assert isinstance(answer, Answer)
    verdict = IbTimed().judge(answer, now_s=0.0)
    assert isinstance(verdict, PermanentError)
    assert verdict.reason.startswith(f"{code} {text.rstrip('.')}" + (f": {advice}" if advice else ""))


def test_no_data_of_a_time_is_an_answer() -> None:
    """Nothing was traded then."""
    assert says_no_data(f"{HISTORY}HMDS query returned no data: AAPL@SMART Trades")
    assert not says_no_data(f"{HISTORY}Historical data request pacing violation")


def test_history_is_asked_for_where_the_live_feed_is() -> None:
    """One setting for both, whichever is used."""
    timed = IbTimed()
    assert timed.base_url({"IB_WS_URL": "ib://gateway:4001?clientId=3"}) == "ib://gateway:4001?clientId=3"
    assert timed.base_url({"IBKR_PORT": "7497", "IBKR_CLIENT_ID": "4"}) == "ib://127.0.0.1:7497?clientId=4"
    assert timed.base_url({}) == timed.default_url
    assert timed.check_addresses({"IBKR_HOST": "gateway"}) is None


def test_trades_are_asked_for_from_a_second_on() -> None:
    """Those of the second in which the time ends are in it, as their times are that second's beginning. They count as
    the shortest bars do, and are told apart by where they begin."""
    page = IbTimed().ask("AAPL", TRADES, 1_767_625_200 * NS + 1, 1_767_625_260 * NS + 1)
    assert isinstance(page, Page)
    query = Query.of(page.target)
    assert query == ("AAPL", TRADES, 1_767_625_200, 1_767_625_261)
    assert query.begin == "20260105 15:00:00 UTC"
    assert query.what == "AAPL ticks 20260105 15:00:00 UTC"
    assert query.small


SESSION_S = 10


def venue(counts: dict[int, int], query: Query, *, completes: bool) -> bytes:
    """The answer of a venue with so many equal ticks in each second: of the session that the query begins in."""
    session = query.begin_s // SESSION_S
    seconds = [s for s in sorted(counts) if s >= query.begin_s]
    there = [s for s in seconds if s // SESSION_S == session for _ in range(counts[s])]
    last = there[min(MOST_TICKS, len(there)) - 1] if there else 0
    found = [s for s in there if s <= last] if completes else there[:MOST_TICKS]
    about = {"begin": query.begin_s, "end": query.end_s}
    if not found:
        about["next"] = min((s for s in seconds if s // SESSION_S > session), default=query.end_s)
    return msgspec.json.encode({**about, "ticks": [(s, 0, 1.5, 1.0, "X", "") for s in found]})


def pages(counts: dict[int, int], begin_s: int, end_s: int, *, completes: bool) -> list[list[str]]:
    """The ids on each page."""
    timed, found = IbTimed(), []
    page: Page | PermanentError | None = timed.ask("AAPL", TRADES, begin_s * NS, end_s * NS)
    while page is not None:
        assert isinstance(page, Page)
        body = venue(counts, Query.of(page.target), completes=completes)
        ticks = timed.read("AAPL", rest_frame(page.target, TRADES, body))
        found.append([str(getattr(tick, "trade_id", None)) for tick in ticks])
        page = timed.more(page, body)
    return found


def ids(counts: dict[int, int], begin_s: int, end_s: int) -> list[str]:
    return [f"{s}-1.5-1.0-X--{n}" for s in sorted(counts) if begin_s <= s < end_s for n in range(1, counts[s] + 1)]


COUNTS = st.sampled_from([1, 2, 400, 999, 1_000])


@settings(max_examples=50, deadline=None)
@given(
    st.dictionaries(st.integers(0, 60), st.one_of(COUNTS, st.sampled_from([1_001, 2_100])), max_size=12),
    st.integers(0, 60),
    st.integers(1, 60),
)
def test_pages_have_each_trade_of_a_time_once(counts: dict[int, int], begin_s: int, length_s: int) -> None:
    """Over seconds with more trades than a page, and from one trading session to the next."""
    end_s = begin_s + length_s
    found = pages(counts, begin_s, end_s, completes=True)
    assert [each for page in found for each in page] == ids(counts, begin_s, end_s)


@settings(max_examples=50, deadline=None)
@given(st.dictionaries(st.integers(0, 60), COUNTS, max_size=12), st.integers(0, 60))
def test_a_second_that_a_page_ends_in_comes_whole_with_the_next(counts: dict[int, int], begin_s: int) -> None:
    """The venue says that it completes the last second. If it does not, nothing is lost; and wherever the pages begin,
    as after a kill, a trade has the same id."""
    found = pages(counts, begin_s, 61, completes=False)
    assert [each for page in found for each in page] == ids(counts, begin_s, 61)
    at_s = {int(page[0].split("-")[0]) for page in found if page}
    assert len(at_s) == sum(map(bool, found))
