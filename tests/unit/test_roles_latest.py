"""The newest event of each instrument: conflated, never turned back, and not stopped by what is no event."""

from __future__ import annotations

from typing import NamedTuple

import pytest

from mdstream.config import load
from mdstream.events import Trade, encode
from mdstream.records import Partition
from mdstream.roles.latest import LatestRole
from mdstream.transport.batch import Batch

TRADES = "t.trades"


class Raw(NamedTuple):
    """A record of a canonical topic."""

    key: bytes | None
    value: bytes | None
    offset: int = 0
    timestamp: int = 0
    headers: tuple[tuple[str, bytes], ...] = ()


def event(seq: int) -> bytes:
    return b'{"type":"trade","seq":%d}' % seq


def take(role: LatestRole, *records: Raw) -> list[int]:
    """Hand one batch over; where its acknowledgement will show."""
    acknowledged: list[int] = []
    role.process(
        Batch(
            Partition(TRADES, 0),
            records,
            first=0,
            next_offset=len(records),
            on_take=lambda: True,
            acknowledge=acknowledged.append,
        )
    )
    return acknowledged


@pytest.fixture
def table() -> dict[bytes, bytes]:
    return {}


@pytest.fixture
def role(table: dict[bytes, bytes]) -> LatestRole:
    return LatestRole(load(), {TRADES: table})


def test_history_is_no_latest_price(role: LatestRole, table: dict[bytes, bytes]) -> None:
    """It comes after live trades, but is older; its batches are acknowledged as any."""
    past = encode(Trade("A", 2, "binance", "7", 1.5, 1.0, "buy", 1, 2, recovered=True, backfilled=True))
    acknowledged = take(role, Raw(b"A", event(1)), Raw(b"A", past), Raw(b"B", past))
    role.flush()
    assert (table, acknowledged) == ({b"A": event(1)}, [3])


def test_flush_writes_the_newest_of_each_key_and_then_acknowledges(role: LatestRole, table: dict[bytes, bytes]) -> None:
    """Between two flushes only the last event of an instrument counts."""
    acknowledged = take(role, Raw(b"A", event(1)), Raw(b"B", event(5)), Raw(b"A", event(2)))
    assert (table, acknowledged) == ({}, [])
    role.flush()
    assert table == {b"A": event(2), b"B": event(5)}
    assert acknowledged == [3]


def test_flush_never_turns_the_clock_back(role: LatestRole, table: dict[bytes, bytes]) -> None:
    """A repeat after a crash has a number that is known."""
    for seq in (7, 6, 7):
        take(role, Raw(b"A", event(seq)))
        role.flush()
    assert table == {b"A": event(7)}


def test_a_number_that_comes_again_with_another_content_is_counted_and_reported(
    role: LatestRole, table: dict[bytes, bytes], caplog: pytest.LogCaptureFixture
) -> None:
    """What was shown first stays; a repeat with the same bytes is none."""
    other = b'{"type":"trade","seq":7,"price":1}'
    for value in (event(7), event(7), other):
        take(role, Raw(b"A", value))
        role.flush()
    assert table == {b"A": event(7)}
    [family] = role.collect()
    [sample] = family.samples
    assert (sample.name, sample.labels, sample.value) == ("mdstream_seq_conflicts_total", {"sink": "latest"}, 1)
    assert [record.levelname for record in caplog.records] == ["ERROR"]


@pytest.mark.parametrize("value", [None, b"", b"not json", b"[]", b'{"seq":null}', b'{"seq":"\xff"}'])
def test_flush_passes_over_what_is_no_event(role: LatestRole, table: dict[bytes, bytes], value: bytes | None) -> None:
    """A stranger's record is skipped and acknowledged, before and after an event is known: its neighbours go on."""
    for seq in (1, 2):
        acknowledged = take(role, Raw(b"A", value), Raw(None, event(9)), Raw(b"B", event(seq)))
        role.flush()
        assert table == {b"B": event(seq)}
        assert acknowledged == [3]


def test_flush_keeps_so_many_instruments_and_no_more(
    role: LatestRole, table: dict[bytes, bytes], monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """A feed that invents symbols must not fill the memory; what is known goes on, and it is said once."""
    monkeypatch.setattr("mdstream.roles.latest.MAX_INSTRUMENTS", 2)
    take(role, Raw(b"A", event(1)), Raw(b"B", event(1)), Raw(b"C", event(1)))
    role.flush()
    acknowledged = take(role, Raw(b"A", event(2)), Raw(b"C", event(2)))
    role.flush()
    assert table == {b"A": event(2), b"B": event(1)}
    assert acknowledged == [2]
    assert len(caplog.messages) == 1
