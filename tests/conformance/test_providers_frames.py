"""Every provider on every frame at hand: what it decodes is what the frame says, read a second time without it."""

from __future__ import annotations

import json
from typing import Any

import msgspec
import plain_reading
import pytest
from hypothesis import given
from hypothesis import strategies as st
from venue_frames import PROVIDERS, WRITTEN, recorded

from mdstream.errors import FrameError
from mdstream.ticks import BookTick, BookUpdate, Control, QuoteTick, Tick, TradeTick
from mdstream.venues.feed import BOOK, OTHER, QUOTE, TRADE, Route
from mdstream.venues.providers import provider

KINDS: dict[type, bytes] = {TradeTick: TRADE, QuoteTick: QUOTE, BookTick: BOOK, BookUpdate: BOOK}
WRITTEN_NAMES = [(name, what) for name in PROVIDERS for what in WRITTEN[name]]


def fields(tick: Tick) -> dict[str, Any]:
    return {"is": type(tick).__name__} | msgspec.structs.asdict(tick)


def market_data(name: str, frame: bytes) -> list[Tick]:
    return [tick for tick in provider(name).decode(frame) if not isinstance(tick, Control)]


@pytest.mark.parametrize("name", PROVIDERS)
def test_decode_says_what_every_recorded_frame_says(name: str) -> None:
    """Field by field, for each frame of the capture, and nothing where the frame holds no market data."""
    venue = provider(name)
    for frame in recorded(name):
        got = [fields(tick) for tick in venue.decode(frame) if not isinstance(tick, Control)]
        assert got == plain_reading.says(name, frame), frame[:300]


@pytest.mark.parametrize(("name", "what"), WRITTEN_NAMES)
def test_decode_says_what_a_frame_as_of_today_says(name: str, what: str) -> None:
    """The same for one frame of each kind as the venue's documentation shows it."""
    frame = WRITTEN[name][what]
    assert [fields(tick) for tick in market_data(name, frame)] == plain_reading.says(name, frame)


@pytest.mark.parametrize("name", PROVIDERS)
def test_route_names_the_key_and_kind_that_decode_finds(name: str) -> None:
    """Unparsed, a frame is given the symbol that its ticks have, and their kind."""
    venue = provider(name)
    for frame in recorded(name) + list(WRITTEN[name].values()):
        routed = venue.route(frame)
        for tick in venue.decode(frame):
            if not isinstance(tick, Control):
                assert routed == Route(tick.symbol.encode(), KINDS[type(tick)]), frame[:300]


@pytest.mark.parametrize("name", PROVIDERS)
def test_route_gives_frames_without_an_instrument_to_the_provider(name: str) -> None:
    """Acks, errors and pongs have the provider's name for a key."""
    whose = ["ack", "error", "notice", "pong", "shutdown", "subscriptions", "list of streams"]
    frames = [frame for what, frame in WRITTEN[name].items() if what in whose]
    assert frames
    assert {provider(name).route(frame) for frame in frames} == {Route(name.encode(), OTHER)}


@pytest.mark.parametrize("name", PROVIDERS)
def test_frames_laid_out_otherwise_say_the_same(name: str) -> None:
    """White space between the tokens changes neither the route nor what is decoded."""
    venue = provider(name)
    for what, frame in WRITTEN[name].items():
        if what != "pong":
            spaced = json.dumps(json.loads(frame), separators=(", ", ": "), ensure_ascii=False).encode()
            assert venue.decode(spaced) == venue.decode(frame), what
            assert venue.route(spaced) == venue.route(frame), what


@pytest.mark.parametrize("name", PROVIDERS)
def test_frames_with_their_fields_in_another_order_say_the_same(name: str) -> None:
    """No venue promises an order of fields: the outermost ones turned around change nothing that is decoded."""
    venue = provider(name)
    for what, frame in WRITTEN[name].items():
        if what != "pong":
            turned = dict(reversed(json.loads(frame).items()))
            assert venue.decode(json.dumps(turned, separators=(",", ":")).encode()) == venue.decode(frame), what


@pytest.mark.parametrize("name", PROVIDERS)
def test_decode_takes_every_recorded_control_frame_for_no_error(name: str) -> None:
    """The captures hold no rejected subscription, so none may be seen."""
    venue = provider(name)
    frames = [frame for frame in recorded(name) if frame not in WRITTEN[name].values()]
    controls = [tick for frame in frames for tick in venue.decode(frame) if isinstance(tick, Control)]
    assert {control.kind for control in controls} <= {"ack", "ignored", "heartbeat"}


@pytest.mark.parametrize(("name", "what"), [(n, w) for n, w in WRITTEN_NAMES if "error" in w])
def test_decode_takes_a_rejected_subscription_for_an_error(name: str, what: str) -> None:
    """With the venue's own words, which are what helps."""
    (tick,) = provider(name).decode(WRITTEN[name][what])
    assert isinstance(tick, Control)
    assert tick.kind == "error"
    words = {"binance": "unknown variant FOO", "okx": "60018", "coinbase": "level2 requires authentication"}
    assert words[name] in tick.detail


BAD_NUMBERS = [b'"abc"', b"null", b"1e999", b'"1e999"', b'"nan"', b'"inf"', b"[]", b'{"a":1}']
PRICES = {"binance": b'"93741.20000000"', "okx": b'"93741.2"', "coinbase": b'"93741.20"'}
TRADES = {"binance": "trade", "okx": "trades", "coinbase": "match"}


@pytest.mark.parametrize("bad", BAD_NUMBERS)
@pytest.mark.parametrize("name", PROVIDERS)
def test_decode_refuses_a_price_that_is_no_finite_number(name: str, bad: bytes) -> None:
    """It becomes a dead letter: no made-up price goes on."""
    frame = WRITTEN[name][TRADES[name]]
    assert PRICES[name] in frame
    with pytest.raises((FrameError, msgspec.MsgspecError)):
        provider(name).decode(frame.replace(PRICES[name], bad))


@pytest.mark.parametrize("name", PROVIDERS)
def test_decode_refuses_every_frame_that_was_cut_short(name: str) -> None:
    """A trade frame cut anywhere is an error, and it is still routed."""
    venue, frame = provider(name), WRITTEN[name][TRADES[name]]
    for length in range(len(frame)):
        with pytest.raises((FrameError, msgspec.MsgspecError)):
            venue.decode(frame[:length])
        assert isinstance(venue.route(frame[:length]), Route)


NESTED = [b"[" * 100_000, b'{"a":' * 100_000, b'{"type":' + b"[" * 100_000, b'{"stream":"a@b","data":' + b"[" * 100_000]
NOT_JSON = [b"", b"\x00", b"\xff\xfe", b"null", b"1", b"{}", b"[]", b'"x"', b"not json", b'{"type":"\xff"}', *NESTED]


@pytest.mark.parametrize("name", PROVIDERS)
def test_decode_refuses_what_is_no_message_of_the_venue(name: str) -> None:
    """With an error of the two that readers expect, whatever the bytes are."""
    for frame in NOT_JSON:
        with pytest.raises((FrameError, msgspec.MsgspecError)):
            provider(name).decode(frame)
        assert provider(name).route(frame).kind == OTHER


def mangled(name: str) -> st.SearchStrategy[bytes]:
    """Arbitrary bytes, and the venue's frames with a piece replaced by other bytes."""
    frames = st.sampled_from(sorted(WRITTEN[name].values()))
    pieces = st.tuples(frames, st.integers(0, 300), st.integers(0, 40), st.binary(max_size=12))
    return st.binary(max_size=200) | pieces.map(lambda p: p[0][: p[1]] + p[3] + p[0][p[1] + p[2] :])


@pytest.mark.parametrize("name", PROVIDERS)
@given(data=st.data())
def test_route_never_raises(name: str, data: st.DataObject) -> None:
    """Any bytes have a key that is not empty and a kind."""
    routed = provider(name).route(data.draw(mangled(name)))
    assert routed.key
    assert routed.kind in (TRADE, QUOTE, BOOK, OTHER)


@pytest.mark.parametrize("name", PROVIDERS)
@given(data=st.data())
def test_decode_raises_nothing_but_its_two_errors(name: str, data: st.DataObject) -> None:
    """Whatever the bytes: ticks with finite numbers, or FrameError, or msgspec's own error."""
    try:
        ticks = provider(name).decode(data.draw(mangled(name)))
    except (FrameError, msgspec.MsgspecError):
        return
    for tick in ticks:
        # What was decoded can be written down: finite numbers, integers of 64 bits (but for the prices of levels).
        assert json.loads(json.dumps(fields(tick), allow_nan=False)) is not None
        assert isinstance(tick, BookUpdate) or msgspec.msgpack.encode(tick)
