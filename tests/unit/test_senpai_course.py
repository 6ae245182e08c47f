"""An engine driven by its stream alone: when time passes, where a restart begins, which symbols are whose."""

from __future__ import annotations

import random
from collections import Counter
from typing import Any

import msgspec
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from senpai_naive import T0, S, quote, rows, signals, trade

from mdstream.errors import SettingsError
from mdstream.events import SYSTEM, Heartbeat, encode
from mdstream.senpai import course as module
from mdstream.senpai.alerts import Open
from mdstream.senpai.course import Course
from mdstream.senpai.engine import Engine, Limits
from mdstream.senpai.messages import Alert, Message
from mdstream.senpai.messages import encode as encode_message
from mdstream.senpai.outlet import Outlet, commands
from mdstream.senpai.share import Share, share_of


def heartbeat(at_ms: float) -> Heartbeat:
    return Heartbeat(SYSTEM, "binance", None, T0 + int(at_ms * 1e6))


def run(course: Course, events: list[Any], first: int = 1) -> list[Message]:
    """All messages of events at the positions from `first` on."""
    return [message for at, event in enumerate(events, first) for message in course.all(encode(event), position=at)]


def test_a_silent_symbol_s_last_row_is_made_by_what_others_receive() -> None:
    course = Course(Engine())
    assert rows(run(course, [trade(1, 10)])) == []
    assert rows(run(course, [heartbeat(1_000)])) == []
    (row,) = rows(run(course, [heartbeat(1_300)]))
    assert row.ts == T0 + S // 10


def test_time_that_passes_at_once_for_many_symbols_comes_in_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each part is small enough for a batch; nothing of it is left out."""
    monkeypatch.setattr(module, "MOST", 10)
    course = Course(Engine())
    run(course, [trade(1, 10, symbol=f"S{n}") for n in range(35)])
    made = course.step(encode(heartbeat(20_000)))
    parts = [made]
    while course.unfinished:
        parts.append(course.proceed())
    assert max(map(len, parts)) <= 12
    assert len(rows([each for part in parts for each in part])) == 35
    assert sum(isinstance(each, Alert) for part in parts for each in part) == 35  # each is stale
    at_once = Course(Engine())
    run(at_once, [trade(1, 10, symbol=f"S{n}") for n in range(35)])
    assert run(at_once, [heartbeat(20_000)]) == [each for part in parts for each in part]


def swings(rng: random.Random, count: int) -> list[Any]:
    """Two symbols whose mids swing by a percent, holes, silences, a heartbeat now and then."""
    made: list[Any] = []
    price, at_ms, seqs = 100.0, 0.0, {"A": 0, "B": 0}
    for number in range(count):
        at_ms += rng.choice([20, 50, 100, 100, 3_000])
        price *= 1 + rng.choice([-1, 1, 1]) * 4e-4
        symbol = rng.choice("AAAAB")
        seqs[symbol] += rng.choice([1] * 50 + [2])
        seq = seqs[symbol]
        made.append(trade(seq, at_ms, price, 2.0, symbol=symbol))
        made.append(quote(seq, at_ms + 1, price - 0.001, price + 0.001, symbol=symbol))
        if number % 20 == 0:
            made.append(heartbeat(at_ms))
    return [*made, heartbeat(at_ms + 90_000)]


@settings(max_examples=20)
@given(st.integers(0, 1 << 32))
def test_a_restart_from_a_position_changes_no_message(seed: int) -> None:
    """Any message stream cut anywhere: memory, and the events after `start`, give the rest; alerts as well."""
    rng = random.Random(seed)
    events, limits = swings(rng, 150), Limits(stale_ns=2 * S, since_ns=rng.choice([None, T0 - 60 * S]))
    cut = rng.randrange(1, len(events))
    first = Course(Engine(limits))
    made = run(first, events[:cut])
    whole = run(Course(Engine(limits)), events)
    second = Course(Engine(limits))
    second.engine.remember(first.engine.memory())
    assert first.start is not None
    run(second, events[first.start : cut], first.start + 1)
    second.engine.resume()
    made += run(second, events[cut:], cut + 1)
    assert rows(made) == rows(whole)
    assert signals(made) == signals(whole)
    assert Counter(map(encode_message, made)) == Counter(map(encode_message, whole))  # alerts of one time in any order


@settings(max_examples=20)
@given(st.integers(2, 400), st.sampled_from([5, 70, 120]))
@example(200, 120)
@example(176, 5)
def test_a_silent_symbol_is_stale_in_time_whatever_it_was_silent_across(cut: int, stale_s: int) -> None:
    """A restart steps the last minute again: of who was silent for longer, only the memory knows since when.

    time     100 s    176 to 219    220      300
    B        trade                  stale    trade, no longer stale
    restart           ---------
    """
    limits = Limits(stale_ns=stale_s * S, since_ns=T0 - 60 * S)
    events: list[Any] = [trade(n, n * 1000, symbol="A") for n in range(401)]
    events[100] = trade(1, 100_000, symbol="B")
    events[300] = trade(2, 300_000, symbol="B")
    first, second = Course(Engine(limits)), Course(Engine(limits))
    made = run(first, events[:cut])
    second.engine.remember(first.engine.memory())
    assert first.start is not None
    run(second, events[first.start : cut], first.start + 1)
    second.engine.resume()
    made += run(second, events[cut:], cut + 1)
    expected = [each for each in run(Course(Engine(limits)), events) if isinstance(each, Alert)]
    assert [each for each in made if isinstance(each, Alert)] == expected
    stale = [(each.state, each.first_seen) for each in expected if each.symbol == "B" and each.kind == "stale"]
    assert stale[:2] == [("begin", T0 + (100 + stale_s) * S), ("end", T0 + (100 + stale_s) * S)]


@settings(max_examples=20)
@given(st.integers(0, 1 << 32))
def test_the_memory_is_the_same_however_often_it_was_asked_for(seed: int) -> None:
    """Each batch holds it: what has not changed of it is not packed again. After a restart as well."""
    rng = random.Random(seed)
    events, limits = swings(rng, 80), Limits(stale_ns=2 * S)
    cut = rng.randrange(1, len(events))
    often, once = Course(Engine(limits)), Course(Engine(limits))
    for at, event in enumerate(events):
        if at == cut:
            memory = often.engine.memory()
            assert memory == once.engine.memory()
            often, once = Course(Engine(limits)), Course(Engine(limits))
            for each in (often.engine, once.engine):
                each.remember(memory)
                each.resume()
        for course in (often, once):
            run(course, [event], at)
        often.engine.memory()
    assert often.engine.memory() == once.engine.memory()


def test_the_memory_is_that_of_an_event_that_waited() -> None:
    """It is used as time passes: the input then begins with it."""
    often, once = Engine(), Engine()
    for engine in (often, once):
        engine.step(encode(trade(1, 20)))
        engine.step(encode(quote(1, 10)))
        if engine is often:
            engine.memory()
        assert engine.advance(T0 + 60_000_000) == []
    assert often.memory() == once.memory()


def test_a_memory_of_an_older_version_is_read() -> None:
    """It does not say when a symbol was last heard: that is then its next event."""
    first, second = Engine(), Engine()
    first.step(encode(trade(5, 0)))
    symbols, open_alerts = msgspec.msgpack.decode(first.memory())
    older = {name: each[:-1] for name, each in symbols.items()}
    second.remember(msgspec.msgpack.encode([older, open_alerts]))
    second.resume()
    made = second.step(encode(trade(7, 100_000)))
    assert [each.kind for each in made if isinstance(each, Alert)] == ["gap"]


def test_a_restart_goes_back_a_minute_and_a_little_and_no_further() -> None:
    course = Course(Engine())
    events = [trade(n, n * 1000) for n in range(300)]
    assert course.start is None
    run(course, events[:1])
    assert course.start == 0
    run(course, events[1:], 2)
    assert course.start is not None
    assert 210 <= course.start <= 300 - 75


def test_a_hole_across_a_restart_is_seen_though_the_symbol_was_silent() -> None:
    first, second = Engine(), Engine()
    first.step(encode(trade(5, 0)))
    second.remember(first.memory())
    second.resume()
    second.step(encode(trade(7, 100_000)))
    assert (second.counts["hole"], second.counts["missing"]) == (1, 1)


def test_input_that_is_no_longer_there_makes_windows_incomplete() -> None:
    """The stream keeps less than the last minute: whatever the memory says, it is read anew."""
    limits = Limits(since_ns=T0 - 60 * S)
    for whole in (True, False):
        first, second = Engine(limits), Engine()
        first.step(encode(trade(5, 0)))
        second.remember(first.memory(), whole=whole)
        second.resume()
        second.step(encode(trade(6, 10)))
        (row,) = rows(second.advance(T0 + S))
        assert row.complete == whole


def test_a_symbol_that_was_silent_for_a_week_is_forgotten() -> None:
    """A memory holds the symbols of a week, however many there have ever been."""
    first, second = Engine(), Engine()
    for symbol, day in (("A", 0), ("B", 5), ("C", 8)):
        first.step(encode(trade(1, day * 86_400_000, symbol=symbol)))
    second.remember(first.memory())
    second.resume()
    assert set(second.symbols) == {"B", "C"}


def test_an_alert_that_began_before_a_restart_ends_after_it() -> None:
    first, second = Engine(), Engine()
    first.step(encode(trade(5, 0)))
    (begun,) = first.advance(T0 + 20 * S)[-1:]
    second.remember(first.memory())
    second.resume()
    made = [each for n in (6, 7) for each in second.step(encode(trade(n, 200_000 + n)))]
    (ended,) = [each for each in made if isinstance(each, Alert)]
    assert isinstance(begun, Alert)
    assert (begun.kind, begun.state, ended.state, ended.id) == ("stale", "begin", "end", begun.id)


def test_alerts_are_what_is_remembered() -> None:
    engine = Engine()
    engine.alerts.remember([Open(kind="gap", symbol="S", subject="", first_ns=1, last_ns=2, count=3, reason="r")])
    assert [each.count for each in engine.alerts.memory()] == [3]


# -- shares


@settings(max_examples=50)
@given(st.text(min_size=1), st.integers(1, 9))
def test_a_symbol_belongs_to_one_member_and_time_to_all(token: str, members: int) -> None:
    shares = [Share(member + 1, members) for member in range(members)]
    assert sum(share.has("trade", token) for share in shares) == 1
    assert [share.has("trade", token) for share in shares] == [share.has("quote", token) for share in shares]
    assert all(share.has("heartbeat", token) for share in shares)


@pytest.mark.parametrize("text", ["", "1", "0/3", "4/3", "1/65", "a/b", "1/", "-1/2", "1/2/3"])
def test_a_wrong_member_is_refused(text: str) -> None:
    with pytest.raises(SettingsError, match="expected the number of this process and of all, like 2/3"):
        share_of(text)


def test_members_have_names_and_subjects_of_their_own() -> None:
    share = share_of("2/3")
    assert share.name == "senpai-md-2-of-3"
    assert share.stream("MDSTREAM") == "MDSTREAM-BY-3"
    assert share.subjects("md.events") == ["md.events-by-3.1.>", "md.events-by-3.all.>"]


def test_the_server_copies_each_type_of_event_by_the_hash_of_its_symbol_and_heartbeats_to_all() -> None:
    """What docs.nats.io says of partition(): of so many, by the first wildcard."""
    source = Share(1, 3).copied("MDSTREAM", "md.events")
    assert source["name"] == "MDSTREAM"
    to = {each["src"]: each["dest"] for each in source["subject_transforms"]}
    assert to["md.events.trade.*"] == "md.events-by-3.{{partition(3,1)}}.trade.{{wildcard(1)}}"
    assert to["md.events.heartbeat.*"] == "md.events-by-3.all.heartbeat.{{wildcard(1)}}"
    assert set(to) == set(Share().subjects("md.events"))


def test_a_lone_consumer_reads_the_stream_of_all_events() -> None:
    share = share_of("1/1")
    assert (share.stream("MDSTREAM"), share.name) == ("MDSTREAM", "senpai-md")


# -- the way out


def test_messages_are_published_under_one_token_a_symbol() -> None:
    """As events are: a dot in a symbol does not end its token."""
    engine, outlet = Engine(), Outlet()
    engine.step(encode(trade(1, 10, symbol="BRK.B")))
    outputs = outlet.outputs(engine.advance(T0 + 20 * S))
    assert [each.tail for each in outputs] == ["features.BRK%2EB", "alerts"]
    size = len(outputs[0].value)
    assert commands("senpai", outputs[:1]).startswith(f"PUB senpai.features.BRK%2EB {size}\r\n{{".encode())


def test_a_symbol_too_long_for_a_subject_is_counted() -> None:
    engine, outlet = Engine(), Outlet()
    engine.step(encode(trade(1, 10, symbol="é" * 256)))
    assert outlet.outputs(engine.advance(T0 + S)) == []
    assert outlet.refused == 1
