"""`mdstream audit`: every trade accounted for, hop by hop, or the canonical topics of two prefixes compared."""

from __future__ import annotations

import asyncio
import sys
import time
from pathlib import Path

import click
import msgspec

from mdstream.audit.prints import Scope
from mdstream.cli import set_up_logging
from mdstream.config import Settings, load
from mdstream.errors import SettingsError
from mdstream.providers import provider as provider_named
from mdstream.tools.audit_report import chain_report, prefix_report, print_chain, print_prefixes
from mdstream.tools.chain import Chain, Verdict
from mdstream.tools.hop_audit import chain_of_hops
from mdstream.tools.moments import minute_of
from mdstream.tools.prefix_audit import PrefixAudit

DEFAULT_LISTED = 20
EXIT_STATUS: dict[Verdict, int] = {"agree": 0, "differ": 1, "nothing to compare": 2}


@click.command()
@click.option("--from", "begin", help="First minute: 2026-01-05T15:00 (UTC) or an age, 15m.  [default: all there is]")
@click.option("--to", "end", help="The minute to stop before, likewise.  [default: all there is]")
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
@click.option("--minutes", is_flag=True, help="Print count and hash of every instrument and minute at each hop.")
@click.option(
    "--list", "listed", type=click.IntRange(min=0), default=DEFAULT_LISTED, show_default=True, help="Trades to name."
)
@click.option("--json", "as_json", is_flag=True, help="One JSON object.")
def command(
    begin: str | None,
    end: str | None,
    symbols: tuple[str, ...],
    providers: tuple[str, ...],
    journal: Path | None,
    database: str | None,
    nats: str | None,
    other: str | None,
    minutes: bool,
    listed: int,
    as_json: bool,
) -> None:
    """Count and hash trades per instrument and minute at each hop, and name what is missing, doubled or different.

    The hops, as far as they exist: the simulator's journal, the raw topics, the canonical topic, and behind it
    the SQLite database of the files role, the database of the timescale role and the JetStream stream of the nats role.
    Trades of a source that stood by while another one was followed are counted, and are no loss. On a running system
    give --to, so that trades on their way are not taken for lost. Exit status 0: all agree; 1: they do not; 2: there
    was nothing to compare. docs/audit.md explains every column.

    \b
    mdstream audit
    mdstream audit --from 1h --to 1m                        the last hour of a running system
    mdstream audit --symbol BTCUSDT --minutes
    mdstream audit --journal sent.jsonl --json
    mdstream audit --database postgresql://reader@db/market --to 1m     the password from PGPASSWORD or ~/.pgpass
    mdstream audit --nats nats://127.0.0.1:4222 --to 1m
    mdstream audit --compare fix1 --to 1m                   live against reprocessed (docs/reprocess.md)
    """
    set_up_logging()
    settings = load(database_url=database, nats_url=nats, use_jetstream=None if nats is None else True)
    scope = _scope(begin, end, symbols, providers)
    if other is None:
        chain = asyncio.run(_audit_hops(settings, scope, journal))
        if as_json:
            click.echo(msgspec.json.encode(chain_report(chain, listed, minutes=minutes)))
        else:
            print_chain(chain, listed, minutes=minutes)
        sys.exit(EXIT_STATUS[chain.verdict])
    audit = _prefixes(settings, other, scope, journal, minutes=minutes)
    asyncio.run(audit.run())
    if as_json:
        click.echo(msgspec.json.encode(prefix_report(audit, listed)))
    else:
        print_prefixes(audit, listed)
    sys.exit(EXIT_STATUS[audit.verdict])


def _scope(begin: str | None, end: str | None, symbols: tuple[str, ...], providers: tuple[str, ...]) -> Scope:
    now_s = time.time()
    scope = Scope(
        minute_of(begin, now_s=now_s) if begin else 0,
        minute_of(end, now_s=now_s) if end else Scope.end_minute,
        frozenset(symbol.upper() for symbol in symbols),
        frozenset(provider_named(name).name for name in providers),
    )
    if scope.first_minute >= scope.end_minute:
        raise SettingsError(f"--from {begin} --to {end}: nothing lies between")
    return scope


async def _audit_hops(settings: Settings, scope: Scope, journal: Path | None) -> Chain:
    chain = await chain_of_hops(settings, scope, journal)
    await chain.run()
    return chain


def _prefixes(settings: Settings, other: str, scope: Scope, journal: Path | None, *, minutes: bool) -> PrefixAudit:
    if journal is not None or minutes:
        raise SettingsError("--compare looks at two prefixes, not at hops: leave out --journal and --minutes")
    there = load(topic_prefix=other)
    if there.topic_prefix == settings.topic_prefix:
        raise SettingsError(f"--compare {other}: that is the live prefix itself (MDSTREAM_TOPIC_PREFIX)")
    return PrefixAudit(settings, there, scope)
