"""Every venue's history against its own simulated REST interface: the trades are those of the feed."""

from __future__ import annotations

import pytest
from msgspec.structs import replace
from test_venue_simulated import CONTRACTS, NOW_NS, SIMULATED, Connection, trades
from venue_symbols import SETTINGS

from mdstream.backfill.plan import Bisection
from mdstream.repair.venues import HISTORIES, PASTS
from mdstream.repairs import RepairRequest, rest_frame
from mdstream.simulator.listing import Kind, Listing
from mdstream.simulator.market import SECOND_NS
from mdstream.simulator.rest import Budget
from mdstream.simulator.venues import RESTS
from mdstream.ticks import TradeTick
from mdstream.venues.past import Page
from mdstream.venues.rest import Answer
from mdstream.venues.spans import Span


def rest_frames(connection: Connection, listing: Listing, id_space: str) -> list[bytes]:
    """What `mdstream repair` would publish when it asks for all trades of an instrument in one id space."""
    name, tape = connection.provider.name, listing.instrument.tape
    history, rest = HISTORIES[name](), RESTS[name](connection.exchange, Budget(1_000_000, 60.0))
    found = []
    for first in range(tape.first_id, tape.next_id, history.most_rows):
        span = Span(first, min(first + history.most_rows, tape.next_id) - 1)
        page = history.ask(RepairRequest(connection.symbol, name, id_space, *span, 0, connection.contract_size), span)
        assert isinstance(page, Page)
        path, _, query = page.target.partition("?")
        answer = rest.get(path, query, NOW_NS)
        assert (answer.status, history.judge(Answer(answer.status, {}, answer.body), now_s=0.0)) == (200, None)
        found.append(rest_frame(page.target, id_space, answer.body))
    return found


def recovered(connection: Connection, frame: bytes) -> list[TradeTick]:
    """The trades of an answer as the canonical stream reads them."""
    return trades(list(connection.provider.decode(frame, connection.contract_size.encode())))


WITH_HISTORY = [venue for venue in SIMULATED if venue in HISTORIES]


@pytest.mark.parametrize("venue", [*WITH_HISTORY, *CONTRACTS])
def test_history_has_the_trades_of_the_feed(venue: str) -> None:
    """In each id space every trade that the feed sent, with the same fields; a feed's merged fills one by one."""
    connection, venue = (
        Connection(CONTRACTS.get(venue, venue), contracts=venue in CONTRACTS),
        CONTRACTS.get(venue, venue),
    )
    id_spaces = HISTORIES[venue].endpoints
    for topic, read in connection.of(Kind.TRADE):
        sent = [tick for _ in range(50) for tick in trades(read(topic.listing.instrument.order(NOW_NS)))]
        for id_space in {tick.id_space for tick in sent} & id_spaces.keys():
            frames = rest_frames(connection, topic.listing, id_space)
            got = {t.trade_id: t for frame in frames for t in recovered(connection, frame)}
            for tick in sent:
                found = got[tick.trade_id]
                assert found.recovered
                same = replace(found, recovered=False) if found.count == tick.count else None
                assert same in (None, tick)
                assert (found.symbol, found.price, found.side) == (tick.symbol, tick.price, tick.side)


@pytest.mark.parametrize("venue", WITH_HISTORY)
@pytest.mark.parametrize("newer", [False, True])
def test_time_is_found_by_asking_for_one_trade_at_a_time(venue: str, newer: bool) -> None:
    """The first trade from a time on, in either order of a venue's pages; none if there is none."""
    connection = Connection(venue)
    ((topic, _), *_) = connection.of(Kind.TRADE)
    for second in range(40):
        topic.listing.instrument.order(NOW_NS + second * SECOND_NS)
    tape, history = topic.listing.instrument.tape, HISTORIES[venue]()
    rest = RESTS[venue](connection.exchange, Budget(1_000_000, 60.0))
    wanted_ns = NOW_NS + (50 if newer else 20) * SECOND_NS - SECOND_NS // 2  # venues truncate times
    for id_space in history.endpoints:
        newest = (tape.next_aggregate_id if id_space == "aggTrade" else tape.next_id) - 1
        expected = tape.aggregate_at(wanted_ns) if id_space == "aggTrade" else tape.id_at(wanted_ns)
        bisection = Bisection(wanted_ns, newest, newest_first=history.newest_first)
        while (found := bisection.found) is None:
            span = Span(bisection.probe, bisection.probe)
            request = RepairRequest(connection.symbol, venue, id_space, *span, 0, connection.contract_size)
            page = history.ask(request, span)
            assert isinstance(page, Page)
            path, _, query = page.target.partition("?")
            answer = rest.get(path, query, NOW_NS)
            trades = history.trades(request, rest_frame(page.target, id_space, answer.body))
            bisection.answered(next(((trade.first_id, trade.ts_exchange or 0) for trade in trades), None))
        assert found == expected, id_space


@pytest.mark.parametrize("venue", WITH_HISTORY)
def test_trades_that_a_venue_has_lost_are_not_in_its_history(venue: str) -> None:
    """They leave a hole in the answers."""
    connection = Connection(venue)
    ((topic, _), *_) = connection.of(Kind.TRADE)
    for _ in range(10):
        topic.listing.instrument.order(NOW_NS)
    tape = topic.listing.instrument.tape
    tape.remove(1_003, 1_004)
    for id_space in HISTORIES[venue].endpoints:
        frames = rest_frames(connection, topic.listing, id_space)
        got = [tick for frame in frames for tick in recovered(connection, frame)]
        # Where history has each fill, all others are there; an aggregate goes with any of its fills.
        missing = {1_003, 1_004} if all(tick.count == 1 for tick in got) else set()
        ids = {tick.first_id for tick in got}
        assert not missing or set(range(1_000, tape.next_id)) - ids == missing
        assert ids


@pytest.mark.parametrize("venue", sorted(RESTS))
def test_a_path_that_the_venue_does_not_have_is_404(venue: str) -> None:
    """And no trade is given up for it."""
    given = PASTS[venue]().headers(SETTINGS) if venue in PASTS else {}
    headers = {name.lower(): value for name, value in given.items()}
    answer = RESTS[venue](Connection(venue).exchange).get("/nothing", "", NOW_NS, headers)
    assert answer.status == 404
