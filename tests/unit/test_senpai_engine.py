"""SenpAI's engine: rows equal to a plain computation over any stream, and what is counted in place of being used."""

from __future__ import annotations

import random
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from senpai_naive import BTC, MS, T0, Any_, S, alerts, gap, naive, quote, rows, run, switched, trade

from mdstream.events import FeedStatus, Heartbeat, Quote, encode
from mdstream.senpai import alerts as alerts_module
from mdstream.senpai import engine as engine_module
from mdstream.senpai import inputs
from mdstream.senpai.engine import Engine, Limits
from mdstream.senpai.messages import encode as encode_message

LATENCIES = ("latency_ms_p50", "latency_ms_p95")


def check(events: list[Any_], limits: Limits) -> None:
    """Every row of the engine is a row of the plain computation, and the other way round."""
    made = rows(run(events, limits))
    expected = naive(events, limits)
    assert [row.ts for row in made] == list(expected)
    for row in made:
        plain = expected[row.ts]
        assert set(row.incomplete) == plain["incomplete"]
        assert row.complete == (not plain["incomplete"])
        assert row.switched == plain["switched"]
        for name, value in row.features.items():
            accuracy = 1 / 256 if name in LATENCIES else 1e-9
            same = value == plain[name] if plain[name] is None else value == pytest.approx(plain[name], rel=accuracy)
            assert same, (row.ts, name, value, plain[name])


def stream(rng: random.Random, count: int) -> list[Any_]:
    """A symbol's events: bursts, idle minutes, late, repeated and missing ones, gaps, switches."""
    out: list[Any_] = []
    clock_ms, seqs, provider, gaps = 0.0, {"t": 10, "q": 10}, "binance", 0
    price = 100.0
    while len(out) < count:
        clock_ms += rng.choice([0.01, 1, 7, 30, 30, 120, 400, 2500, rng.choice([9_000, 61_000, 200_000])])
        kind = rng.choices(["t", "q", "switch", "gap", "hole", "repeat"], [40, 40, 1, 2, 2, 5])[0]
        latency = rng.choice([0, 0.5, 20, 80, 1500, rng.choice([-3, 15_000, 59_999, 30])])
        price *= 1 + rng.choice([0, 0, 1e-4, -1e-4, 1e-3, -2e-3])
        skew = rng.choice([0, 0, 0, 20, 49, 60, 3000])
        at_ms = max(0.0, clock_ms - latency - skew) if latency >= 0 else clock_ms - skew + 3
        if kind == "hole":
            seqs[rng.choice("tq")] += rng.choice([1, 5])
        elif kind == "switch":
            provider, previous = rng.choice(["okx", "binance", "kraken"]), provider
            out.append(switched(clock_ms, provider, previous))
        elif kind == "gap":
            out.append(gap(clock_ms, rng.choice(["open", "closed", "lost"]), str(rng.randrange(gaps + 1))))
            gaps += 1
        elif kind == "repeat" and out:
            out.append(rng.choice(out[-20:]))
        elif kind == "t":
            seqs["t"] += 1
            more: dict[str, Any] = {
                "provider": provider,
                "recovered": rng.random() < 0.05,
                "count": rng.choice([1, 1, 3]),
            }
            more |= {"ts_exchange": None} if rng.random() < 0.1 else {}
            size = rng.choice([0.0, 0.1, 1e-8, 3.3, 1e12])
            out.append(trade(seqs["t"], at_ms, price, size, late_ms=latency, **more))
        elif kind == "q":
            seqs["q"] += 1
            half = rng.choice([0, 0.01, 0.3, -0.1])
            bid, ask = rng.choice([(price - half, price + half)] * 6 + [(None, price), (price, None), (None, None)])
            more = {"provider": provider} | ({"ts_exchange": None} if rng.random() < 0.3 else {})
            out.append(quote(seqs["q"], at_ms, bid, ask, late_ms=latency, **more))
    return out


@settings(deadline=None, max_examples=60)
@given(st.integers(0, 1 << 32), st.sampled_from([1, 4, 10, 50]), st.sampled_from([0, 50, 400]))
@example(1, 10, 50)
def test_rows_equal_a_plain_computation(seed: int, rows_per_s: int, lateness_ms: int) -> None:
    """At every T, whatever the stream: values to 1e-9, and which of them are not whole."""
    rng = random.Random(seed)
    check(stream(rng, rng.choice([5, 60, 250])), Limits(rows_per_s, lateness_ms * MS))


@settings(deadline=None)
@given(st.integers(-49, 49))
def test_the_order_of_trades_and_quotes_within_the_lateness_changes_nothing(skew_ms: int) -> None:
    """They are on subjects and topics of their own: a backtest merges them differently from how they came live."""
    events = [quote(n // 2, n * 37, 99 + n % 3) if n % 2 else trade(n // 2, n * 37, 100 + n % 7) for n in range(400)]
    moved = sorted(events, key=lambda each: each.ts_recv + (skew_ms * MS if isinstance(each, Quote) else 0))
    assert rows(run(moved)) == rows(run(events))


def test_sums_do_not_drift() -> None:
    """A large trade that leaves the window takes nothing of the small ones with it; floats would leave 0 here."""
    events: list[Any_] = [trade(1, 0, 1e15, 1e15)]
    events += [trade(n, n * 20, 1e-8, 1e-8) for n in range(2, 4000)]
    last = rows(run(events))[-1].features
    assert last["trade_vwap_60s"] == 1e-8
    assert last["trade_volume_10s"] == pytest.approx(499 * 1e-8, rel=1e-12)


def test_memory_does_not_depend_on_the_rate() -> None:
    """Ten times the trades in the same time: the same slots; four bytes of latency for each."""
    engine = Engine()
    for n in range(20_000):
        engine.take(read_trade(n, n // 4))
    window = engine.symbols[BTC].window
    assert len(window._slots) <= 600
    assert len(engine.symbols[BTC].waiting) <= 1_000


def read_trade(seq: int, at_ms: int) -> Any:
    return inputs.decode(encode(trade(seq, at_ms)))


# -- what is not used


@pytest.mark.parametrize(
    ("value", "outcome"),
    [
        (b"", "malformed"),
        (b"{", "malformed"),
        (b"[1]", "malformed"),
        (b"\xff", "malformed"),
        (b'{"type":5}', "malformed"),
        (b'{"type":"trade","symbol":"X"}', "malformed"),
        (b"[" * 100_000, "malformed"),
        (b'{"type":"candle"}', "unknown"),
        (encode(trade(3, 20_000)).replace(b"100.0", b"1e999"), "malformed"),
        (encode(trade(3, 20_000)).replace(b"100.0", b'"100"'), "malformed"),
        (encode(trade(3, 20_000, symbol="X" * 10_000)), "malformed"),
        (encode(trade(3, 20_000, -5.0)), "price"),
        (encode(trade(3, 20_000, 0.0)), "price"),
        (encode(trade(3, 20_000, 1e-35, symbol="CLZ6.NYMEX")), "price"),
        (encode(trade(3, 20_000, 5.0, 1e-35)), "price"),
        (encode(trade(3, 20_000, 5.0, -1.0)), "malformed"),
        (encode(quote(3, 20_000, -1.0)), "price"),
        (encode(trade(3, 86_400_000)), "future"),
        (encode(trade(3, 20_000, ts_exchange=T0 + 86_400 * S)), "future"),
        (encode(trade(3, 20_000, ts_exchange=T0 - 86_400 * S)), "old"),
        (encode(trade(3, -86_400_000)), "late"),
        (encode(trade(1, 20_000)), "repeat"),
        (encode(Heartbeat(BTC, "binance", None, T0 + 86_400 * S)), "future"),
        (b'{"type":"book"}', "ignored"),
        (b'{"type":"bar"}', "ignored"),
    ],
    ids=lambda given: given if isinstance(given, str) else "",
)
def test_bad_input_is_counted_and_in_no_feature(value: bytes, outcome: str) -> None:
    """The rows are those of the stream without it."""
    engine, clean = Engine(), Engine()
    now = T0 + 30 * S
    for each in (trade(1, 0), quote(1, 5), trade(2, 10_000)):
        assert engine.step(encode(each), now) == clean.step(encode(each), now)
    made = engine.step(value, now)
    assert engine.counts == clean.counts + type(clean.counts)({outcome: 1})
    after = encode(trade(4, 20_500)), encode(quote(2, 20_600))
    made += [message for each in after for message in engine.step(each, now)] + engine.advance(now)
    expected = rows([m for each in after for m in clean.step(each, now)] + clean.advance(now))
    assert [(row.ts, row.features) for row in rows(made)] == [(row.ts, row.features) for row in expected] != []


def test_a_repair_that_took_long_leaves_no_hole() -> None:
    """Its trades are older than any window; their numbers count all the same, and they are no sign of life."""
    events: list[Any_] = [trade(1, 0), quote(1, 0)]
    events += [trade(2 + n, 1_000 + n, late_ms=70_000, recovered=True) for n in range(3)]
    events += [trade(5, 72_000), quote(2, 72_000)]
    engine = Engine(Limits(since_ns=T0 - 60 * S))
    made = [message for event in events for message in engine.step(encode(event))] + engine.advance(T0 + 80 * S)
    assert (engine.counts["old"], engine.counts["hole"]) == (3, 0)
    assert [alert.kind for alert in alerts(made, "gap", "stale")] == ["stale", "stale"]
    assert rows(made)[-1].complete


def test_symbols_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    """Made-up names must not fill the memory."""
    monkeypatch.setattr(engine_module, "MAX_SYMBOLS", 1)
    engine = Engine()
    engine.step(encode(trade(1, 0)))
    engine.step(encode(trade(1, 0, symbol="ETHUSDT")))
    assert engine.counts["surplus"] == 1


def test_gaps_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    """A gap beyond the limit counts as lost: it cannot be closed any more."""
    monkeypatch.setattr(engine_module, "MAX_GAPS", 1)
    events: list[Any_] = [trade(1, 0), trade(2, 60_500), gap(61_000), gap(61_100, first="6"), gap(61_200, "closed")]
    events += [gap(61_300, "closed", first="6"), trade(3, 61_500)]
    last = rows(run(events, Limits(since_ns=T0)))[-1]
    assert "trade_count_10s" in last.incomplete


def test_a_negative_price_is_one_for_what_may_have_it() -> None:
    """An oil future: no return and no spread in bps of a mid below zero."""
    found = rows(run([trade(1, 0, -37.63, symbol="CLZ6.NYMEX"), quote(1, 1, -38.0, -37.0, symbol="CLZ6.NYMEX")]))
    last = found[-1].features
    assert (last["mid"], last["spread_abs"], last["spread_bps"]) == (-37.5, 1.0, None)
    assert (last["trade_vwap_10s"], last["return_10s"]) == (-37.63, None)


# -- alerts


def test_alerts_begin_and_end_once() -> None:
    """Each with when it was seen first and last, and how often."""
    events: list[Any_] = [
        trade(1, 0),
        trade(5, 100),
        trade(7, 5_000),
        switched(6_000),
        trade(8, 7_000),
        trade(9, 70_000),
    ]
    found = [(each.kind, each.state, each.count) for each in alerts(run(events), "gap", "switched", "stale")]
    assert found == [
        ("gap", "begin", 1), ("switched", "begin", 1), ("stale", "begin", 1), ("stale", "end", 1),
        ("switched", "end", 1), ("gap", "end", 2),
    ]  # fmt: skip
    gaps = alerts(run(events), "gap")
    assert gaps[1].first_seen == T0 + 100 * MS
    assert gaps[1].last_seen == T0 + 5_000 * MS
    assert gaps[0].id == gaps[1].id


def test_a_silent_symbol_is_stale_without_any_further_event() -> None:
    engine = Engine()
    engine.step(encode(trade(1, 0)))
    engine.step(encode(trade(3, 50)))
    assert alerts(engine.advance(T0 + 9 * S), "stale") == []
    (stale,) = alerts(engine.advance(T0 + 12 * S), "stale")
    assert (stale.state, stale.first_seen) == ("begin", T0 + 50 * MS + 10 * S)
    assert [each.kind for each in alerts(engine.advance(T0 + 120 * S))] == ["gap"]
    assert engine.step(encode(Heartbeat(BTC, "binance", None, T0 + 200 * S))) == []
    assert engine.latest_ns == T0 + 200 * S


def test_high_latency_is_an_alert() -> None:
    events: list[Any_] = [trade(1, 0), trade(2, 0, late_ms=5_000), trade(3, 0, late_ms=5_100)]
    events += [trade(n, 5_200 + n) for n in range(4, 10)] + [trade(10, 6_000)]
    assert [each.state for each in alerts(run(events), "late")] == ["begin", "end"]


def test_the_queue_s_pressure_and_drops_are_alerts() -> None:
    engine = Engine()
    assert engine.queue(0.5, 0, T0) == []
    assert [each.kind for each in alerts(engine.queue(0.9, 3, T0))] == ["backpressure", "drop"]
    assert engine.queue(0.75, 2, T0 + 1) == []
    assert [each.kind for each in alerts(engine.queue(0.1, 0, T0 + 2))] == ["backpressure"]
    (ended,) = alerts(engine.advance(T0 + 62 * S))
    assert (ended.kind, ended.count, ended.last_seen) == ("drop", 5, T0 + 1)


def test_open_alerts_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(alerts_module, "MAX_OPEN", 1)
    engine = Engine()
    assert len(engine.queue(0.9, 3, T0)) == 1
    assert (len(engine.alerts), engine.alerts.unsent) == (1, 1)


def test_a_connection_that_is_lost_is_no_switch() -> None:
    lost = FeedStatus(BTC, "binance", "disconnected", None, T0 + 5 * MS)
    assert alerts(run([trade(1, 0), lost, trade(2, 10)])) == []


def test_mids_of_a_few_providers_are_kept() -> None:
    """With the policy `merge` several alternate; the return is that of the newest quote's provider, never across."""
    events = [quote(n, n * 100, 90 + n % 9, 91 + n % 9, provider=f"p{n % 9}") for n in range(300)]
    assert [row.features["return_10s"] for row in rows(run(events))][-1] is None
    two = [quote(n, n * 100, 90 + n % 2, 91 + n % 2, provider=f"p{n % 2}") for n in range(300)]
    assert {row.features["return_10s"] for row in rows(run(two))} == {None, 0.0}


MUTATED = [encode(each) for each in (trade(1, 5), quote(1, 6), switched(7), gap(8))]
VALUES = [
    b"-1",
    b"0",
    b"1e-320",
    b"-0.0",
    b"9e29",
    b"null",
    b"1e400",
    b"18446744073709551616",
    b'"\\ud800"',
    b"[]",
    b"{}",
]


@settings(deadline=None, max_examples=50)
@given(st.integers(0, 1 << 32))
def test_mutated_messages_never_end_the_engine(seed: int) -> None:
    """Values replaced, bytes removed or changed: what comes out can be encoded, and rows stay possible."""
    rng, engine = random.Random(seed), Engine()
    for n in range(60):
        value = rng.choice(MUTATED).replace(b'"seq":1', b'"seq":%d' % rng.choice([n, 1]))
        for _ in range(rng.randrange(3)):
            if rng.random() < 0.5:
                parts = value.split(b",")
                place = rng.randrange(len(parts))
                parts[place] = parts[place].partition(b":")[0] + b":" + rng.choice(VALUES)
                value = b",".join(parts)
            else:
                place = rng.randrange(len(value))
                value = value[:place] + rng.choice([b"", b"9", b'"', b"}"]) + value[place + 1 :]
        for message in engine.step(value) + engine.advance(T0 + n * S):
            assert encode_message(message)
