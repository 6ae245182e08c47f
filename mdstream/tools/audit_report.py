"""An audit's result, as one JSON object or as tables."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from typing import Any

from rich.table import Table

from mdstream.audit.events import Minute
from mdstream.audit.hops.audit import HopAudit
from mdstream.audit.hops.chain import Chain
from mdstream.audit.hops.identity import Fault
from mdstream.audit.hops.prefixes import PrefixAudit
from mdstream.audit.ledger import Ledger, neighbours
from mdstream.audit.trades import Bucket
from mdstream.tools.text import show, table

# ----------------------------------------------------------------------------------------------------------------- JSON


def hops_report(audit: HopAudit, listed: int, *, minutes: bool) -> dict[str, Any]:
    """The whole result; names `listed` differences, and as many faults of each topic and kind."""
    chain = audit.chain
    report: dict[str, Any] = {
        "agree": audit.verdict == "agree",
        "verdict": audit.verdict,
        "hops": [_facts(ledger) for ledger in chain.ledgers],
        "totals": [{"hop": hop, "kind": kind, "trades": n} for (hop, kind), n in sorted(chain.totals.items())],
        "differences": [difference._asdict() for difference in chain.found[:listed]],
        "differing_minutes_not_looked_at": len(chain.unnamed),
        "holes": [hole._asdict() for hole in chain.holes],
        "topics": [facts._asdict() for facts in audit.topics()],
        "faults": [fault._asdict() for fault in _named(audit.faults(), listed)],
        "notes": audit.notes(),
    }
    if minutes:
        report["minutes"] = [_minute(chain, bucket) for bucket in chain.buckets()]
    return report


def _facts(ledger: Ledger) -> dict[str, Any]:
    total = ledger.total()
    return {
        "name": ledger.name,
        "trades": total.count,
        "hash": f"{total.digest:016x}",
        "stood_by": ledger.stood_by(),
        "repeats": total.repeats,
        "doubled": total.doubled,
        "instrument_minutes": sum(ledger.tally(bucket).count > 0 for bucket in ledger.buckets()),
    }


def _minute(chain: Chain, bucket: Bucket) -> dict[str, Any]:
    tallies = {ledger.name: ledger.tally(bucket) for ledger in chain.ledgers}
    return {
        "provider": bucket.provider,
        "symbol": bucket.symbol,
        "minute": bucket.start,
        "agree": _agree(chain, bucket),
        "hops": {name: {"trades": t.count, "hash": f"{t.digest:016x}"} for name, t in tallies.items()},
    }


def prefix_report(audit: PrefixAudit, listed: int) -> dict[str, Any]:
    """The whole result; names `listed` differences of each kind of event."""
    here, there = audit.here.topic_prefix, audit.there.topic_prefix
    counts = audit.minute_counts()
    return {
        "agree": audit.verdict == "agree",
        "verdict": audit.verdict,
        "here": here,
        "there": there,
        "trades": audit.trade_counts(),
        "minutes": {kind: {verdict: counts[kind, verdict] for verdict in _VERDICTS} for kind in audit.minutes},
        "differences": [difference._asdict() for difference in audit.trades.found[:listed]],
        "differing_minutes": [
            {"kind": kind, **_minute_facts(minute)}
            for kind in audit.minutes
            for minute in _differing(audit, kind)[:listed]
        ],
        "differing_minutes_not_looked_at": len(audit.trades.unnamed),
        "notes": audit.notes,
    }


def _minute_facts(minute: Minute) -> dict[str, Any]:
    bucket = minute.bucket
    where = {"provider": bucket.provider, "symbol": bucket.symbol, "minute": bucket.start}
    return {**where, "verdict": minute.verdict, "here": minute.here, "there": minute.there}


# --------------------------------------------------------------------------------------------------------------- tables

_VERDICTS = ("identical", "different", "only here", "only there")
_HOP_VERDICTS = {
    "agree": "every hop holds the same trades",
    "differ": "the hops do not agree",
    "nothing to compare": "there is nothing to compare: no hop holds a trade of this range (--to now: all there is)",
}
_PREFIX_VERDICTS = {
    "agree": "both prefixes hold the same events",
    "differ": "the prefixes do not hold the same events",
    "nothing to compare": "there is nothing to compare: neither prefix holds an event of this range",
}


def print_hops(audit: HopAudit, listed: int, *, minutes: bool) -> None:
    """Tables of hops, topics, differences and faults, and the verdict."""
    chain = audit.chain
    show(_hops(chain), "", _topics(audit))
    if minutes:
        show("", _minutes(chain))
    if chain.totals:
        show("", _totals(chain), "", _differences(chain, listed))
    if chain.unnamed:
        show("", f"{len(chain.unnamed):,} more instrument-minutes differ: narrow it with --from, --to or --symbol")
    if audit.faults():
        show("", _faults(audit, listed))
    for note in audit.notes():
        show(f"note: {note}")
    show("", _HOP_VERDICTS[audit.verdict])


def print_prefixes(audit: PrefixAudit, listed: int) -> None:
    """What is the same and what differs, with examples, and the verdict."""
    here, there = audit.here.topic_prefix, audit.there.topic_prefix
    show(_kinds(audit, here, there))
    if audit.trades.totals:
        show("", _differences(audit.trades, listed))
    if audit.trades.unnamed:
        show("", f"{len(audit.trades.unnamed):,} more instrument-minutes of trades differ: narrow it with --from, --to")
    for kind in audit.minutes:
        if differing := _differing(audit, kind):
            show("", _event_minutes(kind, differing, listed, here, there))
    for note in audit.notes:
        show(f"note: {note}")
    show("", _PREFIX_VERDICTS[audit.verdict])


def _agree(chain: Chain, bucket: Bucket) -> bool:
    hops = chain.ledgers
    return all(hops[before].due(bucket).same(hops[after].tally(bucket)) for before, after in neighbours(hops))


def _hops(chain: Chain) -> Table:
    counted = ("trades", "stood by", "repeats", "doubled")
    made = table("hop", "trades", "hash", "stood by", "repeats", "doubled", "instrument-minutes", right=counted)
    for fact in map(_facts, chain.ledgers):
        counts = (f"{fact[name]:,}" for name in ("stood_by", "repeats", "doubled", "instrument_minutes"))
        made.add_row(fact["name"], f"{fact['trades']:,}", fact["hash"], *counts)
    return made


def _minutes(chain: Chain) -> Table:
    names = [ledger.name for ledger in chain.ledgers]
    made = table("provider", "symbol", "minute", *names, "")
    for bucket in chain.buckets():
        cells = [f"{tally.count} {tally.digest:016x}" for tally in (ledger.tally(bucket) for ledger in chain.ledgers)]
        agree = "" if _agree(chain, bucket) else "differs"
        made.add_row(bucket.provider, bucket.symbol, bucket.start, *cells, agree)
    return made


def _totals(chain: Chain) -> Table:
    made = table("hop", "what", "trades", right=("trades",))
    for (hop, kind), count in sorted(chain.totals.items()):
        made.add_row(hop, kind, f"{count:,}")
    return made


def _differences(chain: Chain, listed: int) -> Table:
    made = table("what", "at", "after", "provider", "symbol", "minute", "trade id", "expected", "found", "offsets")
    for *cells, _, places in chain.found[:listed]:
        made.add_row(*map(str, cells), " ".join(map(str, places)))
    rest = chain.totals.total() - min(listed, len(chain.found))
    if rest > 0:
        made.add_row("...", f"and {rest:,} more: --list N shows N")
    return made


def _topics(audit: HopAudit) -> Table:
    counted = ("events", "repeats", "rewritten", "holes", "doubled", "judged", "missing", "different")
    made = table("topic", *counted, right=counted)
    for name, *counts in audit.topics():
        made.add_row(name, *("-" if count is None else f"{count:,}" for count in counts))
    return made


def _faults(audit: HopAudit, listed: int) -> Table:
    made = table("fault", "topic", "symbol", "of", "expected", "found", "offsets")
    for *cells, places in _named(audit.faults(), listed):
        made.add_row(*cells, " ".join(map(str, places)))
    return made


def _named(faults: Iterable[Fault], listed: int) -> list[Fault]:
    """At most `listed` faults of each topic and kind."""
    seen: Counter[tuple[str, str]] = Counter()
    named = []
    for fault in faults:
        seen[fault.topic, fault.kind] += 1
        if seen[fault.topic, fault.kind] <= listed:
            named.append(fault)
    return named


def _kinds(audit: PrefixAudit, here: str, there: str) -> Table:
    columns = ("identical", "different", f"only {here}", f"only {there}")
    made = table("what", *columns, right=columns)
    trades = audit.trade_counts()
    made.add_row("trades", *(f"{trades[verdict]:,}" for verdict in _VERDICTS))
    counts = audit.minute_counts()
    for kind in audit.minutes:
        made.add_row(f"{kind}, instrument-minutes", *(f"{counts[kind, verdict]:,}" for verdict in _VERDICTS))
    return made


def _differing(audit: PrefixAudit, kind: str) -> list[Minute]:
    return [minute for minute in audit.minutes[kind] if minute.verdict != "identical"]


def _event_minutes(kind: str, differing: list[Minute], listed: int, here: str, there: str) -> Table:
    made = table(f"{kind} that differ", "symbol", "minute", here, there, right=(here, there))
    for minute in differing[:listed]:
        bucket = minute.bucket
        made.add_row(bucket.provider, bucket.symbol, bucket.start, f"{minute.here:,}", f"{minute.there:,}")
    if len(differing) > listed:
        made.add_row("...", f"and {len(differing) - listed:,} more: --list N shows N")
    return made
