"""`python -m benchmarks`, which `make bench` runs."""

from __future__ import annotations

import json
import logging
import re
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import click

from benchmarks import api, books, database, ingest, memory, nats_role, pipeline, report, symbols
from benchmarks.deployment import Broker, default_broker, running
from benchmarks.warmup import warm_up
from mdstream.cli import set_up_logging
from mdstream.errors import MdstreamError
from mdstream.tools.running import run

PARTS = ("pipeline", "ingest", "database", "nats", "memory", "api", "books", "symbols")
WITHOUT_BROKER = frozenset({"books", "symbols"})
FRAMES = 400_000
QUICK_FRAMES = 100_000
QUICK_CHANGES = 2_000
INTERRUPTED = 130
_ADDRESS = re.compile(r"[^\s:,]+:\d{1,5}")


@dataclass(frozen=True)
class Plan:
    """What to measure: `parts` of PARTS, `names` of the contenders."""

    parts: tuple[str, ...]
    names: tuple[str, ...]
    count: int
    backlog: int
    rounds: int
    changes: int = books.CHANGES


def contenders(_context: click.Context, _option: click.Parameter, value: str | None) -> tuple[str, ...]:
    """The contenders' names in `a,b`, in the table's order; all if nothing was given."""
    known = tuple(contender.name for contender in pipeline.CONTENDERS)
    if value is None:
        return known
    wanted = {name.strip() for name in value.split(",") if name.strip()}
    unknown = sorted(wanted - set(known))
    if unknown or not wanted:
        raise click.BadParameter(f"{', '.join(unknown) or 'nothing'}: choose from {', '.join(known)}")
    return tuple(name for name in known if name in wanted)


def broker_choice(_context: click.Context, _option: click.Parameter, value: str | None) -> str:
    """`kafka`, `embedded` or HOST:PORT."""
    choice = value or default_broker()
    if choice not in ("kafka", "embedded") and not _ADDRESS.fullmatch(choice):
        raise click.BadParameter(f"{choice!r}: expected kafka, embedded or HOST:PORT")
    return choice


@click.command(context_settings={"help_option_names": ["-h", "--help"]})
@click.argument("parts", nargs=-1, type=click.Choice(PARTS))
@click.option(
    "--broker", callback=broker_choice, help="kafka, embedded or HOST:PORT.  [default: kafka with Java and Maven]"
)
@click.option("--frames", "count", type=click.IntRange(min=1000), help=f"Raw frames each.  [default: {FRAMES:,}]")
@click.option("--only", "names", callback=contenders, help="Contenders, comma-separated.  [default: all]")
@click.option("--repeat", "rounds", type=click.IntRange(1, 100), default=1, help="Rounds; the middle one counts.")
@click.option("--backlog", type=click.IntRange(min=1000), default=memory.BACKLOG, help="Frames of the memory part.")
@click.option(
    "--quick",
    is_flag=True,
    help=f"{QUICK_FRAMES:,} frames, {QUICK_CHANGES:,} changes of books, no memory part unless it is named.",
)
@click.option("--json", "json_file", type=click.Path(dir_okay=False, writable=True, path_type=Path), help="Write here.")
@click.option("--check", is_flag=True, help="Exit 1 where a promise of docs/benchmarks.md is broken.")
def command(
    parts: tuple[str, ...],
    broker: str,
    count: int | None,
    names: tuple[str, ...],
    rounds: int,
    backlog: int,
    quick: bool,
    json_file: Path | None,
    check: bool,
) -> None:
    """Measure mdstream beside other ways to do the same; the report goes to stdout, progress to stderr.

    \b
    pipeline  raw topic to canonical topic, beside other frameworks and plain clients
    ingest    websocket to raw topic, beside a bare receive loop
    database  canonical topic to PostgreSQL, beside a bare COPY and multi-row INSERTs
    nats      canonical topic to NATS and JetStream, beside bare publish loops
    memory    of a core worker that works off a backlog
    api       pages of the history at 200 requests a second, accepted alerts of the webhook
    books     a change of a kept book, a snapshot of 200,000 levels; needs no broker
    symbols   5,000 symbols beside 10 in the rules of one partition; needs no broker

    All of them unless some are named. The contenders' packages are installed into .bench/ the first time.

    \b
    Examples:
      python -m benchmarks                                   all, about twelve minutes
      python -m benchmarks pipeline --only mdstream,confluent --repeat 5
      python -m benchmarks ingest --broker embedded
      python -m benchmarks --check --json numbers.json
    """
    set_up_logging(logging.WARNING)
    if not sys.platform.startswith("linux"):
        raise click.UsageError("CPU time and memory are read from /proc: this needs Linux")
    default_parts = tuple(part for part in PARTS if not (quick and part == "memory"))
    chosen = tuple(dict.fromkeys(parts)) or default_parts
    plan = Plan(
        chosen,
        names,
        count or (QUICK_FRAMES if quick else FRAMES),
        backlog,
        rounds,
        QUICK_CHANGES if quick else books.CHANGES,
    )
    results = measure(plan, broker)
    click.echo(report.text(results))
    if json_file is not None:
        json_file.write_text(json.dumps(report.as_json(results), indent=2) + "\n")
    if check and (broken := report.broken(results)):
        raise click.ClickException("; ".join(broken))


def measure(plan: Plan, choice: str) -> report.Results:
    """Start what is needed, measure every part, and stop everything."""
    rows: list[pipeline.Row] = []
    if "pipeline" in plan.parts:
        click.echo("installing the contenders' packages into .bench/ where they are not there yet", err=True)
        rows = pipeline.prepare(plan.names)
    if WITHOUT_BROKER.issuperset(plan.parts):
        with tempfile.TemporaryDirectory(prefix="mdstream-bench-") as folder:
            alone = report.Results("no broker")
            _without_broker(plan, alone, Path(folder))
            return alone
    with running(choice) as broker, tempfile.TemporaryDirectory(prefix="mdstream-bench-") as folder:
        click.echo(f"{broker.title} at {broker.bootstrap}; warming it up", err=True)
        results = run(_measure(plan, broker, rows, Path(folder)))
    if results is None:
        sys.exit(INTERRUPTED)
    return results


async def _measure(plan: Plan, cold: Broker, rows: Sequence[pipeline.Row], folder: Path) -> report.Results:
    broker = await warm_up(cold)
    results = report.Results(broker.title, pipeline=list(rows))
    if rows:
        await pipeline.measure(broker, rows, count=plan.count, rounds=plan.rounds, folder=folder)
    if "ingest" in plan.parts:
        results.ingest = await ingest.measure(broker, count=plan.count, folder=folder)
    if "database" in plan.parts:
        results.database = await database.measure(broker, count=plan.count, folder=folder)
    if "nats" in plan.parts:
        results.nats = await nats_role.measure(broker, count=plan.count, folder=folder)
    if "memory" in plan.parts:
        results.memory = await memory.measure(broker, backlog=plan.backlog, folder=folder)
    if "api" in plan.parts:
        results.api = await api.measure(broker, folder=folder)
    _without_broker(plan, results, folder)
    return results


def _without_broker(plan: Plan, results: report.Results, folder: Path) -> None:
    if "books" in plan.parts:
        results.books = books.measure(changes=plan.changes, folder=folder)
    if "symbols" in plan.parts:
        results.symbols = symbols.measure(count=plan.count, folder=folder)


def main() -> None:
    """Run the command line: exit 1 on a failure of ours, 2 for wrong arguments."""
    try:
        command(prog_name="python -m benchmarks")
    except (MdstreamError, AssertionError) as error:  # AssertionError: processes.py's "not in time"
        click.echo(f"benchmarks: {error}", err=True)
        sys.exit(1)


if __name__ == "__main__":
    main()
