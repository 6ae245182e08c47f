"""mdstream/records.py: the format of a raw record, written and read."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import cast

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mdstream.errors import FrameError
from mdstream.records import LAST_NS, REPLAY, REST, WS, RawEncoder, contract_size_of, decode_raw, receive_ns

NOW_NS = 1_767_625_200_123_456_789
TIME = NOW_NS.to_bytes(8, "big")
times = st.integers(0, LAST_NS - 1)


@dataclass(frozen=True)
class Received:
    """A record as a consumer gives it."""

    headers: Sequence[tuple[str, bytes]]
    timestamp: int = 0
    offset: int = 0
    key: bytes | None = None
    value: bytes | None = None


def received(*headers: tuple[str, bytes | None], timestamp: int = 0) -> Received:
    """Kafka allows a header without a value, which our own writers never write."""
    return Received(cast("Sequence[tuple[str, bytes]]", headers), timestamp)


def test_raw_record_is_the_frame_with_headers() -> None:
    """Value untouched, timestamp in ms, the headers in an order that a reader may rely on for speed."""
    assert RawEncoder("okx", WS).encode(b"BTCUSDT", b"\xff{}", b"trade", NOW_NS) == (
        b"BTCUSDT",
        b"\xff{}",
        1_767_625_200_123,
        [("p", b"okx"), ("t", TIME), ("k", b"trade"), ("via", b"ws")],
    )


def test_live_record_names_its_connection() -> None:
    """By the time it was opened; a part of a frame also has the frame's number, and a way to read it as any other."""
    encoder = RawEncoder("alpaca", WS, 7)
    via = [("via", b"ws"), ("c", bytes(7) + b"\x07")]
    assert encoder.encode(b"AAPL", b"{}", b"trade", NOW_NS)[3][3:] == via
    part = encoder.encode_part(b"AAPL", b"[]", b"trade", NOW_NS, 259)[3]
    assert part[3:] == [*via, ("f", bytes(6) + b"\x01\x03")]
    assert decode_raw(received(*part)) == (b"alpaca", NOW_NS, b"trade")


def test_record_says_what_a_contract_was_worth() -> None:
    """Last, so that all else is where it is in any record; it is found in any order. Most records say nothing."""
    headers = RawEncoder("okx", WS, 7).encode_contracts(b"BTCUSDT-PERP", b"{}", b"trade", NOW_NS, b"0.01")[3]
    assert headers == [*RawEncoder("okx", WS, 7).encode(b"BTCUSDT-PERP", b"{}", b"trade", NOW_NS)[3], ("v", b"0.01")]
    assert contract_size_of(received(*headers)) == contract_size_of(received(*reversed(headers))) == b"0.01"
    assert (
        contract_size_of(received(*headers[:-1]))
        == contract_size_of(received(("v", None)))
        == contract_size_of(received())
        == b""
    )


@given(st.text(), st.sampled_from([WS, REST, REPLAY]), st.binary(), st.binary(), st.binary(), times)
def test_what_is_encoded_is_decoded(
    provider: str, via: bytes, key: bytes, frame: bytes, kind: bytes, received_ns: int
) -> None:
    """Provider, receive time and kind come back, whatever they are; the receive time to the nanosecond."""
    _, value, timestamp, headers = RawEncoder(provider, via).encode(key, frame, kind, received_ns)
    record = Received(headers, timestamp, key=key, value=value)
    assert decode_raw(record) == (provider.encode(), received_ns, kind)
    assert receive_ns(record) == received_ns


@given(st.permutations([("p", b"okx"), ("t", TIME), ("k", b"trade"), ("via", b"ws"), ("x", b"")]), st.integers(0, 1))
def test_order_and_number_of_headers_do_not_matter(headers: list[tuple[str, bytes]], drop: int) -> None:
    """Other programs may write raw records, too."""
    headers = [header for header in headers if header[0] not in ("x", "via")[:drop]]
    assert decode_raw(received(*headers)) == (b"okx", NOW_NS, b"trade")


def test_missing_headers_have_defaults() -> None:
    """Without a time the record's own counts, in ms; no provider and no kind are empty names."""
    assert decode_raw(received(timestamp=5)) == (b"", 5_000_000, b"")
    assert decode_raw(received(("p", None), ("t", TIME), ("k", None), ("via", None))) == (b"", NOW_NS, b"")


@pytest.mark.parametrize("time", [b"", None, b"\x01", TIME + b"\0", b"\xff" * 8, LAST_NS.to_bytes(8, "big")], ids=repr)
def test_invalid_receive_time_is_refused(time: bytes | None) -> None:
    """It would spoil `seq` for good. Where only an order is needed, the record's own time stands in."""
    record = received(("p", b"okx"), ("t", time), ("k", b"trade"), ("via", b"ws"), timestamp=7)
    with pytest.raises(FrameError, match="no receive time in ns"):
        decode_raw(record)
    assert receive_ns(record) == 7_000_000


@pytest.mark.parametrize("timestamp", [-1, 2**63 - 1, -(2**63)])
def test_record_without_any_valid_time_is_refused(timestamp: int) -> None:
    """Kafka's -1 is no timestamp; others are beyond the range of ns."""
    with pytest.raises(FrameError, match="no receive time in ns"):
        decode_raw(received(("p", b"okx"), timestamp=timestamp))
