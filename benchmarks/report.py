"""Results as tables for people, as JSON for programs, and as promises kept or broken."""

from __future__ import annotations

import os
import platform
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from benchmarks import api
from benchmarks.api import Api
from benchmarks.books import SNAPSHOT_LEVELS, Books
from benchmarks.database import Database
from benchmarks.ingest import Ingest, Ingestor
from benchmarks.measure import Rate
from benchmarks.memory import Memory
from benchmarks.nats_role import Kind, NatsRates
from benchmarks.pipeline import REFERENCE, Row
from benchmarks.symbols import Symbols

MIN_OF_REFERENCE = 0.55
MIN_INGEST_PER_S = 60_000
MIN_OF_COPY = 0.5
MIN_OF_PUBLISH = 0.6
MAX_BACKLOG_BYTES = 300_000_000
MB = 1_000_000


@dataclass
class Results:
    """The results of one run; a part that did not run is empty."""

    broker: str
    machine: str = field(default_factory=lambda: machine())
    at: datetime = field(default_factory=lambda: datetime.now(UTC))
    pipeline: list[Row] = field(default_factory=list)
    ingest: Ingest | None = None
    database: Database | None = None
    nats: NatsRates | None = None
    memory: Memory | None = None
    api: Api | None = None
    books: Books | None = None
    symbols: tuple[Symbols, Symbols] | None = None
    """With few, and with many."""


def machine() -> str:
    """Processor, cores, memory, system and Python of this machine."""
    memory = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") / 2**30
    return (
        f"{_processor()}, {os.cpu_count()} cores, {memory:.0f} GiB, "
        f"{platform.system()} {platform.release()}, Python {platform.python_version()}"
    )


def _processor() -> str:
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        name, _, value = line.partition(":")
        if name.strip() == "model name":
            return value.strip()
    return platform.machine()


def text(results: Results) -> str:
    """The report, in Markdown, for docs/benchmarks.md."""
    parts = [f"{results.at:%Y-%m-%d %H:%M} UTC; {results.machine}; {results.broker} on the same machine."]
    if results.pipeline:
        parts += ["Raw topic to canonical topic, one process each:", _pipeline_table(results.pipeline)]
    if results.ingest is not None:
        parts += ["Websocket to raw topic, one process:", _ingest_table(results.ingest)]
        parts += ["The same with few symbols and with many:", _ingestors_table(results.ingest.few, results.ingest.many)]
    if results.database is not None:
        parts += ["Canonical topic to PostgreSQL, one connection each:", _database_table(results.database)]
    if results.nats is not None:
        parts += ["Canonical topic to NATS, one connection each:", _nats_table(results.nats)]
    if results.memory is not None:
        parts.append(_memory_line(results.memory))
    if results.api is not None:
        parts += [f"`mdstream api`, asked {api.PER_S} times a second:", _api_table(results.api), _api_line(results.api)]
    if results.books is not None:
        parts += ["A kept book, in CPU time of one process:", _books_table(results.books)]
    if results.symbols is not None:
        parts += ["Many symbols beside few, in CPU time of one process each:", _symbols_table(*results.symbols)]
    return "\n\n".join(parts)


def _pipeline_table(rows: Sequence[Row]) -> str:
    reference = next((row.rate for row in rows if row.contender.name == REFERENCE), None)
    lines = [("who", "version", "frames/s (wall)", "frames per CPU-second", "of confluent: wall", "of confluent: CPU")]
    for row in rows:
        rate = row.rate
        if rate is None:
            lines.append((row.contender.title, row.version, f"not available: {row.reason}", "", "", ""))
            continue
        wall, cpu = ratios(rate, reference)
        rates = (f"{rate.per_second:,.0f}", f"{rate.per_cpu_second:,.0f}")
        lines.append((row.contender.title, row.version, *rates, wall, cpu))
    return table(lines, texts=2)


def ratios(rate: Rate, reference: Rate | None) -> tuple[str, str]:
    """`rate` as a share of the reference, wall and CPU; dashes without one."""
    if reference is None:
        return "-", "-"
    return (
        f"{rate.per_second / reference.per_second:.2f}",
        f"{rate.per_cpu_second / reference.per_cpu_second:.2f}",
    )


def _ingest_table(ingest: Ingest) -> str:
    lines = [("who", "frames/s (wall)", "frames per CPU-second", "of the limit: wall", "of the limit: CPU")]
    for title, rate in (("mdstream ingest", ingest.ingestor), ("a bare receive loop (the limit)", ingest.bare)):
        wall, cpu = ratios(rate, ingest.bare)
        lines.append((title, f"{rate.per_second:,.0f}", f"{rate.per_cpu_second:,.0f}", wall, cpu))
    return table(lines, texts=1)


def _database_table(database: Database) -> str:
    lines = [("who", "rows/s (wall)", "rows per CPU-second", "of the limit: wall", "of the limit: CPU")]
    for title, rate in (
        ("mdstream worker timescale, from the topic", database.role),
        ("multi-row INSERT, from memory", database.insert),
        ("a bare binary COPY, from memory (the limit)", database.copy),
    ):
        wall, cpu = ratios(rate, database.copy)
        lines.append((title, f"{rate.per_second:,.0f}", f"{rate.per_cpu_second:,.0f}", wall, cpu))
    return table(lines, texts=1)


def _nats_table(found: NatsRates) -> str:
    lines = [("who", "messages/s (wall)", "messages per CPU-second", "of the limit: wall", "of the limit: CPU")]
    titles: dict[Kind, tuple[str, str]] = {
        "core": ("mdstream worker nats, from the topic", "a bare `publish` loop, from memory (the limit)"),
        "jetstream": ("the same, into a stream", "a bare `publish_async` loop, from memory (the limit)"),
    }
    for kind, (role, bare) in titles.items():
        for title, rate in ((role, found.role[kind]), (bare, found.bare[kind])):
            wall, cpu = ratios(rate, found.bare[kind])
            lines.append((title, f"{rate.per_second:,.0f}", f"{rate.per_cpu_second:,.0f}", wall, cpu))
    return table(lines, texts=1)


def _memory_line(memory: Memory) -> str:
    return (
        f"Memory of a core worker that works off a backlog of {memory.backlog:,} frames: "
        f"{memory.peak_bytes / MB:,.0f} MB at most (resident), at {memory.rate.per_second:,.0f} frames/s."
    )


def _api_table(found: Api) -> str:
    lines = [("a page of", "p50", "p99")]
    for beside, latencies in (("alone", found.alone), ("beside a slow client and the longest span", found.beside)):
        lines += [
            (f"{path}, {beside}", f"{each.p50_s * 1e3:,.1f} ms", f"{each.p99_s * 1e3:,.1f} ms")
            for path, each in latencies.items()
        ]
    return table(lines, texts=1)


def _api_line(found: Api) -> str:
    rate = found.webhook
    return (
        f"A page takes {found.page_cpu_s * 1e3:.1f} ms of the process's CPU time. Its webhook accepted "
        f"{rate.per_second:,.0f} alerts/s from {api.SENDERS} senders, {rate.per_cpu_second:,.0f} per CPU-second. "
        f"The machine's load was {found.load:.1f} before."
    )


def _books_table(books: Books) -> str:
    size, memory = books.snapshot_bytes / MB, books.memory_bytes / MB
    snapshot = f"a snapshot of {SNAPSHOT_LEVELS:,} levels ({size:.1f} MB)"
    return table(
        [
            ("what", "time"),
            ("ten changed levels of a book of 20 a side", _micros(books.small_s)),
            ("ten changed levels of a full book, 50,000 a side", _micros(books.full_s)),
            ("the same from the raw record to quotes and books", _micros(books.event_s)),
            (f"{snapshot}, decoded", _millis(books.decode_s)),
            ("applied", _millis(books.apply_s)),
            (f"from the raw record to the events ({memory:.0f} MB of memory at most)", _millis(books.step_s)),
            ("a full book as an image for a checkpoint, each 30 s", _millis(books.image_s)),
        ],
        texts=1,
    )


def _ingestors_table(few: Ingestor, many: Ingestor) -> str:
    lines = _beside(
        (few.symbols, many.symbols),
        ("a frame", few.rate.cpu_s / few.rate.frames, many.rate.cpu_s / many.rate.frames, _micros),
        ("from the start to the first record in Kafka", few.start_s, many.start_s, _millis),
        ("memory at most", few.peak_bytes, many.peak_bytes, _megabytes),
    )
    return table(lines, texts=1)


def _symbols_table(few: Symbols, many: Symbols) -> str:
    lines = _beside(
        (few.count, many.count),
        ("a frame through the core's rules", few.step_s, many.step_s, _micros),
        ("routing a frame in the ingestor", few.route_s, many.route_s, _micros),
    )
    memory = (_megabytes(found.memory_bytes) for found in (few, many))
    return table([*lines, ("memory of the instruments", *memory, "-")], texts=1)


def _beside(
    symbols: tuple[int, int], *lines: tuple[str, float, float, Callable[[float], str]]
) -> list[tuple[str, ...]]:
    """Figures with few symbols and with many, and how many times the latter are the former."""
    head = ("what", *(f"{count:,} symbols" for count in symbols), "ratio")
    return [head, *((what, form(few), form(many), f"{many / few:.2f}") for what, few, many, form in lines)]


def _micros(seconds: float) -> str:
    return f"{seconds * 1e6:,.1f} us"


def _millis(seconds: float) -> str:
    return f"{seconds * 1e3:,.0f} ms"


def _megabytes(size: float) -> str:
    return f"{size / MB:,.0f} MB"


def table(lines: Sequence[Sequence[str]], *, texts: int) -> str:
    """A Markdown table, aligned for the terminal: a header, then rows; the first `texts` columns are left-aligned."""
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]

    def row(cells: Sequence[str], fill: str = " ") -> str:
        padded = (
            cell.ljust(width, fill) if column < texts else cell.rjust(width, fill)
            for column, (cell, width) in enumerate(zip(cells, widths, strict=True))
        )
        return f"| {' | '.join(padded)} |"

    rule = row(["-" if column < texts else ":" for column in range(len(widths))], "-")
    return "\n".join([row(lines[0]), rule, *map(row, lines[1:])])


def broken(results: Results) -> list[str]:
    """The promises (docs/benchmarks.md) that these results break, as sentences; parts that did not run break none."""
    found = _broken_by_pipeline(results.pipeline) if results.pipeline else []
    if results.ingest is not None and results.ingest.ingestor.per_second < MIN_INGEST_PER_S:
        rate = results.ingest.ingestor.per_second
        found.append(f"mdstream ingest takes {rate:,.0f} frames/s, promised are {MIN_INGEST_PER_S:,}")
    if results.database is not None:
        share = results.database.role.per_second / results.database.copy.per_second
        if share < MIN_OF_COPY:
            found.append(f"the timescale role reaches {share:.2f} of a bare COPY, promised are {MIN_OF_COPY}")
    if results.nats is not None:
        found += _broken_by_nats(results.nats)
    if results.memory is not None and results.memory.peak_bytes > MAX_BACKLOG_BYTES:
        peak = results.memory.peak_bytes / MB
        found.append(f"a core worker held {peak:,.0f} MB, promised are at most {MAX_BACKLOG_BYTES / MB:,.0f}")
    return found


def _broken_by_pipeline(rows: Sequence[Row]) -> list[str]:
    rates = {row.contender.name: row.rate for row in rows}
    ours, reference = rates.get("mdstream"), rates.get(REFERENCE)
    if ours is None or reference is None:
        return [f"mdstream and {REFERENCE} have to be measured to compare them: see --only"]
    found = []
    share = ours.per_cpu_second / reference.per_cpu_second
    if share < MIN_OF_REFERENCE:
        found.append(f"mdstream reaches {share:.2f} of confluent-kafka per CPU-second, promised are {MIN_OF_REFERENCE}")
    for row in rows:
        if row.contender.kind != "framework" or row.rate is None:
            continue
        for what, mine, theirs in (
            ("frames/s", ours.per_second, row.rate.per_second),
            ("frames per CPU-second", ours.per_cpu_second, row.rate.per_cpu_second),
        ):
            if mine <= theirs:
                found.append(f"mdstream is not ahead of {row.contender.title} in {what}: {mine:,.0f} to {theirs:,.0f}")
    return found


def _broken_by_nats(rates: NatsRates) -> list[str]:
    shares = {kind: rate.per_cpu_second / rates.bare[kind].per_cpu_second for kind, rate in rates.role.items()}
    return [
        f"the nats role ({kind}) reaches {share:.2f} of a bare loop per CPU-second, promised are {MIN_OF_PUBLISH}"
        for kind, share in shares.items()
        if share < MIN_OF_PUBLISH
    ]


def as_json(results: Results) -> dict[str, Any]:
    """The results for programs: rates in frames a second, times in seconds, memory in bytes."""
    ingest, database, nats, memory = results.ingest, results.database, results.nats, results.memory
    return {
        "at": results.at.isoformat(),
        "machine": results.machine,
        "broker": results.broker,
        "pipeline": [
            {
                "name": row.contender.name,
                "kind": row.contender.kind,
                "version": row.version,
                "not_available": row.reason,
                "median": None if row.rate is None else _rate(row.rate),
                "rounds": [_rate(rate) for rate in row.rates],
            }
            for row in results.pipeline
        ],
        "ingest": ingest
        and {
            "mdstream": _rate(ingest.ingestor),
            "bare": _rate(ingest.bare),
            "by_symbols": [asdict(found) for found in (ingest.few, ingest.many)],
        },
        "database": database
        and {"mdstream": _rate(database.role), "insert": _rate(database.insert), "copy": _rate(database.copy)},
        "nats": nats
        and {kind: {"mdstream": _rate(rate), "bare": _rate(nats.bare[kind])} for kind, rate in nats.role.items()},
        "memory": memory and {"backlog": memory.backlog, "peak_bytes": memory.peak_bytes, "rate": _rate(memory.rate)},
        "api": results.api and asdict(results.api) | {"webhook": _rate(results.api.webhook)},
        "books": results.books and asdict(results.books),
        "symbols": results.symbols and [asdict(found) for found in results.symbols],
        "broken": broken(results),
    }


def _rate(rate: Rate) -> dict[str, float]:
    return {
        "frames": round(rate.frames),
        "wall_s": rate.wall_s,
        "cpu_s": rate.cpu_s,
        "per_second": rate.per_second,
        "per_cpu_second": rate.per_cpu_second,
    }
