"""`mdstream audit`: every trade accounted for, hop by hop, or the canonical topics of two prefixes compared."""

from __future__ import annotations

import asyncio
import logging
import sys
import time
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any, TypeVar

import click
import msgspec

from mdstream.audit.hops.audit import HopAudit, audit_of_hops
from mdstream.audit.hops.chain import Verdict
from mdstream.audit.hops.prefixes import PrefixAudit
from mdstream.audit.trades import MINUTE_NS, Scope
from mdstream.cli import set_up_logging
from mdstream.config import Settings, load
from mdstream.errors import MdstreamError, SettingsError
from mdstream.timestamps import NS, minute_of
from mdstream.tools.audit_report import hops_report, prefix_report, print_hops, print_prefixes
from mdstream.venues.providers import provider as provider_named

log = logging.getLogger(__name__)
T = TypeVar("T")

DEFAULT_LISTED = 20
EXIT_STATUS: dict[Verdict, int] = {"agree": 0, "differ": 1, "nothing to compare": 2}
COULD_NOT_AUDIT = 3
DEFAULT_END = "1m"
NOW = "now"
UNDER_WAY_NS = 30_000_000_000
"""What was received this recently may not be at every hop yet, whenever it was traded."""


@click.command()
@click.option("--from", "begin", help="First minute: 2026-01-05T15:00 (UTC) or an age, 15m.  [default: all there is]")
@click.option(
    "--to",
    "end",
    default=DEFAULT_END,
    show_default=True,
    help="The minute to stop before, likewise; now: everything, if nothing is running.",
)
@click.option("--symbol", "symbols", multiple=True, help="Only this instrument; may be repeated.  [default: all]")
@click.option("--provider", "providers", multiple=True, help="Only this provider; may be repeated.  [default: all]")
@click.option(
    "--journal", type=click.Path(path_type=Path), help="The simulator's journal: what the venues really sent."
)
@click.option(
    "--database", metavar="URL", help="The timescale role's database.  [default: MARKET_DATA_DATABASE_URL, if set]"
)
@click.option(
    "--nats", metavar="URL", help="The NATS server with the nats role's stream.  [default: NATS_URL with USE_JETSTREAM]"
)
@click.option(
    "--compare", "other", metavar="PREFIX", help="Compare the canonical topics with those of this prefix instead."
)
@click.option("--trades-only", is_flag=True, help="Leave out quotes, books and bars.")
@click.option("--minutes", is_flag=True, help="Print count and hash of every instrument and minute at each hop.")
@click.option(
    "--list", "listed", type=click.IntRange(min=0), default=DEFAULT_LISTED, show_default=True, help="Faults to list."
)
@click.option("--json", "as_json", is_flag=True, help="One JSON object.")
def command(
    begin: str | None,
    end: str,
    symbols: tuple[str, ...],
    providers: tuple[str, ...],
    journal: Path | None,
    database: str | None,
    nats: str | None,
    other: str | None,
    trades_only: bool,
    minutes: bool,
    listed: int,
    as_json: bool,
) -> None:
    """Count and hash trades per instrument and minute at each hop, and name what is missing, doubled or different.

    The hops, as far as they exist: the simulator's journal, the raw topics, the trades topic, and behind it
    the SQLite database of the files role, the database of the timescale role and the JetStream stream of the nats role.
    Trades of a source that stood by while another one was followed are counted, but are not a loss. Each number of a
    trade, quote, book or bar has to name one event, and each bar has to match its trades. Events younger than a minute
    are left out: they may be in transit. Exit status 0: all agree; 1: something differs; 2: there was nothing to
    compare, or an argument is wrong; 3: something could not be read. docs/audit.md explains every column.

    \b
    mdstream audit
    mdstream audit --from 1h                                the last hour
    mdstream audit --to now                                 everything, if nothing is running
    mdstream audit --symbol BTCUSDT --minutes
    mdstream audit --journal sent.jsonl --json --to now
    mdstream audit --database postgresql://reader@db/market     the password from PGPASSWORD or ~/.pgpass
    mdstream audit --nats nats://127.0.0.1:4222
    mdstream audit --compare fix1                           live against reprocessed (docs/reprocess.md)
    """
    set_up_logging()
    settings = load(database_url=database, nats_url=nats, use_jetstream=None if nats is None else True)
    scope = _scope(begin, end, symbols, providers)
    if other is None:
        hops = _audited(lambda: _audit_hops(settings, scope, journal, trades_only=trades_only))
        if as_json:
            click.echo(msgspec.json.encode(hops_report(hops, listed, minutes=minutes)))
        else:
            print_hops(hops, listed, minutes=minutes)
        sys.exit(EXIT_STATUS[hops.verdict])
    audit = _prefixes(settings, other, scope, journal, minutes=minutes)
    _audited(audit.run)
    if as_json:
        click.echo(msgspec.json.encode(prefix_report(audit, listed)))
    else:
        print_prefixes(audit, listed)
    sys.exit(EXIT_STATUS[audit.verdict])


def _audited(work: Callable[[], Coroutine[Any, Any, T]]) -> T:
    """The audit's result. Exits with a separate status if it fails: 1 means that something differs."""
    try:
        return asyncio.run(work())
    except SettingsError:
        raise
    except MdstreamError as error:
        click.echo(f"mdstream: {error}", err=True)
    except Exception:
        log.exception("the audit failed")
    sys.exit(COULD_NOT_AUDIT)


def _scope(begin: str | None, end: str, symbols: tuple[str, ...], providers: tuple[str, ...]) -> Scope:
    now_s = time.time()
    end_minute = Scope.end_minute if end == NOW else minute_of(end, now_s=now_s)
    scope = Scope(
        minute_of(begin, now_s=now_s) if begin else 0,
        end_minute,
        max(int(now_s * NS) - UNDER_WAY_NS, end_minute * MINUTE_NS),
        frozenset(symbol.upper() for symbol in symbols),
        frozenset(provider_named(name).name for name in providers),
    )
    if scope.first_minute >= scope.end_minute:
        raise SettingsError(f"--from {begin} --to {end}: the range is empty")
    return scope


async def _audit_hops(settings: Settings, scope: Scope, journal: Path | None, *, trades_only: bool) -> HopAudit:
    audit = await audit_of_hops(settings, scope, journal, trades_only=trades_only)
    await audit.run()
    return audit


def _prefixes(settings: Settings, other: str, scope: Scope, journal: Path | None, *, minutes: bool) -> PrefixAudit:
    if journal is not None or minutes:
        raise SettingsError("--compare compares two prefixes, not hops: leave out --journal and --minutes")
    there = load(topic_prefix=other)
    if there.topic_prefix == settings.topic_prefix:
        raise SettingsError(f"--compare {other}: that is the live prefix itself (MDSTREAM_TOPIC_PREFIX)")
    return PrefixAudit(settings, there, scope)
