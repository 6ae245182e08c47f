"""Every venue on its own frames: what it decodes is what its frames.jsonl says, and nothing breaks it."""

from __future__ import annotations

import json
import re
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from mutation import ERRORS, fault, mutant
from venue_frames import VENUES, Example, each, frames, recorded

from mdstream.errors import FrameError
from mdstream.repair.venues import HISTORIES, PASTS, TIMED
from mdstream.repairs import REST_MARK, RepairRequest, rest_frame
from mdstream.replay.capture import Frame, decode_line, encode_line
from mdstream.ticks import BarTick, BookTick, BookUpdate, Control, HaltTick, QuoteTick, TradeTick
from mdstream.venues.feed import BAR, BOOK, OTHER, QUOTE, TRADE, Route
from mdstream.venues.providers import provider
from mdstream.venues.rest import Answer, PermanentError, RetryableError
from mdstream.venues.spans import Span
from mdstream.venues.timed import TRADES

KINDS: dict[type, bytes] = {
    TradeTick: TRADE,
    QuoteTick: QUOTE,
    BookTick: BOOK,
    BookUpdate: BOOK,
    BarTick: BAR,
    HaltTick: OTHER,
}
NUMBER = re.compile(rb'"-?[0-9]+(?:\.[0-9]+)?"|(?<=[:,\[])-?[0-9]+(?:\.[0-9]+)?(?=[,\]}])')
BAD_NUMBERS = [b'"abc"', b"null", b"1e999", b'"1e999"', b'"nan"', b'"inf"', b"[]", b'{"a":1}']
NESTED = [b"[" * 100_000, b'{"a":' * 100_000, b'{"type":' + b"[" * 100_000, b'{"stream":"a@b","data":' + b"[" * 100_000]
NOT_JSON = [b"", b"\x00", b"\xff\xfe", b"null", b"1", b"{}", b"[]", b'"x"', b"not json", b'{"type":"\xff"}', *NESTED]
INTERVAL_NS = 86_400_000_000_000
NOT_ASKED = [rest_frame(path, "", b"[]") for path in ("/somewhere/else", "")] + [
    REST_MARK,
    REST_MARK + b'","response":',
]


def json_of(example: Example) -> Any:
    """The frame, parsed, with its decimals as marked text; None for one that is not JSON."""
    try:
        return json.loads(example.raw, parse_float=lambda digits: f"\0{digits}\0")
    except ValueError:
        return None


def turned(parsed: Any) -> Any:
    """A frame with its outermost fields, or those of its elements, in the opposite order."""
    return [turned(each) for each in parsed] if isinstance(parsed, list) else dict(reversed(parsed.items()))


def laid_out(parsed: Any, separators: tuple[str, str]) -> bytes:
    """A frame, with the decimals as they were written: a venue's checksum may be that of their digits."""
    text = json.dumps(parsed, separators=separators, ensure_ascii=False)
    return re.sub(r'"\\u0000(.*?)\\u0000"', r"\1", text).encode()


@pytest.mark.parametrize("venue", VENUES)
def test_there_is_an_example_of_every_kind(venue: str) -> None:
    """Trades, quotes, books if the venue has them; an ack and an error of a feed; a REST answer if it has a past."""
    kinds = {kind for example in frames(venue) for kind, _ in example.ticks}
    message = {tick.kind for e in frames(venue) for tick in e.expected if isinstance(tick, Control)}
    declared = {channel.kind for channel in provider(venue).channels} - {OTHER}
    assert {KINDS.get(tick) for name in kinds for tick in KINDS if tick.__name__ == name} - {OTHER} == declared
    assert {"ack", "error"} <= message or not provider(venue).has_feed
    assert (venue in PASTS) == any(example.request and example.ticks for example in frames(venue))


@pytest.mark.parametrize(("venue", "example"), each())
def test_decode_says_what_the_frame_says(venue: str, example: Example) -> None:
    """All ticks, each with every field as written down by hand; a control frame's detail where it is given."""
    ticks = provider(venue).decode(example.raw, example.contract_size.encode())
    assert len(ticks) == len(example.ticks)
    for tick, expected in zip(ticks, example.expected, strict=True):
        if isinstance(tick, Control) and isinstance(expected, Control) and not expected.detail:
            assert tick.kind == expected.kind
        else:
            assert tick == expected


@pytest.mark.parametrize(("venue", "example"), each())
def test_route_names_the_key_and_kind_that_decode_finds(venue: str, example: Example) -> None:
    """Unparsed, a frame is given its ticks' symbol and kind; one without an instrument belongs to the provider."""
    v = provider(venue)
    routed = v.route(example.raw)
    for tick in example.expected:
        if not isinstance(tick, Control):
            assert routed == Route(example.key(v, tick.symbol), KINDS[type(tick)])
        elif tick.kind in ("ack", "error", "notice", "pong"):
            assert routed == Route(venue.encode(), OTHER)


@pytest.mark.parametrize(("venue", "example"), each(data=True))
def test_a_symbol_is_subscribed_to_under_the_name_it_came_with(venue: str, example: Example) -> None:
    """The canonical name of a tick leads back to the venue's own, which the frame or its request has."""
    v = provider(venue)
    for symbol in {tick.symbol for tick in example.expected if not isinstance(tick, Control)}:
        venue_id = v.to_venue(symbol)
        assert v.from_venue(venue_id) == v.canonical(symbol)
        # Where sizes count contracts, nobody may take them for units of base: they keep the venue's name.
        assert symbol == (v.canonical(symbol) if example.contract_size else v.as_sent(venue_id))
        name = TIMED[venue]().name_of(symbol) if example.request and venue not in HISTORIES else venue_id
        assert name.lower().encode() in example.raw.lower()


@pytest.mark.parametrize("venue", VENUES)
@given(base=st.text("ABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789", min_size=1, max_size=12))
def test_from_venue_undoes_to_venue(venue: str, base: str) -> None:
    """A canonical symbol comes back from the venue as it went."""
    v = provider(venue)
    symbol = v.default_symbols[0].replace("BTC", base)
    assert v.from_venue(v.to_venue(symbol)) == symbol


@pytest.mark.parametrize(("venue", "example"), each())
def test_a_frame_laid_out_otherwise_says_the_same(venue: str, example: Example) -> None:
    """White space changes neither route nor ticks, another order of the outermost fields not the ticks."""
    parsed = json_of(example)
    if parsed is None or example.request:
        return
    v = provider(venue)
    spaced = laid_out(parsed, (", ", ": "))
    other_order = laid_out(turned(parsed), (",", ":"))
    assert v.decode(spaced) == v.decode(other_order) == v.decode(example.raw)
    assert v.route(spaced) == v.route(example.raw)


@pytest.mark.parametrize(("venue", "example"), each(data=True))
def test_a_frame_cut_short_is_an_error(venue: str, example: Example) -> None:
    """Cut anywhere: never fewer trades, never half a book; and it still has a route."""
    v = provider(venue)
    for length in range(len(example.raw)):
        with pytest.raises(ERRORS):
            v.decode(example.raw[:length])
        assert v.route(example.raw[:length]).key


@pytest.mark.parametrize("bad", BAD_NUMBERS)
@pytest.mark.parametrize(("venue", "example"), each(data=True))
def test_a_price_or_size_that_is_no_finite_number_is_an_error(venue: str, example: Example, bad: bytes) -> None:
    """It becomes a dead letter: no made-up trade goes on."""
    for tick in provider(venue).decode(example.raw):
        if isinstance(tick, TradeTick) and not example.hex:
            size = tick.corrects_size if tick.correction == "cancel" else tick.size  # what the frame has
            for value in (tick.price, size):
                (text, *_) = [text for text in numbers(example.raw) if float(text.strip(b'"')) == value]
                with pytest.raises(ERRORS):
                    provider(venue).decode(example.raw.replace(text, bad, 1))


def numbers(frame: bytes) -> list[bytes]:
    """Every number of a frame as it is written, the ones within quotes with them."""
    return [m[0] for m in NUMBER.finditer(frame)]


@pytest.mark.parametrize(("venue", "example"), each(refused=True))
def test_a_frame_that_cannot_be_meant_is_refused_by_name(venue: str, example: Example) -> None:
    """It becomes a dead letter with the reason."""
    with pytest.raises(FrameError, match=re.escape(example.refused)):
        provider(venue).decode(example.raw, example.contract_size.encode())


@pytest.mark.parametrize("frame", [*NOT_JSON, *NOT_ASKED], ids=lambda frame: repr(frame[:30]))
@pytest.mark.parametrize("venue", VENUES)
def test_what_is_no_message_of_the_venue_is_an_error(venue: str, frame: bytes) -> None:
    """With an error of the two that readers expect, whatever the bytes are; it is routed as such."""
    with pytest.raises(ERRORS):
        provider(venue).decode(frame)
    assert provider(venue).route(frame).kind == OTHER


@pytest.mark.parametrize("venue", VENUES)
@given(seed=st.integers(0, 2**32))
def test_nothing_false_comes_of_a_mutated_frame(venue: str, seed: int) -> None:
    """By the rules of mutation.py; mutate.py checks a million of each venue."""
    for number in range(20):
        original, frame = mutant(venue, seed, number)
        assert fault(venue, original, frame) is None, frame


@pytest.mark.parametrize("venue", VENUES)
def test_recorded_frames_are_understood_and_routed_as_decoded(venue: str) -> None:
    """Each frame of the capture: no error, and the route is the one of its ticks."""
    v = provider(venue)
    for frame in (part for whole in recorded(venue) for part in v.split(whole)):
        routed = v.route(frame)
        for tick in v.decode(frame):
            assert isinstance(tick, Control) or routed == Route(tick.symbol.encode(), KINDS[type(tick)]), frame[:300]


RESTS = [param for param in each() if param.values[1].request]


@pytest.mark.parametrize(("venue", "example"), RESTS)
def test_a_recovered_trade_is_the_live_one(venue: str, example: Example) -> None:
    """Where an example of the live feed has the same id in the same id space, every field is the same."""
    fields = ("price", "size", "side", "ts_exchange", "first_id", "last_id", "count")
    live = {(t.symbol, t.id_space, t.trade_id): t for e in frames(venue) if not e.request for t in trades(e)}
    for trade in trades(example):
        assert trade.recovered
        assert trade.id_space == (example.id_space or trade.id_space) or venue not in HISTORIES
        same = live.get((trade.symbol, trade.id_space, trade.trade_id))
        # A live trade may be several fills that history has one by one.
        if same is not None and same.count == trade.count:
            assert [getattr(trade, name) for name in fields] == [getattr(same, name) for name in fields]


@pytest.mark.parametrize(("venue", "example"), RESTS)
def test_a_history_finds_the_trades_of_its_request_in_the_answer(venue: str, example: Example) -> None:
    """By symbol and id space; trades of another instrument or id space are not its own."""
    for trade in trades(example) if venue in HISTORIES else []:
        history = HISTORIES[venue]()
        request = RepairRequest(trade.symbol, venue, trade.id_space, 0, 1 << 62, 0, example.contract_size)
        ids = [Span(t.first_id, t.last_id) for t in trades(example)]
        assert history.read(request, example.raw) == (ids, len(ids))
        for other in (
            msgspec.structs.replace(request, symbol="X"),
            msgspec.structs.replace(request, id_space="another"),
        ):
            assert history.read(other, example.raw) == ([], len(ids))
        requested = history.ask(request, Span(trade.first_id, trade.last_id))
        assert not isinstance(requested, PermanentError)
        assert provider(venue).route(rest_frame(requested.target, trade.id_space, b"[]")) == Route(
            example.key(provider(venue), trade.symbol), TRADE
        )
    captured = Frame(1, venue, example.raw, example.contract_size)
    assert decode_line(encode_line(captured)) == captured


@pytest.mark.parametrize(("venue", "example"), RESTS)
def test_what_is_asked_for_by_time_is_found_in_the_answer(venue: str, example: Example) -> None:
    """Bars of the asked interval, and trades where history does not have them by id; none of another instrument."""
    by_time = [
        t for t in example.expected if isinstance(t, BarTick) or (isinstance(t, TradeTick) and venue not in HISTORIES)
    ]
    for tick in by_time:
        timed, interval = TIMED[venue](), tick.interval if isinstance(tick, BarTick) else TRADES
        assert interval == example.id_space
        assert list(timed.read(tick.symbol, example.raw)) == by_time
        assert list(timed.read("X", example.raw)) == []
        page = timed.ask(tick.symbol, interval, 0, INTERVAL_NS)
        assert not isinstance(page, PermanentError)
        assert provider(venue).route(rest_frame(page.target, interval, b"[]")) == Route(
            tick.symbol.encode(), KINDS[type(tick)]
        )


@pytest.mark.parametrize(("venue", "example"), each(status=True))
def test_a_rest_error_is_final_only_by_the_venue_s_own_word(venue: str, example: Example) -> None:
    """A final error has the venue's words; a limit, a fault or a wrong base URL is retried."""
    found = PASTS[venue]().judge(Answer(example.status, {"retry-after": "7"}, example.body.encode()), now_s=0.0)
    if example.final:
        assert found == PermanentError(example.final)
    else:
        assert isinstance(found, RetryableError)
        assert (found.wait_s, found.reason.startswith(f"HTTP {example.status}: ")) == (7.0, True)


@pytest.mark.parametrize("venue", PASTS)
@given(status=st.integers(100, 599), body=st.binary(max_size=60))
def test_bytes_that_are_not_the_venue_s_give_no_trade_up(venue: str, status: int, body: bytes) -> None:
    """Whatever a proxy answers."""
    assert not isinstance(PASTS[venue]().judge(Answer(status, {}, body), now_s=0.0), PermanentError)


@pytest.mark.parametrize(("venue", "example"), RESTS)
def test_an_answer_with_trades_or_without_any_is_no_error(venue: str, example: Example) -> None:
    """An empty list is an answer, too."""
    assert PASTS[venue]().judge(Answer(200, {}, example.body.encode()), now_s=0.0) is None


def trades(example: Example) -> list[TradeTick]:
    return [tick for tick in example.expected if isinstance(tick, TradeTick)]
