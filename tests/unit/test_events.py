"""docs/events.md says what the code does, and the events are what they were promised to be."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any, get_args

import msgspec
import pytest
from click.testing import CliRunner
from hypothesis import given, settings
from hypothesis import strategies as st

from mdstream import events
from mdstream.events import Bar, BookL2, Event, FeedStatus, Gap, Heartbeat, ListedInstrument, Quote, Trade
from mdstream.stream.dead import dead_letter
from mdstream.tools import schema

PAGE = (Path(__file__).parents[2] / "docs" / "events.md").read_text()
TYPES: dict[str, type[Event]] = {
    "trade": Trade,
    "quote": Quote,
    "book": BookL2,
    "bar": Bar,
    "heartbeat": Heartbeat,
    "status": FeedStatus,
    "gap": Gap,
    "instrument": ListedInstrument,
}


def section(name: str) -> str:
    """The section `## name`."""
    found = re.search(rf"^## {name}\n(.*?)(?=^## |\Z)", PAGE, re.MULTILINE | re.DOTALL)
    assert found, f"docs/events.md has no section {name}"
    return found[1]


def examples(name: str, kind: str = "json") -> list[bytes]:
    return [text.encode() for text in re.findall(rf"^```{kind}\n(.*?)\n```$", section(name), re.MULTILINE)]


def test_every_type_has_a_section() -> None:
    assert set(get_args(Event)) == set(TYPES.values())
    assert [kind.__struct_config__.tag for kind in TYPES.values()] == list(TYPES)
    assert all(examples(name) for name in TYPES)


@pytest.mark.parametrize("name", TYPES)
def test_examples_are_events_byte_for_byte(name: str) -> None:
    """What the page shows is what the platform writes: fields, their order, and no spaces."""
    for example in examples(name):
        event = events.decode(example)
        assert type(event) is TYPES[name]
        assert events.encode(event) == example


@pytest.mark.parametrize("name", TYPES)
def test_tables_list_the_fields_in_order_with_null_and_defaults(name: str) -> None:
    """A field that the code has and the page has not, or the other way round, fails here."""
    rows = re.findall(r"^\| `(\w+)` \| (.*?) \| ", section(name), re.MULTILINE)
    fields = msgspec.structs.fields(TYPES[name])
    assert [field for field, _ in rows] == [field.name for field in fields]
    for (_, described), field in zip(rows, fields, strict=True):
        _, _, default = described.partition(", default ")
        assert default == ("" if field.required else json.dumps(field.default))
        assert described.endswith(" or null") == (field.required and type(None) in get_args(field.type))


def test_the_dead_letter_is_what_the_code_writes() -> None:
    (example,) = examples("Dead letters", "json dead")
    shown = json.loads(example)
    made = dead_letter(
        error=shown["error"],
        topic=shown["source_topic"],
        partition=shown["partition"],
        offset=shown["offset"],
        key=shown["key"].encode(),
        value=shown["value"].encode(),
        headers=[("p", b"binance"), ("t", (1767625200125400000).to_bytes(8, "big"))],
    )
    assert made == example


def test_null_is_written_and_a_default_is_left_out() -> None:
    """A field that the venue does not give is null; an optional one is there only when it says something."""
    trade = Trade("S", 1, "p", "1", 1.0, 2.0, None, None, 5)
    assert json.loads(events.encode(trade)) == {
        "type": "trade",
        "symbol": "S",
        "seq": 1,
        "provider": "p",
        "trade_id": "1",
        "price": 1.0,
        "size": 2.0,
        "side": None,
        "ts_exchange": None,
        "ts_recv": 5,
    }


def test_fields_of_a_later_version_are_read_past() -> None:
    """Fields are added: readers of this version go on."""
    (example, *_) = examples("heartbeat")
    assert events.decode(example[:-1] + b',"added":{"later":[1]}}') == events.decode(example)


def test_the_schema_command_prints_every_event_s_fields() -> None:
    """The schema is made from the structs: names, required ones, and the type's tag."""
    printed = json.loads(CliRunner().invoke(schema.command, catch_exceptions=False).output)
    for name, kind in TYPES.items():
        definition: dict[str, Any] = printed["$defs"][kind.__name__]
        required = [field.name for field in msgspec.structs.fields(kind) if field.required]
        assert definition["properties"]["type"] == {"enum": [name]}
        assert list(definition["properties"]) == ["type", *kind.__struct_fields__]
        assert definition["required"] == ["type", *required]


numbers = st.floats(allow_nan=False, allow_infinity=False)
times = st.integers(0, 2**63 - 1)


@settings(deadline=None)
@given(st.builds(Trade, price=numbers, size=numbers, ts_recv=times, ts_exchange=st.none() | times, seq=times))
def test_a_trade_comes_back_as_it_was(trade: Trade) -> None:
    """No digit of a number is lost on the wire, and encoding again gives the same bytes."""
    sent = events.encode(trade)
    assert events.decode(sent) == trade
    assert events.encode(events.decode(sent)) == sent
    assert b"\n" not in sent
