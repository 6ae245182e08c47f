"""A dead letter shows the record as far as it can be shown, in bounded size, and where the rest of it is."""

from __future__ import annotations

import base64
import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mdstream.stream.dead import MAX_VALUE_BYTES, dead_letter


def letter(**given_fields: Any) -> dict[str, Any]:
    fields: dict[str, Any] = {"error": "why", "topic": "md.raw.crypto", "partition": 3, "offset": 7, "key": b"K"}
    found: dict[str, Any] = json.loads(dead_letter(**fields | {"value": b"V"} | given_fields))
    return found


def test_a_letter_names_the_reason_and_the_source() -> None:
    assert letter() == {
        "error": "why",
        "source_topic": "md.raw.crypto",
        "partition": 3,
        "offset": 7,
        "key": "K",
        "value": "V",
    }


def test_bytes_that_are_no_text_are_base64() -> None:
    """Of the value, the key and each header on its own."""
    found = letter(key=b"\xff", value=b"\x80{", headers=[("p", b"okx"), ("t", b"\xfe")])
    assert (found["key"], found["key_encoding"]) == ("/w==", "base64")
    assert (found["value"], found["encoding"]) == ("gHs=", "base64")
    assert found["headers"] == [{"name": "p", "value": "okx"}, {"name": "t", "value": "/g==", "encoding": "base64"}]


def test_absent_key_and_value_are_null() -> None:
    found = letter(key=None, value=None)
    assert (found["key"], found["value"]) == (None, None)


@pytest.mark.parametrize("size", [MAX_VALUE_BYTES, MAX_VALUE_BYTES + 1, 10 << 20])
def test_a_long_value_is_cut_and_says_so(size: int) -> None:
    found = letter(value=b"x" * size)
    assert len(found["value"]) == MAX_VALUE_BYTES
    assert (found.get("truncated"), found.get("bytes")) == ((True, size) if size > MAX_VALUE_BYTES else (None, None))


def test_a_text_cut_inside_a_character_stays_text() -> None:
    found = letter(value=b"x" + "€".encode() * MAX_VALUE_BYTES)
    assert found["value"].strip("x€") == ""
    assert "encoding" not in found


def test_an_error_with_a_lone_surrogate_can_be_sent() -> None:
    """Errors quote frames, and a frame may hold anything."""
    assert letter(error="bad \ud800")["error"] == "bad \\ud800"


@settings(deadline=None)
@given(st.one_of(st.none(), st.binary(max_size=300), st.text(max_size=100).map(str.encode)))
def test_a_short_value_can_be_had_back(value: bytes | None) -> None:
    found = letter(value=value)
    text = found["value"]
    if found.get("encoding") == "base64":
        assert base64.b64decode(text) == value
    else:
        assert text == (None if value is None else value.decode())


@settings(deadline=None)
@given(st.binary(max_size=50), st.lists(st.tuples(st.text(max_size=20), st.binary(max_size=9_000)), max_size=40))
def test_a_letter_stays_small_whatever_the_headers(key: bytes, headers: list[tuple[str, bytes]]) -> None:
    sent = dead_letter(error="e" * 10_000, topic="t", partition=0, offset=0, key=key * 500, value=b"", headers=headers)
    assert len(sent) < 1 << 20
