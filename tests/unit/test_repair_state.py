"""mdstream/repair/repair.py: one request from its first page to its end, against a venue that is a function.

Coinbase: newest first, a thousand trades a page at most; here with pages of any length down to the first trade
"""

from __future__ import annotations

import json
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mdstream.repair.repair import NOT_THERE, Repair
from mdstream.repair.search import ROUNDS
from mdstream.repair.venues import HISTORIES
from mdstream.repairs import REST_MARK, RepairRequest, Unrecoverable, decode_request, encode
from mdstream.ticks import TradeTick
from mdstream.venues.past import Page
from mdstream.venues.providers import provider
from mdstream.venues.rest import Answer, PermanentError, RetryableError

NOW_S = 1_767_625_200.0
PATIENCE_S = 7.0


def repair(first: int, last: int, *, name: str = "coinbase", id_space: str = "", symbol: str = "BTCUSD") -> Repair:
    request = RepairRequest(symbol, name, id_space, first, last, 5)
    return Repair(request, HISTORIES[name](), patience_s=PATIENCE_S)


def coinbase(existing: set[int], page: Page) -> Answer:
    """What Coinbase answers to a page when it has these trades."""
    match = re.fullmatch(r"/products/BTC-USD/trades\?after=(\d+)&limit=(\d+)", page.target)
    assert match
    after, limit = int(match[1]), int(match[2])
    chosen = sorted((number for number in existing if number < after), reverse=True)[:limit]
    row = {"side": "buy", "size": "1", "price": "2", "time": "2026-01-05T15:00:00Z"}
    return Answer(200, {}, json.dumps([{"trade_id": number, **row} for number in chosen]).encode())


def run(under_way: Repair, existing: set[int]) -> tuple[list[bytes], list[float]]:
    """Its frames and its pauses, to the end."""
    frames: list[bytes] = []
    pauses: list[float] = []
    while True:
        page = under_way.page()
        assert isinstance(page, Page)
        taken = under_way.take(page, coinbase(existing, page), now_s=NOW_S)
        assert taken is None or isinstance(taken, bytes)
        frames += [taken] if taken else []
        pause_s = under_way.next_page_in_s()
        if pause_s is None:
            return frames, [pause for pause in pauses if pause]
        pauses.append(pause_s)


def ids_in(frames: list[bytes]) -> set[int]:
    ticks = [tick for frame in frames for tick in provider("coinbase").decode(frame)]
    assert all(isinstance(tick, TradeTick) and tick.recovered for tick in ticks)
    return {tick.first_id for tick in ticks if isinstance(tick, TradeTick)}


@given(st.integers(0, 3000), st.integers(0, 2500), st.sets(st.integers(0, 40), max_size=20))
def test_repair_publishes_every_wanted_trade_and_declares_the_rest_lost(
    first: int, more: int, missing: set[int]
) -> None:
    """Nothing falls between the two, however many pages it takes."""
    last = first + more
    existing = set(range(max(0, first - 50), last + 50)) - {first + number for number in missing}
    under_way = repair(first, last)
    frames, _ = run(under_way, existing)
    wanted = set(range(first, last + 1))
    lost = {number for loss in under_way.lost() for number in range(loss.first_id, loss.last_id + 1)}
    assert wanted <= ids_in(frames) | lost
    assert lost == wanted - existing
    assert (under_way.found, under_way.missing) == (len(wanted & existing), len(lost))


def test_repair_asks_for_no_more_than_is_missing() -> None:
    """2,500 trades are three pages, the last of them of 500; no trade outside is fetched."""
    under_way = repair(1001, 3500)
    frames, pauses = run(under_way, set(range(10_000)))
    assert [len(provider("coinbase").decode(frame)) for frame in frames] == [1000, 1000, 500]
    assert ids_in(frames) == set(range(1001, 3501))
    assert pauses == []
    assert under_way.lost() == []


def test_repair_waits_longer_and_longer_before_it_gives_up() -> None:
    """The whole patience lies between the first look and the last, doubling."""
    under_way = repair(10, 12)
    frames, pauses = run(under_way, {9, 13})
    assert frames == []
    assert pauses == [1.0, 2.0, 4.0]
    assert sum(pauses) == PATIENCE_S
    assert len(pauses) == ROUNDS - 1
    assert under_way.lost() == [Unrecoverable("BTCUSD", "coinbase", "", 10, 12, NOT_THERE)]


def test_repair_names_each_lost_range() -> None:
    """Exactly the ids that did not come."""
    under_way = repair(10, 20)
    run(under_way, set(range(30)) - {10, 14, 15, 20})
    assert [(loss.first_id, loss.last_id) for loss in under_way.lost()] == [(10, 10), (14, 15), (20, 20)]


def test_repair_publishes_no_answer_without_a_missing_trade() -> None:
    """An answer without any missing trade is not published."""
    under_way = repair(10, 12)
    page = under_way.page()
    assert isinstance(page, Page)
    assert under_way.take(page, coinbase({7, 8, 9}, page), now_s=NOW_S) is None


def test_repair_asks_for_the_same_page_again_after_trouble() -> None:
    """A venue that cannot answer now has said nothing about any trade."""
    under_way = repair(10, 12)
    page = under_way.page()
    assert isinstance(page, Page)
    taken = under_way.take(page, Answer(429, {"retry-after": "3"}, b"{}"), now_s=NOW_S)
    assert taken == RetryableError("HTTP 429: {}", 3.0)
    assert under_way.page() == page
    frames, _ = run(under_way, set(range(20)))
    assert ids_in(frames) == {10, 11, 12}


def test_repair_ends_at_the_venue_s_refusal() -> None:
    """All that is still missing is lost, for the reason that the venue gives."""
    under_way = repair(10, 12)
    page = under_way.page()
    assert isinstance(page, Page)
    assert under_way.take(page, Answer(404, {}, b'{"message":"NotFound"}'), now_s=NOW_S) == PermanentError("NotFound")
    assert under_way.lost() == [Unrecoverable("BTCUSD", "coinbase", "", 10, 12, "NotFound")]


def test_repair_of_what_cannot_be_asked_for_is_lost_at_once() -> None:
    """A symbol that the venue cannot have."""
    under_way = repair(10, 12, symbol="%")
    assert isinstance(under_way.page(), PermanentError)
    assert "no symbol of the form '%'" in under_way.lost()[0].reason


@pytest.mark.parametrize("body", [b"<html>maintenance</html>", b"", b"[1,2", b"[] trailing"])
def test_repair_takes_an_answer_that_is_no_json_for_trouble(body: bytes) -> None:
    """A login page or a proxy's apology under HTTP 200 loses no trade."""
    under_way = repair(10, 12)
    page = under_way.page()
    assert isinstance(page, Page)
    assert isinstance(under_way.take(page, Answer(200, {}, body), now_s=NOW_S), RetryableError)


def test_repair_gives_up_what_it_cannot_understand_after_some_rounds() -> None:
    """JSON of another form: it is asked for again, never published, and in the end lost for that reason."""
    under_way = repair(10, 12)
    rounds = 0
    while True:
        page = under_way.page()
        assert isinstance(page, Page)
        assert under_way.take(page, Answer(200, {}, b'[{"id":10}]'), now_s=NOW_S) is None
        rounds += 1
        if under_way.next_page_in_s() is None:
            break
    assert rounds == ROUNDS
    (loss,) = under_way.lost()
    assert loss.reason.startswith("the venue's answer cannot be understood: ")


def test_a_request_reads_back_as_it_was_written() -> None:
    """What the canonical stream writes is what repair reads."""
    request = RepairRequest("BTCUSDT", "binance", "trade", 1, 9, 7)
    assert decode_request(encode(request)) == request


def test_frames_begin_with_their_mark() -> None:
    """No venue's frame does."""
    frames, _ = run(repair(1, 3), {1, 2, 3})
    assert all(frame.startswith(REST_MARK) for frame in frames)
