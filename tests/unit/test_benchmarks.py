"""The benchmark's own logic, without a broker: arguments, frames, the work of the contenders, tables, promises."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from typing import Any

import click
import msgspec
import pytest
from click.testing import CliRunner

from benchmarks import __main__ as entry
from benchmarks import api, books, environment, frames, report, symbols
from benchmarks.api import Api, Latency
from benchmarks.books import Books
from benchmarks.database import Database
from benchmarks.ingest import Ingest, Ingestor
from benchmarks.measure import Rate, last_words
from benchmarks.memory import Memory
from benchmarks.nats_role import Kind, NatsRates
from benchmarks.peers.work import Normaliser
from benchmarks.pipeline import CONTENDERS, Row
from benchmarks.symbols import Symbols
from mdstream.ticks import TradeTick
from mdstream.venues.binance.feed import Binance


def row(name: str, *per_cpu_second: float, wall_s: float = 1.0, reason: str | None = None) -> Row:
    """A contender that took `wall_s` for as many frames as it does in a CPU second."""
    contender = next(contender for contender in CONTENDERS if contender.name == name)
    return Row(contender, "1.0", [Rate(rate, wall_s, 1.0) for rate in per_cpu_second], reason)


def nats_rates(core: float, jetstream: float) -> NatsRates:
    """The role's rates beside a bare loop of a hundred a second."""
    role: dict[Kind, Rate] = {"core": Rate(core, 1.0, 1.0), "jetstream": Rate(jetstream, 1.0, 1.0)}
    return NatsRates(role, {"core": Rate(100, 1.0, 1.0), "jetstream": Rate(100, 1.0, 1.0)})


def ingest(per_second: float, cpu_s: float = 1.0) -> Ingest:
    """An ingestor that took `cpu_s` in a second, beside a loop four times as fast as 70,000 frames a second."""
    few = Ingestor(10, Rate(100, 1.0, 0.001), 1.0, 100_000_000)
    many = Ingestor(5_000, Rate(100, 1.0, 0.0012), 1.1, 120_000_000)
    return Ingest(Rate(per_second, 1.0, cpu_s), Rate(280_000, 1.0, 1.0), few, many)


def results(**parts: Any) -> report.Results:
    """Results of a machine and a day that do not change."""
    return report.Results("a broker", machine="a machine", at=datetime(2026, 1, 2, 3, 4, tzinfo=UTC), **parts)


# ----------------------------------------------------------------------------------------------------------- arguments


def only(value: str | None) -> tuple[str, ...]:
    context = click.Context(entry.command)
    return entry.contenders(context, context.command.params[0], value)


def test_only_keeps_the_tables_order() -> None:
    """Whatever order the names are given in, the reference stays last."""
    assert only("confluent, mdstream") == ("mdstream", "confluent")


def test_only_left_out_means_every_contender() -> None:
    """Without --only all seven are measured."""
    assert only(None) == ("mdstream", "faust", "faststream", "quixstreams", "bytewax", "aiokafka", "confluent")


@pytest.mark.parametrize(
    ("args", "message"),
    [
        (["--only", "spark"], "spark: choose from mdstream, faust"),
        (["--only", ","], "nothing: choose from"),
        (["--broker", "localhost"], "'localhost': expected kafka, embedded or HOST:PORT"),
        (["--frames", "10"], "10 is not in the range"),
        (["--repeat", "0"], "0 is not in the range"),
        (["disk"], "'disk' is not one of"),
    ],
)
def test_a_wrong_argument_is_refused_before_anything_starts(args: list[str], message: str) -> None:
    """Exit status 2, with what is allowed."""
    ended = CliRunner().invoke(entry.command, args)
    assert ended.exit_code == 2
    assert message in ended.output


def test_help_names_the_parts() -> None:
    """--help teaches what is measured."""
    output = CliRunner().invoke(entry.command, ["--help"]).output
    assert all(part in output for part in entry.PARTS)


# ------------------------------------------------------------------------------------------------- frames and the work


def test_frames_decode_to_the_trades_they_were_made_of() -> None:
    """mdstream's provider reads the same facts out of a frame's text as it was made of."""
    for number in (0, 1, 98, 99, 100, 12_345):
        _, text, _ = frames.frame(number)
        (tick,) = Binance().decode(text)
        assert isinstance(tick, TradeTick)
        wanted = frames.trade(number)
        facts = (tick.symbol, tick.trade_id, tick.price, tick.size, tick.side, tick.ts_exchange)
        assert facts == (
            wanted.symbol,
            wanted.trade_id,
            wanted.price,
            wanted.size,
            wanted.side,
            wanted.ts_exchange,
        )


def test_every_hundredth_frame_repeats_the_one_before() -> None:
    """The contenders have repeats to drop."""
    assert frames.frame(199) == frames.frame(198)
    assert frames.unique(1000) == 990


def test_contenders_drop_repeats_and_number_trades_without_a_hole() -> None:
    """The work of the contenders gives what is expected of them, each trade once, `seq` rising by one per symbol."""
    normalise, found = Normaliser(), []
    for number in range(1000):
        _, text, received_ns = frames.frame(number)
        if (value := normalise(text, [("p", b"binance"), ("t", received_ns.to_bytes(8, "big"))])) is not None:
            found.append(value)
    trades = msgspec.json.Decoder(frames.Trade)
    assert [trades.decode(value) for value in found] == [
        frames.trade(number) for number in range(1000) if number % 100 != 99
    ]
    numbers = [event["seq"] for event in map(json.loads, found) if event["symbol"] == "S0USDT"]
    assert numbers == list(range(numbers[0], numbers[0] + len(numbers)))


def test_books_are_measured_on_frames_that_are_all_taken(monkeypatch: pytest.MonkeyPatch) -> None:
    """A snapshot of more levels than are kept, and changes of which books and quotes come."""
    monkeypatch.setattr(books, "SNAPSHOT_LEVELS", 4_000)
    found = books.run(40)
    assert min(found.small_s, found.full_s, found.event_s, found.decode_s, found.apply_s, found.step_s) > 0
    assert found.snapshot_bytes == len(books.snapshot(2_000))


def test_pins_are_read_from_requirements() -> None:
    """Comments and blank lines are no packages; every package of a contender is pinned."""
    assert environment.pins("# a\n\nx==1.0  # why\ny==2\n") == {"x": "1.0", "y": "2"}
    pinned = environment.pins(environment.REQUIREMENTS.read_text())
    wanted = {package for contender in CONTENDERS for package in contender.packages}
    assert wanted | set(environment.WORK_NEEDS) <= set(pinned)


def test_last_words_are_the_last_line_that_says_something() -> None:
    """Of a traceback, its exception; of silence, that there was none."""
    assert last_words("Traceback\n  File x\nValueError: no\n\n") == "ValueError: no"
    assert last_words("\n") == "it says nothing"


# -------------------------------------------------------------------------------------------------------------- report


def test_the_middle_round_counts() -> None:
    """Of several rounds the median by CPU is shown; of two the lower one."""
    middle, lower = row("bytewax", 30.0, 10.0, 20.0).rate, row("bytewax", 30.0, 10.0).rate
    assert middle is not None
    assert lower is not None
    assert (middle.per_cpu_second, lower.per_cpu_second) == (20.0, 10.0)


def test_text_shows_rates_ratios_and_reasons() -> None:
    """Rates, their share of confluent-kafka by hand, and why a contender is missing."""
    found = report.text(
        results(
            pipeline=[
                row("mdstream", 150_000.0, wall_s=2.0),
                row("bytewax", reason="no wheel"),
                row("confluent", 200_000.0),
            ],
            ingest=ingest(70_000, 0.5),
            database=Database(Rate(60_000, 1.0, 1.0), Rate(80_000, 1.0, 0.5), Rate(20_000, 1.0, 1.0)),
            nats=nats_rates(80, 120),
            memory=Memory(2_000_000, 250_000_000, Rate(80_000, 1.0, 1.0)),
            books=Books(1e-5, 2e-5, 3e-5, 0.05, 0.1, 0.2, 0.06, 4_400_000, 50_000_000),
        )
    )
    cells = [[cell.strip() for cell in line.strip("|").split("|")] for line in found.splitlines() if "|" in line]
    assert cells[2][2:] == ["75,000", "150,000", "0.38", "0.75"]
    assert cells[3][2] == "not available: no wheel"
    assert cells[4][4:] == ["1.00", "1.00"]
    assert cells[7] == ["mdstream ingest", "70,000", "140,000", "0.25", "0.50"]
    assert cells[11:14] == [
        ["a frame", "10.0 us", "12.0 us", "1.20"],
        ["from the start to the first record in Kafka", "1,000 ms", "1,100 ms", "1.10"],
        ["memory at most", "100 MB", "120 MB", "1.20"],
    ]
    assert cells[16] == ["mdstream worker timescale, from the topic", "60,000", "60,000", "0.75", "0.38"]
    assert cells[21] == ["mdstream worker nats, from the topic", "80", "80", "0.80", "0.80"]
    assert cells[23] == ["the same, into a stream", "120", "120", "1.20", "1.20"]
    assert cells[-6:-4] == [
        ["ten changed levels of a full book, 50,000 a side", "20.0 us"],
        ["the same from the raw record to quotes and books", "30.0 us"],
    ]
    assert found.startswith("2026-01-02 03:04 UTC; a machine; a broker on the same machine.")
    assert "backlog of 2,000,000 frames: 250 MB at most (resident), at 80,000 frames/s." in found


def test_many_symbols_are_shown_as_a_multiple_of_few() -> None:
    """CPU of a frame; memory as it is."""
    found = Symbols(10, 4e-6, 5e-7, 4_000_000), Symbols(5_000, 1e-5, 6e-7, 25_000_000)
    lines = report.text(results(symbols=found)).splitlines()[-3:]
    cells = [[cell.strip() for cell in line.strip("|").split("|")] for line in lines]
    assert cells[0] == ["a frame through the core's rules", "4.0 us", "10.0 us", "2.50"]
    assert cells[2] == ["memory of the instruments", "4 MB", "25 MB", "-"]


def test_latencies_are_shown_alone_and_beside_others_with_the_machines_load() -> None:
    """Their middle, and what one in a hundred exceeds; the webhook's rate by the wall and by CPU."""
    took = Latency(0.0012, 0.0345)
    found = report.text(results(api=Api({"/v1/bars": took}, 0.0021, {"/v1/bars": took}, Rate(10_000, 10.0, 8.0), 1.25)))
    cells = [[cell.strip() for cell in line.strip("|").split("|")] for line in found.splitlines() if "|" in line]
    assert cells[2:] == [
        ["/v1/bars, alone", "1.2 ms", "34.5 ms"],
        ["/v1/bars, beside a slow client and the longest span", "1.2 ms", "34.5 ms"],
    ]
    assert "A page takes 2.1 ms of the process's CPU time." in found
    assert "accepted 1,000 alerts/s from 50 senders, 1,250 per CPU-second. The machine's load was 1.2 before." in found
    shown = report.as_json(results(api=Api({"/v1/bars": took}, 0.0021, {}, Rate(10_000, 10.0, 8.0), 1.25)))["api"]
    assert (shown["alone"], shown["webhook"]["per_second"]) == (
        {"/v1/bars": {"p50_s": 0.0012, "p99_s": 0.0345}},
        1000.0,
    )


def test_one_in_a_hundred_takes_longer_than_the_p99() -> None:
    """Whatever the order in which the answers came."""
    found = api.latency([float(number) for number in reversed(range(1000))])
    assert (found.p50_s, found.p99_s) == (500.0, 990.0)


def test_many_symbols_are_measured_on_frames_that_are_all_taken() -> None:
    """Each symbol has its state before the clock starts."""
    found = symbols.run(20, 2_000)
    assert found.count == 20
    assert min(found.step_s, found.route_s) > 0


def test_ratios_are_dashes_without_the_reference() -> None:
    """Where confluent-kafka was left out there is nothing to compare with."""
    assert report.ratios(Rate(1, 1.0, 1.0), None) == ("-", "-")


def test_tables_are_aligned() -> None:
    """Every line is as wide as the head; texts lean left, numbers right."""
    assert report.table([("who", "n"), ("a", "1,000")], texts=1) == (
        "| who |     n |\n| --- | ----: |\n| a   | 1,000 |"
    )


@pytest.mark.parametrize(
    ("parts", "sentence"),
    [
        ({"pipeline": [row("mdstream", 120.0), row("bytewax", 100.0), row("confluent", 200.0)]}, None),
        ({"pipeline": [row("mdstream", 108.0), row("confluent", 200.0)]}, "mdstream reaches 0.54 of confluent-kafka"),
        (
            {"pipeline": [row("mdstream", 120.0, wall_s=2.0), row("bytewax", 100.0), row("confluent", 200.0)]},
            "mdstream is not ahead of Bytewax in frames/s: 60 to 100",
        ),
        (
            {"pipeline": [row("mdstream", 120.0), row("quixstreams", 130.0, wall_s=9.0), row("confluent", 200.0)]},
            "mdstream is not ahead of Quix Streams in frames per CPU-second: 120 to 130",
        ),
        ({"pipeline": [row("mdstream", 120.0), row("aiokafka", 150.0), row("confluent", 200.0)]}, None),
        ({"pipeline": [row("mdstream", 120.0)]}, "mdstream and confluent have to be measured"),
        ({"ingest": ingest(59_000)}, "mdstream ingest takes 59,000 frames/s"),
        ({"database": Database(Rate(50, 1.0, 1.0), Rate(100, 1.0, 1.0), Rate(10, 1.0, 1.0))}, None),
        (
            {"database": Database(Rate(49, 1.0, 1.0), Rate(100, 1.0, 1.0), Rate(10, 1.0, 1.0))},
            "the timescale role reaches 0.49 of a bare COPY",
        ),
        ({"nats": nats_rates(60, 60)}, None),
        ({"nats": nats_rates(60, 59)}, "the nats role (jetstream) reaches 0.59 of a bare loop"),
        ({"memory": Memory(1, 301_000_000, Rate(1, 1.0, 1.0))}, "a core worker held 301 MB"),
    ],
)
def test_a_broken_promise_is_a_sentence(parts: dict[str, Any], sentence: str | None) -> None:
    """Ahead of every framework in both columns, 0.55 of confluent-kafka per CPU-second, 60,000 frames/s, 300 MB."""
    found = report.broken(results(**parts))
    assert found == [] if sentence is None else len(found) == 1 and found[0].startswith(sentence)


def test_json_holds_every_round() -> None:
    """What a program needs to compare runs: all rounds, the one that counts, and what is not available."""
    found = report.as_json(results(pipeline=[row("mdstream", 10.0, 30.0, 20.0), row("faust", reason="why")]))
    json.dumps(found)
    own, faust = found["pipeline"]
    assert [rate["per_cpu_second"] for rate in own["rounds"]] == [10.0, 30.0, 20.0]
    assert own["median"]["per_cpu_second"] == 20.0
    assert (faust["median"], faust["not_available"]) == (None, "why")
