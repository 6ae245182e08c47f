"""Live streams: what may be asked for, and the ids that a client comes back with."""

from __future__ import annotations

import re
from contextlib import suppress
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mdstream.api.history import QueryError
from mdstream.api.live import Item, asked_of, failure_of, hole_of, place, sse
from mdstream.client.numbers import Hole
from mdstream.client.start import EARLIEST, LATEST, Start
from mdstream.errors import SettingsError

Given = list[tuple[str, str]]

ids = st.integers(min_value=0, max_value=10**15)
places = st.dictionaries(st.integers(0, 999_999), st.integers(0, 10**18 - 1), min_size=1)
values = st.recursive(st.none() | st.integers() | st.text(), lambda inner: st.lists(inner, max_size=3), max_leaves=5)


def test_symbols_are_given_with_commas_or_repeated() -> None:
    """In whatever case, each once."""
    asked = asked_of("trades", [("symbol", "btcusdt,ETHUSDT"), ("symbol", "BTCUSDT"), ("symbol", "sol")], "")
    assert (asked.symbols, asked.start) == (("BTCUSDT", "ETHUSDT", "SOL"), Start(LATEST))


def test_a_start_is_a_word_a_time_or_a_seq() -> None:
    one, bars = [("symbol", "A")], [("symbol", "A"), ("interval", "1m")]
    assert asked_of("books", [*one, ("start", "earliest")], "").start == Start(EARLIEST)
    assert asked_of("books", [*one, ("start", "2026-01-05")], "").start == Start(1_767_571_200_000)
    assert asked_of("books", [*one, ("start", "17")], "").start == Start(seq=17)
    asked = asked_of("bars", bars, "")
    assert (asked.interval, asked.numbered) == ("1m", False)


@given(seq=ids)
def test_by_a_seq_one_goes_on_behind_it(seq: int) -> None:
    """Whatever the start says."""
    for kind in ("trades", "quotes", "books"):
        assert asked_of(kind, [("symbol", "A"), ("start", "earliest")], str(seq)).start == Start(seq=seq + 1)


@given(where=places)
def test_a_place_is_read_as_it_was_written(where: dict[int, int]) -> None:
    for kind, symbols in (("trades", "A"), ("trades", "A,B"), ("bars", "A")):
        assert asked_of(kind, [("symbol", symbols)], place(where)).start == Start(places=where)


@pytest.mark.parametrize(
    ("kind", "asked", "last_id"),
    [
        ("trades", [], ""),
        ("trades", [("symbol", "A,")], ""),
        ("trades", [("symbol", ",".join(f"S{n}" for n in range(101)))], ""),
        ("trades", [("symbol", "A"), ("interval", "1m")], ""),
        ("bars", [("symbol", "A"), ("interval", "minute")], ""),
        ("bars", [("symbol", "A"), ("interval", "1m\n")], ""),
        ("bars", [("symbol", "A"), ("interval", "1m"), ("interval", "5m")], ""),
        ("trades", [("symbol", "A"), ("start", "15m"), ("start", "latest")], ""),
        ("bars", [("symbol", "A"), ("start", "17")], ""),
        ("bars", [("symbol", "A")], "17"),
        ("trades", [("symbol", "A,B"), ("start", "17")], ""),
        ("trades", [("symbol", "A,B")], "17"),
        ("trades", [("symbol", "A"), ("start", str(1 << 53))], ""),
        ("trades", [("symbol", "A")], str(1 << 53)),
        ("trades", [("symbol", "A"), ("start", "soon")], ""),
        ("trades", [("symbol", "A")], "0:1,"),
        ("trades", [("symbol", "A")], "0:1\n"),
    ],
)
def test_anything_else_is_refused(kind: str, asked: Given, last_id: str) -> None:
    with pytest.raises((QueryError, SettingsError)):
        asked_of(kind, asked, last_id)


@given(given=st.lists(st.tuples(st.sampled_from(["symbol", "start", "interval"]), st.text())), last_id=st.text())
def test_whatever_is_asked_is_answered_or_refused(given: Given, last_id: str) -> None:
    for kind in ("trades", "bars"):
        with suppress(QueryError, SettingsError):
            asked_of(kind, given, last_id)


@given(value=values, seq=ids)
def test_an_event_is_one_block_with_its_data_in_one_line(value: Any, seq: int) -> None:
    """However the JSON on the topic is laid out: else a client would take its rest for fields."""
    for data in (msgspec.json.encode(value), msgspec.json.format(msgspec.json.encode(value), indent=1)):
        found = re.fullmatch(rb"id: (\d+)\ndata: ([^\r\n]+)\n\n", sse(Item(str(seq), data.replace(b"\n", b"\r\n"))))
        assert found is not None
        assert (int(found[1]), msgspec.json.decode(found[2])) == (seq, value)


def test_what_is_said_of_a_stream_has_a_name() -> None:
    assert sse(Item("0:5")) == b"id: 0:5\n\n"
    assert sse(hole_of(Hole("A", 1, 3))) == (b'event: hole\ndata: {"type":"hole","symbol":"A","first":1,"last":3}\n\n')
    assert sse(failure_of(ValueError("why"))) == b'event: failure\ndata: {"type":"failure","error":"why"}\n\n'
