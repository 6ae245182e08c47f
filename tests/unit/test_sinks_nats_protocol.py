"""The bytes sent to a NATS server, how a group is sorted, and which subjects a stream covers."""

from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st
from sink_builders import T0, TRADES, chunk, trade

from mdstream import events
from mdstream.config import load
from mdstream.errors import SettingsError
from mdstream.events import Bar, FeedStatus, Heartbeat, Trade
from mdstream.sinks.nats_protocol import Numbered, Place, batch, covers, place_in, windows
from mdstream.sinks.nats_wire import reason_of, servers_of
from mdstream.sinks.nats_work import Tails, commands_of, work_of

COMMAND = re.compile(rb"HPUB (\S+)(?: (\S+))? (\d+) (\d+)\r\n")
MIB = 1 << 20


def read(commands: bytes) -> list[tuple[str, str | None, dict[str, str], bytes]]:
    """Subject, reply, headers and payload of each command, as a server splits them."""
    found, at = [], 0
    while at < len(commands):
        line = COMMAND.match(commands, at)
        assert line is not None, commands[at : at + 80]
        subject, reply, head, total = (line[n] for n in range(1, 5))
        begin, middle, end = line.end(), line.end() + int(head), line.end() + int(total)
        version, *lines, blank, rest = commands[begin:middle].decode().split("\r\n")
        assert (version, blank, rest) == ("NATS/1.0", "", "")
        assert commands[end : end + 2] == b"\r\n"
        headers = dict(each.split(": ", 1) for each in lines)
        found.append((subject.decode(), reply.decode() if reply else None, headers, commands[middle:end]))
        at = end + 2
    return found


def test_batch_is_numbered_and_its_last_message_commits_it() -> None:
    """Only the first message of a subject says what has to be there before it; the ends ask for an answer."""
    messages = [Numbered("trade.A", 5, b"a5"), Numbered("trade.B", 9, b""), Numbered("trade.A", 6, b"a\r\n6")]
    commands = batch(
        messages, prefix="md.events", batch_id="x1", reply="_INBOX.1", expected={"trade.A": 17, "trade.B": 0}
    )
    own = {"Nats-Batch-Id": "x1"}
    expect = "Nats-Expected-Last-Subject-Sequence"
    assert read(commands) == [
        (
            "md.events.trade.A",
            "_INBOX.1",
            own | {"Nats-Batch-Sequence": "1", "Nats-Msg-Id": "trade.A.5", "Mdstream-Seq": "5", expect: "17"},
            b"a5",
        ),
        (
            "md.events.trade.B",
            None,
            own | {"Nats-Batch-Sequence": "2", "Nats-Msg-Id": "trade.B.9", "Mdstream-Seq": "9", expect: "0"},
            b"",
        ),
        (
            "md.events.trade.A",
            "_INBOX.1",
            own
            | {"Nats-Batch-Sequence": "3", "Nats-Msg-Id": "trade.A.6", "Mdstream-Seq": "6", "Nats-Batch-Commit": "1"},
            b"a\r\n6",
        ),
    ]


def test_batch_of_one_begins_and_commits_at_once() -> None:
    ((_, reply, headers, _),) = read(
        batch([Numbered("trade.A", 5, b"")], prefix="p", batch_id="x", reply="r", expected={})
    )
    assert reply == "r"
    assert (headers["Nats-Batch-Sequence"], headers["Nats-Batch-Commit"]) == ("1", "1")


@given(st.lists(st.integers(0, 60)), st.integers(1, 5), st.integers(1, 100))
def test_windows_hold_all_messages_in_order_within_their_limits(
    sizes: list[int], max_messages: int, max_bytes: int
) -> None:
    messages = [Numbered("trade.A", seq, bytes(size)) for seq, size in enumerate(sizes)]
    found = list(windows(messages, max_messages=max_messages, max_bytes=max_bytes))
    assert [message for window in found for message in window] == messages
    for window in found:
        assert 1 <= len(window) <= max_messages
        assert len(window) == 1 or sum(len(message.value) for message in window) <= max_bytes


@pytest.mark.parametrize(
    ("pattern", "taken"),
    [
        ("md.events.>", True),
        ("md.>", True),
        (">", True),
        ("*.events.>", True),
        ("md.events.*.>", True),  # all ours have two tokens more
        ("md.events.*.*", True),
        ("md.events.*.*.>", False),
        ("md.events.*", False),
        ("md.events.trade.>", False),
        ("md.events", False),
        ("other.>", False),
    ],
)
def test_stream_takes_in_what_one_of_its_subjects_covers(pattern: str, taken: bool) -> None:
    assert covers(["x.y", pattern], "md.events") is taken


@given(st.builds(Place, st.integers(0, 99), st.integers(0), st.integers(-1)))
def test_place_is_read_back_from_stored_headers(place: Place) -> None:
    stored = f"NATS/1.0\r\nNats-Msg-Id: x\r\nMdstream-Place: {place}\r\n\r\n".encode()
    assert place_in(stored) == place
    assert place_in(b"NATS/1.0\r\nNats-Msg-Id: x\r\n\r\n") is None


@pytest.mark.parametrize(
    ("last", "within"),
    [
        (None, False),
        (Place(3, 10, 500), True),  # that record itself
        (Place(3, 11, 501), True),  # one behind it
        (Place(3, 9, 499), False),  # one before it
        (Place(4, 99, 999), False),  # of another partition: unknown
        (Place(3, 99, 400), False),  # the topic was recreated since: offsets begin at 0, time continues
    ],
)
def test_record_is_known_where_the_last_one_is_no_earlier(last: Place | None, within: bool) -> None:
    assert Place(3, 10, 500).is_within(last) is within


# -- sorting


BAR = Bar("A", "1m", T0, 1.0, 2.0, 0.5, 1.5, 10.0, 15.0, 7, 0)


def test_group_is_sorted_by_number_and_by_subject() -> None:
    """Numbered events stay in their order, the others in theirs within their subject; payloads are the records'."""
    heartbeat = Heartbeat(events.SYSTEM, "okx", None, T0)
    group = [chunk(trade(0), BAR, trade(1), first=5), chunk(heartbeat, replace_revision(BAR, 1), first=0)]
    work = work_of(group, Tails(), max_bytes=MIB)
    assert [(m.tail, m.seq) for m in work.numbered] == [("trade.BTCUSDT", 1000), ("trade.BTCUSDT", 1001)]
    assert work.numbered[0].value == events.encode(trade(0))
    assert {tail: [o.message_id for o in others] for tail, others in work.others.items() if tail == "bar.A"} == {
        "bar.A": [f"bar.A.1m.{T0}.0", f"bar.A.1m.{T0}.1"]
    }
    assert work.others["bar.A"][0].place == Place(0, 6, 1767625200_000)
    assert list(work.others) == ["bar.A", "heartbeat.__system__"]
    assert work.refused == []


def replace_revision(bar: Bar, revision: int) -> Bar:
    fields = {name: getattr(bar, name) for name in bar.__struct_fields__}
    return Bar(**fields | {"revision": revision})


@pytest.mark.parametrize(
    ("event", "reason"),
    [
        (trade(symbol="X" * 1100), "its symbol is too long for a NATS subject"),
        (trade(conditions=("x" * MIB,)), "bytes are more than NATS takes (1,042,944)"),
        (FeedStatus("A", "é" * 2_000, "connected", None, T0), "its provider or interval is too long"),
    ],
)
def test_what_no_server_takes_is_refused_and_its_neighbours_are_sent(event: events.Event, reason: str) -> None:
    """Sending it would cost the connection, at every attempt."""
    made = chunk(trade(0), event, trade(1))
    work = work_of([made], Tails(), max_bytes=MIB)
    assert [m.seq for m in work.numbered] == [1000, 1001]
    ((partition, record, found),) = work.refused
    assert (partition, record.offset) == (TRADES, 1)
    assert reason in found


def test_live_view_gets_the_records_and_nothing_else() -> None:
    """In their order, without headers; what no server takes is left out."""
    made = chunk(trade(0), trade(symbol="X" * 1100), BAR, trade(1, conditions=("x" * MIB,)))
    commands = commands_of(made, Tails("PUB md.events.", " "), max_bytes=MIB)
    first, bar = (made.records[n].value or b"" for n in (0, 2))
    assert commands.text == b"PUB md.events.trade.BTCUSDT %d\r\n%b\r\nPUB md.events.bar.A %d\r\n%b\r\n" % (
        len(first), first, len(bar), bar,
    )  # fmt: skip
    assert commands.messages == 2
    assert [refusal.record.offset for refusal in commands.refused] == [1, 3]


def test_symbols_are_remembered_within_bounds(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("mdstream.sinks.nats_work.MAX_SUBJECTS", 3)
    tails = Tails()
    for n in range(10):
        assert tails[Trade, f"S{n}"] == f"trade.S{n}"
    assert len(tails) <= 3


# -- the settings


def test_several_servers_are_separated_by_commas() -> None:
    assert servers_of(load(nats_url="nats://a:1, tls://u:p@b:2")) == ["nats://a:1", "tls://u:p@b:2"]


@pytest.mark.parametrize("url", ["host:4222", "http://u:secret@host", "nats://", "nats://u:secret@h:port", " , "])
def test_url_that_cannot_be_used_is_reported_without_credentials(url: str) -> None:
    with pytest.raises(SettingsError, match="NATS_URL") as raised:
        servers_of(load(nats_url=url))
    assert "secret" not in str(raised.value)


def test_settings_never_show_the_url() -> None:
    assert "hunter2" not in repr(load(nats_url="nats://u:hunter2@host:4222"))


@pytest.mark.parametrize("prefix", ["", "md.", ".md", "md.*", "md events", "md.>"])
def test_prefix_that_is_no_subject_is_refused(prefix: str) -> None:
    with pytest.raises(SettingsError, match="nats_subject_prefix"):
        load(nats_subject_prefix=prefix)


@pytest.mark.parametrize(
    ("error", "reason"),
    [
        (ConnectionRefusedError(111, "Connection refused"), "no server listens there"),
        (TimeoutError(), "it does not answer"),
        (OSError(101, "Network is unreachable"), "Network is unreachable"),
    ],
)
def test_failures_have_a_reason_in_plain_words(error: OSError, reason: str) -> None:
    assert reason in reason_of(error)
