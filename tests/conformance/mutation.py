"""Frames that went wrong on the way, and what no venue may make of them.

    example of the venue ─ mutant: one to three of MUTATIONS ─> frame ─ fault ─> None, or what is wrong

The same rules for the few of each test run (test_venue_frames.py) and the million of mutate.py. Whatever the bytes are:

- `split` and `route` raise nothing, and every part has a key and a known kind;
- `decode` raises FrameError or msgspec's error and nothing else, or returns finite numbers that can be written down;
- what a partition publishes of it has finite numbers, no negative size, no price of zero or less where the instrument
  forbids it, and no bid above the ask;
- a damaged frame gives no market data but the original's own, where the damage is in a part that nobody reads.

Damaged is what the format itself shows: text that is no JSON, a line without the selected number of fields, a binary
message whose size is not the one that it begins with. (A part of a message is whole if it is by itself.) A digit that
became another one is none of these; only a checksum shows it. Kraken's books have one: a book with another checksum
than its own is not published.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Sequence
from functools import cache
from math import isfinite
from random import Random
from typing import Any, NamedTuple

import msgspec
from venue_frames import frames

from mdstream.errors import FrameError
from mdstream.instruments import is_cash
from mdstream.records import WS, RawEncoder
from mdstream.stream.book import CHECKED_LEVELS, MOST_EXACT
from mdstream.stream.canonical import Canonical
from mdstream.stream.rules import Policy, Rules
from mdstream.ticks import BookUpdate, Control, Tick
from mdstream.venues.dtc import messages
from mdstream.venues.feed import BAR, BOOK, OTHER, QUOTE, TRADE, Provider
from mdstream.venues.iqfeed.feed import FIELDS
from mdstream.venues.providers import provider

ERRORS = (FrameError, msgspec.MsgspecError)
NOW_NS = 1_767_625_200_123_456_789
NUMBERS = (
    *(b"0", b"-1", b"-0.0", b"1e999", b"NaN", b"nan", b"inf", b"-inf", b"1e308", b"1e-400", b"00", b"0x10"),
    *(b"9223372036854775808", b"-9223372036854775809", b"99999999999999999999999.9", b"0.00000000001", b"1_000"),
    *(b'"0"', b'"-1"', b'"nan"', b'"Infinity"', b'"1e999"', b'""', b"null", b"true", b"[]", b"{}", b'"\xc2\xb2"'),
)
DIGITS = frozenset(b"0123456789")


class Raw(NamedTuple):
    """A record as the transport hands it over."""

    offset: int
    value: bytes
    headers: Sequence[tuple[str, bytes]]
    key: bytes | None
    timestamp: int = 0


class Mutant(NamedTuple):
    """A frame made from an example; the same for the same venue, seed and number."""

    original: bytes
    frame: bytes


# -- how frames go wrong


def _slice(frame: bytes, random: Random) -> tuple[int, int]:
    begin = random.randrange(len(frame) + 1)
    return begin, min(len(frame), begin + random.choice((1, 1, 2, 5, 20, len(frame))))


def _cut(frame: bytes, _other: bytes, random: Random) -> bytes:
    return frame[: random.randrange(len(frame) + 1)]


def _remove(frame: bytes, _other: bytes, random: Random) -> bytes:
    begin, end = _slice(frame, random)
    return frame[:begin] + frame[end:]


def _repeat(frame: bytes, _other: bytes, random: Random) -> bytes:
    begin, end = _slice(frame, random)
    return frame[:end] + frame[begin:]


def _flip(frame: bytes, _other: bytes, random: Random) -> bytes:
    """One bit, as on a bad line."""
    if not frame:
        return b"\x01"
    at = random.randrange(len(frame))
    return frame[:at] + bytes((frame[at] ^ (1 << random.randrange(8)),)) + frame[at + 1 :]


def _junk(frame: bytes, _other: bytes, random: Random) -> bytes:
    begin, end = _slice(frame, random)
    return frame[:begin] + random.randbytes(random.randrange(13)) + frame[random.choice((begin, end)) :]


def _number(frame: bytes, _other: bytes, random: Random) -> bytes:
    """Another number, or none, in place of one."""
    at = random.randrange(len(frame) + 1)
    while at < len(frame) and frame[at] not in DIGITS:
        at += 1
    end = at
    while end < len(frame) and (frame[end] in DIGITS or frame[end] == ord(".")):
        end += 1
    return frame[:at] + random.choice(NUMBERS) + frame[end:]


def _splice(frame: bytes, other: bytes, random: Random) -> bytes:
    """The beginning of one frame, the end of another."""
    return frame[: random.randrange(len(frame) + 1)] + other[random.randrange(len(other) + 1) :]


MUTATIONS: tuple[Callable[[bytes, bytes, Random], bytes], ...] = (
    *(_cut, _remove, _repeat, _flip, _flip, _junk, _number, _number, _number, _splice),
)


_venue = cache(provider)


@cache
def _originals(venue: str) -> list[bytes]:
    return [example.raw for example in frames(venue)]


def mutant(venue: str, seed: int, number: int) -> Mutant:
    """Frame `number` of a seed."""
    random = Random((seed << 64) + number)
    original, other = random.choice(_originals(venue)), random.choice(_originals(venue))
    frame = original
    for _ in range(random.choice((1, 1, 1, 2, 3))):
        frame = random.choice(MUTATIONS)(frame, other, random)
    return Mutant(original, frame)


# -- what must not come of it


def fault(venue: str, original: bytes, frame: bytes) -> str | None:
    """What is wrong with how a venue reads `frame`; None if nothing is."""
    v = _venue(venue)
    try:
        parts = v.split(frame)
        routes = [v.route(part) for part in parts]
        read = {part: _decoded(v, part) for part in {*parts, frame}}
    except Exception as error:  # this is what is looked for
        return f"{type(error).__name__}: {error}"
    if not all(routed.key and routed.kind in (TRADE, QUOTE, BOOK, BAR, OTHER) for routed in routes):
        return f"a route without a key or a known kind: {routes}"
    data = {part: [tick for tick in ticks if not isinstance(tick, Control)] for part, ticks in read.items()}
    found = next(filter(None, (_unwritable(tick) for ticks in read.values() for tick in ticks)), None)
    if found is not None or not any(data.values()):
        return found
    for part, ticks in data.items():
        if ticks and _damaged(venue, part) and any(tick not in _decoded(v, original) for tick in ticks):
            return f"market data of a damaged frame: {ticks}"
    events = list(_published(v, parts))
    checked = any(isinstance(tick, BookUpdate) and _is_checked(tick) for ticks in data.values() for tick in ticks)
    if checked and any(_checked(event) not in _sent(venue) for event in events):
        return f"a book with another checksum than its own: {events}"
    return next(filter(None, map(_impossible, events)), None)


def _decoded(v: Provider, frame: bytes) -> Sequence[Tick]:
    try:
        return v.decode(frame)
    except ERRORS:
        return ()


def _unwritable(tick: Tick) -> str | None:
    """A tick that cannot be written down: its numbers are finite, its integers have 64 bits, but for the prices of
    levels, and times, which stream/bounds.py limits."""
    fields = msgspec.structs.asdict(tick)
    try:
        json.dumps(fields, allow_nan=False)
        for time in ("ts_exchange", "ts_open"):
            fields.pop(time, None)
        if not isinstance(tick, BookUpdate):
            msgspec.msgpack.encode(fields)
    except (ValueError, OverflowError) as error:
        return f"{error}: {tick}"
    return None


def _damaged(venue: str, frame: bytes) -> bool:
    """Whether the format itself shows that a frame with market data is not what was sent."""
    if venue == "iqfeed":
        return frame.count(b",") != len(FIELDS) + 1
    if venue == "dtc" and not messages.is_json(frame):
        message = messages.label_of(frame)[2]
        return len(message) < 4 or int.from_bytes(message[:2], "little") != len(message)
    try:
        json.loads(frame, parse_constant=_no_constant)
    except (ValueError, RecursionError):
        return True
    return False


def _no_constant(name: str) -> None:
    raise ValueError(f"{name} is no JSON")


def _published(v: Provider, parts: Sequence[bytes]) -> Iterator[dict[str, Any]]:
    """The trades, quotes and books that a partition publishes of a frame, as the first ones that it reads."""
    encoder, core = (
        RawEncoder(v.name, WS),
        Canonical("md.raw.any", 0, [v], rules=Rules(Policy((v.name,))), announces=lambda _: True),
    )
    records = []
    for offset, part in enumerate(parts):
        routed = v.route(part)
        key, _, timestamp, headers = encoder.encode(routed.key, part, routed.kind, NOW_NS)
        records.append(Raw(offset, part, headers, key, timestamp))
    out = core.step(records)
    for _, value, _, _ in (*out.trades, *out.quotes, *out.books):
        yield json.loads(value or b"")


@cache
def _sent(venue: str) -> list[Any]:
    """What the books of all examples say: a mutant may be made of two."""
    v = _venue(venue)
    return [
        _checked(event)
        for frame in _originals(venue)
        for event in _published(v, v.split(frame))
        if "bid" in event or "bids" in event
    ]


def _is_checked(update: BookUpdate) -> bool:
    """Whether a checksum tells of a change; not where a float no longer has every digit of a size (stream/book.py)."""
    check = update.check
    return check is not None and all(
        size * 10**check.size_decimals < MOST_EXACT for _, size in (*update.bids, *update.asks)
    )


def _checked(event: dict[str, Any]) -> Any:
    """What a checksum covers of a book, or of its top; its time and symbol it does not."""
    if event["type"] == "book":
        return event["bids"][:CHECKED_LEVELS], event["asks"][:CHECKED_LEVELS]
    return event["bid"], event["bid_size"], event["ask"], event["ask_size"]


def _impossible(event: dict[str, Any]) -> str | None:
    bids, asks = event.get("bids", ()), event.get("asks", ())
    prices = [event.get(name) for name in ("price", "bid", "ask")] + [price for price, _ in (*bids, *asks)]
    sizes = [event.get(name) for name in ("size", "bid_size", "ask_size")] + [size for _, size in (*bids, *asks)]
    above = -float("inf") if not is_cash(event["symbol"]) else 0
    if not all(price is None or (isfinite(price) and price > above) for price in prices):
        return f"an impossible price: {event}"
    if not all(size is None or (isfinite(size) and size >= 0) for size in sizes):
        return f"an impossible size: {event}"
    bid, ask = (event.get("bid"), event.get("ask")) if not bids or not asks else (bids[0][0], asks[0][0])
    return f"a bid above the ask: {event}" if bid is not None and ask is not None and bid > ask else None


def smallest(frame: bytes, wrong: Callable[[bytes], object]) -> bytes:
    """A frame that is still wrong, and is no longer so if any one piece of it is left out."""
    length = len(frame)
    while length:
        at = 0
        while at < len(frame):
            shorter = frame[:at] + frame[at + length :]
            if wrong(shorter):
                frame = shorter
            else:
                at += length
        length //= 2
    return frame
