"""Our bars in the protocol of TradingView's charting library."""

from __future__ import annotations

from contextlib import suppress
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mdstream.api.history import MAX_ROWS, QueryError, moment
from mdstream.api.udf import Resolutions, answer_of, bars_of, resolution_of, search_of, symbol_of

OURS = Resolutions(("1h", "1s", "5m", "1m", "1d"))
NOON_S = 1_767_625_200
US = 1_000_000


def bar(seconds: int, close: float = 1.5) -> dict[str, Any]:
    prices = {"open": 1.0, "high": 2.0, "low": 0.5, "close": close, "volume": 10.0}
    return {"timestamp": moment(seconds * US), **prices}


def asked(**given: str) -> dict[str, Any]:
    request = {"symbol": "btcusdt", "resolution": "1", "to": str(NOON_S), **given}
    return bars_of({name.rstrip("_"): value for name, value in request.items()}, OURS).values


def test_the_resolutions_are_the_lengths_of_our_bars_shortest_first() -> None:
    config = OURS.config()
    assert config["supported_resolutions"] == ["1S", "1", "5", "60", "1D"]
    assert (config["supports_search"], config["supports_group_request"], config["supports_time"]) == (True, False, True)
    assert [OURS.interval(name) for name in ("1S", "S", "1", "60", "D", "1D")] == ["1s", "1s", "1m", "1h", "1d", "1d"]
    assert resolution_of("4h") == "240"
    with pytest.raises(QueryError, match="no resolution '7': there are 1S, 1, 5, 60, 1D"):
        OURS.interval("7")


def test_history_has_the_bars_from_and_before_two_times() -> None:
    values = asked(from_=str(NOON_S - 3600))
    assert (values["symbol"], values["interval"], values["rows"]) == ("BTCUSDT", "1m", MAX_ROWS)
    assert (values["from"], values["to"]) == (moment((NOON_S - 3600) * US), moment(NOON_S * US))


def test_a_symbol_may_have_our_exchange_before_it() -> None:
    """As clients name it that know several exchanges."""
    assert asked(from_="0", to="60", symbol="mdstream:btcusdt")["symbol"] == "BTCUSDT"


def test_countback_goes_before_from() -> None:
    """A chart asks for so many bars; a night or a weekend without any may be in between."""
    values = asked(from_=str(NOON_S - 60), countback="300")
    assert (values["rows"], values["from"]) == (300, moment((NOON_S - 6_000_000) * US))
    assert asked(countback="0")["rows"] == 1
    assert asked(countback="999999999")["rows"] == MAX_ROWS
    assert asked(countback="1", to="5", resolution="1D")["from"] == moment(0)


@pytest.mark.parametrize(
    ("given", "why"),
    [
        ({}, "from=''"),
        ({"from_": "x"}, "from='x': expected a whole number"),
        ({"from_": "1.5"}, "from='1.5'"),
        ({"from_": "0", "to": "99999999999"}, "to='99999999999'"),
        ({"from_": "0"}, "more than 100000 bars apart: narrow them"),
        ({"countback": "-1"}, "countback='-1'"),
        ({"symbol": "A\0B", "from_": "0"}, "expected one like BTCUSDT"),
        ({"symbol": "", "from_": "0"}, "ask for one, like symbol=BTCUSDT"),
        ({"resolution": "W", "from_": "0"}, "no resolution 'W'"),
    ],
)
def test_what_cannot_be_asked_is_said(given: dict[str, str], why: str) -> None:
    with pytest.raises(QueryError) as refused:
        asked(**given)
    assert why in str(refused.value)


def test_bars_are_answered_oldest_first_by_column() -> None:
    assert answer_of([bar(120, 1.75), bar(60)], ()) == {
        "s": "ok",
        "t": [60, 120],
        "o": [1.0, 1.0],
        "h": [2.0, 2.0],
        "l": [0.5, 0.5],
        "c": [1.5, 1.75],
        "v": [10.0, 10.0],
    }


def test_no_bars_name_the_one_before_them() -> None:
    """The chart goes on there; without one it stops asking."""
    assert answer_of((), [bar(60)]) == {"s": "no_data", "nextTime": 60}
    assert answer_of((), ()) == {"s": "no_data"}


@pytest.mark.parametrize(
    ("closes", "scale"),
    [([], 100), ([1.5], 10), ([93741.25, 3.0], 100), ([1e-8], 10**8), ([5.0], 1), ([0.1 + 0.2], 10)],
)
def test_prices_are_shown_with_as_many_decimals_as_they_have(closes: list[float], scale: int) -> None:
    found = symbol_of("BTCUSDT", [bar(60, close) for close in closes], OURS)
    assert (found["pricescale"], found["minmov"], found["session"], found["timezone"]) == (scale, 1, "24x7", "Etc/UTC")
    assert (found["has_intraday"], found["has_seconds"], found["has_daily"]) == (True, True, True)
    assert (found["intraday_multipliers"], found["seconds_multipliers"]) == (["1", "5", "60"], ["1"])


def test_search_finds_what_begins_with_the_text_first() -> None:
    symbols = ["AAPL", "BTCUSDT", "ETHBTC", "WBTCUSDT"]
    assert [each["symbol"] for each in search_of(symbols, "btc", 30)] == ["BTCUSDT", "ETHBTC", "WBTCUSDT"]
    assert [(each["symbol"], each["type"]) for each in search_of(symbols, "", 1)] == [("AAPL", "stock")]


@given(st.dictionaries(st.sampled_from(["symbol", "resolution", "from", "to", "countback"]), st.text(max_size=12)))
def test_any_request_is_asked_or_refused(given: dict[str, str]) -> None:
    with suppress(QueryError):
        assert bars_of(given, OURS).values["rows"] <= MAX_ROWS
