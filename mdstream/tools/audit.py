"""`mdstream audit`: every trade accounted for, hop by hop."""

from __future__ import annotations

import asyncio
import re
import sys
import time
from collections import Counter
from dataclasses import dataclass, field
from datetime import UTC, datetime
from itertools import chain, islice, pairwise
from pathlib import Path
from typing import Any

import click
import msgspec
from rich.table import Table

from mdstream.audit import (
    Bucket,
    Details,
    Difference,
    Identity,
    Ledger,
    Scope,
    affordable,
    differences,
    differing,
    identity_of,
)
from mdstream.cli import set_up_logging
from mdstream.config import Settings, load
from mdstream.errors import SettingsError
from mdstream.providers import provider as provider_named
from mdstream.tools.hops import CanonicalHop, DatabaseHop, Hop, JournalHop, RawHop
from mdstream.tools.text import show, table

MOST_DETAILED = 1_000_000
"""Trades that are held at once, per hop, to name those that differ."""
MOST_HOLES = 1000
DEFAULT_LISTED = 20

_AGE = re.compile(r"^(\d+(?:\.\d+)?)\s*(s|m|h|d)$")
_UNIT_S = {"s": 1, "m": 60, "h": 3600, "d": 86_400}


def minute_of(text: str, *, now_s: float) -> int:
    """The minute since 1970 that a time or an age (15m: fifteen minutes ago) lies in.

    Raises SettingsError where it is neither.
    """
    if age := _AGE.match(text):
        return int(now_s - float(age[1]) * _UNIT_S[age[2]]) // 60
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        raise SettingsError(
            f"{text!r} is no time: expected one like 2026-01-05T15:00 (UTC), or an age like 30s, 15m, 2h, 1d"
        ) from None
    return int((moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp()) // 60


@click.command()
@click.option("--from", "begin", help="First minute: 2026-01-05T15:00 (UTC) or an age, 15m.  [default: all there is]")
@click.option("--to", "end", help="The minute to stop before, likewise.  [default: all there is]")
@click.option("--symbol", "symbols", multiple=True, help="Only this instrument; may be repeated.  [default: all]")
@click.option("--provider", "providers", multiple=True, help="Only this provider; may be repeated.  [default: all]")
@click.option(
    "--journal", type=click.Path(path_type=Path), help="The simulator's journal: what the venues really sent."
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
    minutes: bool,
    listed: int,
    as_json: bool,
) -> None:
    """Count and hash trades per instrument and minute at each hop, and name what is missing, doubled or different.

    The hops, as far as they exist: the simulator's journal, the raw topics, the canonical topic, the SQLite database of
    the files role. Exit status 0: all agree; 1: they do not. On a running system give --to, so that trades on their way
    are not taken for lost. docs/audit.md explains every column.

    \b
    mdstream audit
    mdstream audit --from 1h --to 1m                        the last hour of a running system
    mdstream audit --symbol BTCUSDT --minutes
    mdstream audit --journal sent.jsonl --json
    """
    set_up_logging()
    settings = load()
    now_s = time.time()
    scope = Scope(
        minute_of(begin, now_s=now_s) if begin else 0,
        minute_of(end, now_s=now_s) if end else Scope.end_minute,
        frozenset(symbol.upper() for symbol in symbols),
        frozenset(provider_named(name).name for name in providers),
    )
    if scope.first_minute >= scope.end_minute:
        raise SettingsError(f"--from {begin} --to {end}: nothing lies between")
    audit = Audit(settings, scope, journal)
    asyncio.run(audit.run())
    if as_json:
        click.echo(msgspec.json.encode(audit.report(listed, minutes=minutes)))
    else:
        _print(audit, listed, minutes=minutes)
    sys.exit(0 if audit.agrees else 1)


@dataclass
class Audit:
    """One audit: the hops that exist are read once, and once more where they do not agree."""

    settings: Settings
    scope: Scope
    journal: Path | None
    notes: list[str] = field(default_factory=list)
    hops: list[Hop] = field(default_factory=list)
    ledgers: list[Ledger] = field(default_factory=list)
    holes: list[tuple[str, int, int]] = field(default_factory=list)
    found: list[Difference] = field(default_factory=list)
    totals: Counter[tuple[str, str]] = field(default_factory=Counter)
    """Differences by hop and kind; `found` names as many as are kept."""
    unnamed: set[Bucket] = field(default_factory=set)
    """Instrument-minutes that differ, but were too many to look at trade by trade."""
    ignored: set[Identity] = field(default_factory=set)
    most_kept: int = 10_000

    @property
    def agrees(self) -> bool:
        return not (self.totals or self.unnamed or self.holes)

    async def run(self) -> None:
        """Read the hops and compare. Raises BrokerError, CaptureError or MdstreamError where one cannot be read."""
        self.hops = self._choose_hops()
        for hop in self.hops:
            ledger = Ledger(hop.name, self.scope, may_repeat=hop.may_repeat)
            await hop.read(ledger.add)
            self.ledgers.append(ledger)
            self.holes += islice(ledger.holes(), MOST_HOLES)
        self._set_resume_points_aside()
        following: Ledger | None = None
        for ledger in reversed(self.ledgers):
            ledger.choose_views(following)
            following = ledger
        differ = differing(self.ledgers)
        if differ or any(ledger.repeated for ledger in self.ledgers):
            await self._look_closer(differ)
        self._note_what_was_left_out()

    def _choose_hops(self) -> list[Hop]:
        hops: list[Hop] = [] if self.journal is None else [JournalHop(self.journal)]
        hops += [RawHop(self.settings, self.scope), CanonicalHop(self.settings, self.scope)]
        database = DatabaseHop(self.settings, self.scope)
        if database.path.exists():
            return [*hops, database]
        self.notes.append(f"no database at {database.path}: the files role writes one (mdstream worker files)")
        return hops

    def _set_resume_points_aside(self) -> None:
        """Trades from before the feed began are compared only where the canonical hop took them for news."""
        [raw] = [hop for hop in self.hops if isinstance(hop, RawHop)]
        canonical = next(ledger for ledger in self.ledgers if ledger.name == CanonicalHop.name)
        for trade in raw.first.values():
            if trade is not None and self.scope.has(trade) and not canonical.holds(trade):
                self.ignored.add(identity_of(trade))
                for ledger in self.ledgers:
                    ledger.discount(trade)

    async def _look_closer(self, differ: set[Bucket]) -> None:
        wanted = affordable(self.ledgers, differ, MOST_DETAILED)
        self.unnamed = differ - wanted
        details = []
        for hop, ledger in zip(self.hops, self.ledgers, strict=True):
            detail = Details(ledger, wanted, may_repeat=hop.may_repeat, ignored=self.ignored)
            await hop.read(detail.add)
            details.append(detail)
        between = (differences(left, right, wanted) for left, right in pairwise(details))
        for difference in chain(*between, *(detail.own_differences() for detail in details)):
            self.totals[difference.hop, difference.kind] += 1
            if len(self.found) < self.most_kept:
                self.found.append(difference)

    def _note_what_was_left_out(self) -> None:
        if self.ignored:
            self.notes.append(
                f"{len(self.ignored):,} trades that answered a first subscription are set aside: they are from before "
                "the feed began"
            )
        for hop, ledger in zip(self.hops, self.ledgers, strict=True):
            for (provider, symbol, view), count in sorted(ledger.set_aside.items()):
                self.notes.append(
                    f"{hop.name}: {count:,} trades of {provider} {symbol} in the view {view!r} are set aside: the same "
                    "executions as those compared, seen another way"
                )
            self.notes += [f"{hop.name}: {count:,} {what}" for what, count in sorted(hop.unread.items())]

    def report(self, listed: int, *, minutes: bool) -> dict[str, Any]:
        """The whole result, for --json."""
        report: dict[str, Any] = {
            "agree": self.agrees,
            "hops": [_facts(ledger) for ledger in self.ledgers],
            "totals": [{"hop": hop, "kind": kind, "trades": n} for (hop, kind), n in sorted(self.totals.items())],
            "differences": [difference._asdict() for difference in self.found[:listed]],
            "differing_minutes_not_looked_at": len(self.unnamed),
            "holes": [{"symbol": symbol, "first": first, "last": last} for symbol, first, last in self.holes],
            "notes": self.notes,
        }
        if minutes:
            report["minutes"] = [self._minute(bucket) for bucket in self.buckets()]
        return report

    def buckets(self) -> list[Bucket]:
        return sorted({b for ledger in self.ledgers for b in ledger.buckets() if ledger.tally(b).count})

    def _minute(self, bucket: Bucket) -> dict[str, Any]:
        tallies = {ledger.name: ledger.tally(bucket) for ledger in self.ledgers}
        return {
            "provider": bucket.provider,
            "symbol": bucket.symbol,
            "minute": bucket.start,
            "hops": {name: {"trades": t.count, "hash": f"{t.digest:016x}"} for name, t in tallies.items()},
        }


def _facts(ledger: Ledger) -> dict[str, Any]:
    total = ledger.total()
    return {
        "name": ledger.name,
        "trades": total.count,
        "hash": f"{total.digest:016x}",
        "repeats": total.repeats,
        "doubled": total.doubled,
        "instrument_minutes": sum(ledger.tally(bucket).count > 0 for bucket in ledger.buckets()),
    }


# --------------------------------------------------------------------------------------------------------------- tables


def _print(audit: Audit, listed: int, *, minutes: bool) -> None:
    show(_hops(audit))
    if minutes:
        show("", _minutes(audit))
    if audit.totals:
        show("", _totals(audit), "", _differences(audit, listed))
    if audit.unnamed:
        show("", f"{len(audit.unnamed):,} more instrument-minutes differ: narrow it with --from, --to or --symbol")
    if audit.holes:
        show("", _holes(audit, listed))
    for note in audit.notes:
        show(f"note: {note}")
    show("", "every hop holds the same trades" if audit.agrees else "the hops do not agree")


def _hops(audit: Audit) -> Table:
    made = table(
        "hop", "trades", "hash", "repeats", "doubled", "instrument-minutes", right=("trades", "repeats", "doubled")
    )
    for fact in map(_facts, audit.ledgers):
        counts = (f"{fact['trades']:,}", fact["hash"], f"{fact['repeats']:,}", f"{fact['doubled']:,}")
        made.add_row(fact["name"], *counts, f"{fact['instrument_minutes']:,}")
    return made


def _minutes(audit: Audit) -> Table:
    names = [ledger.name for ledger in audit.ledgers]
    made = table("provider", "symbol", "minute", *names, "")
    for bucket in audit.buckets():
        tallies = [ledger.tally(bucket) for ledger in audit.ledgers]
        cells = [f"{tally.count} {tally.digest:016x}" for tally in tallies]
        agree = all(left.same(right) for left, right in pairwise(tallies))
        made.add_row(bucket.provider, bucket.symbol, bucket.start, *cells, "" if agree else "differs")
    return made


def _totals(audit: Audit) -> Table:
    made = table("hop", "what", "trades", right=("trades",))
    for (hop, kind), count in sorted(audit.totals.items()):
        made.add_row(hop, kind, f"{count:,}")
    return made


def _differences(audit: Audit, listed: int) -> Table:
    made = table("what", "at", "after", "provider", "symbol", "minute", "trade id", "expected", "found")
    for difference in audit.found[:listed]:
        made.add_row(*difference)
    rest = audit.totals.total() - min(listed, len(audit.found))
    if rest > 0:
        made.add_row("...", f"and {rest:,} more: --list N shows N")
    return made


def _holes(audit: Audit, listed: int) -> Table:
    made = table("numbers missing (seq)", "first", "last", "how many", right=("first", "last", "how many"))
    for symbol, first, last in audit.holes[:listed]:
        made.add_row(symbol, str(first), str(last), f"{last - first + 1:,}")
    return made
