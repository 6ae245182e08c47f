"""The chain of hops that a trade passes: journal, raw topics, canonical topic, and the sinks' stores.

Also the other things that the platform numbers: quotes, books and bars (identity.py).
"""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path

import msgspec

from mdstream.audit.details import Details
from mdstream.audit.hops.chain import Chain, Reading, Verdict
from mdstream.audit.hops.database import TimescaleHop
from mdstream.audit.hops.identity import Fault, NumberAudit, TopicFacts, hole_fault
from mdstream.audit.hops.logs import CanonicalHop, DatabaseHop, JournalHop, RawHop, records
from mdstream.audit.hops.nats import NatsHop
from mdstream.audit.ledger import Ledger
from mdstream.audit.recovered import RequestedGaps
from mdstream.audit.standby import Alive, Followed, StandBy
from mdstream.audit.trades import AuditTrade, Bucket, Identity, Place, Scope
from mdstream.cli.progress import Progress
from mdstream.config import Settings
from mdstream.events import Gap
from mdstream.repairs import HistoryAnswer, RangeAnswer
from mdstream.roles.rules import rules_of
from mdstream.venues.timed import TRADES
from topics import Topics


class CanonicalReading(Reading):
    """The canonical hop: it shows which sources were followed, and what must be in the bars."""

    def __init__(self, hop: CanonicalHop, scope: Scope, followed: Followed, number_audit: NumberAudit | None) -> None:
        super().__init__(hop, scope)
        self._followed, self._number_audit = followed, number_audit

    def take(self, trade: AuditTrade, seq: int | None = None, place: Place | None = None, value: bytes = b"") -> None:  # noqa: ARG002
        self._followed.learn(trade)
        self.ledger.add(trade, seq, place)
        if self._number_audit is not None and seq is not None and place is not None:
            self._number_audit.trade(trade, seq, place)


class RawReading(Reading):
    """The raw hop: by design, the next hop does not have all of its trades."""

    def __init__(
        self, hop: RawHop, scope: Scope, standby: StandBy, requested: RequestedGaps, canonical: Ledger
    ) -> None:
        super().__init__(hop, scope)
        self._hop, self._standby, self._requested, self._canonical = hop, standby, requested, canonical

    def take(self, trade: AuditTrade, seq: int | None = None, place: Place | None = None, value: bytes = b"") -> None:  # noqa: ARG002
        if self._counts(trade) and self.ledger.add(trade, seq, place):
            self._standby.consider(trade)

    def _counts(self, trade: AuditTrade) -> bool:
        """Of the trades that repair brought, only those that were missing."""
        return not trade.recovered or trade in self._requested

    def settle(self, chain: Chain) -> None:
        self._standby.settle(self.ledger)
        # Trades from before the feed began are compared only if the canonical hop took them as new.
        before = [trade for trade in self._hop.first.values() if trade is not None]
        for trade in before:
            if not self._canonical.holds(trade) and trade not in self._standby:
                chain.ignore(trade)
        if chain.ignored:
            chain.notes.append(
                f"{len(chain.ignored):,} trades that answered a first subscription are set aside: they are from before "
                "the feed began"
            )

    async def read_details(self, wanted: set[Bucket], ignored: set[Identity]) -> Details:
        stood_by = self._standby.__contains__
        details = Details(self.ledger, wanted, may_repeat=True, ignored=ignored, stood_by=stood_by)

        def add(trade: AuditTrade, seq: int | None = None, place: Place | None = None, value: bytes = b"") -> None:
            if self._counts(trade):
                details.add(trade, seq, place, value)

        if wanted:
            await self.hop.read(add)
        return details


class HopAudit:
    """The whole audit of one deployment; with `number_audit` None, of its trades alone."""

    def __init__(self, chain: Chain, canonical: Ledger, number_audit: NumberAudit | None) -> None:
        self.chain, self._canonical, self.number_audit = chain, canonical, number_audit

    @property
    def verdict(self) -> Verdict:
        faulty = self.number_audit is not None and self.number_audit.faults
        return "differ" if faulty else self.chain.verdict

    def topics(self) -> list[TopicFacts]:
        """What was found on each canonical topic, md.trades first."""
        name, numbering, totals = self._canonical.name, self._canonical.numbering, self.chain.totals
        rewritten, doubled = totals[name, "rewritten"], totals[name, "doubled"]
        trades = TopicFacts(name, numbering.events, numbering.repeats, rewritten, self.chain.hole_count, doubled)
        return [trades, *(self.number_audit.topics if self.number_audit else ())]

    def faults(self) -> list[Fault]:
        """The faults of numbers and bars. Single trades are named by the chain."""
        holes = [hole_fault(self._canonical.name, hole) for hole in self.chain.holes]
        return [*holes, *(self.number_audit.faults if self.number_audit else ())]

    def notes(self) -> list[str]:
        return [*self.chain.notes, *(self.number_audit.notes if self.number_audit else ())]

    async def run(self) -> None:
        """Read everything and compare. Raises MdstreamError if something cannot be read."""
        if self.number_audit is not None:
            await self.number_audit.read_bars()  # before the trades, so that every trade in them is read
        await self.chain.run()
        if self.number_audit is not None:
            await self.number_audit.finish()


async def audit_of_hops(settings: Settings, scope: Scope, journal: Path | None, *, trades_only: bool) -> HopAudit:
    """The audit of the hops that exist. Raises as `_chain` does. Numbers run through all providers, so for some
    providers alone only trades are audited."""
    number_audit = None if trades_only or scope.providers else NumberAudit(settings, scope)
    chain, canonical = await _chain(settings, scope, journal, number_audit)
    return HopAudit(chain, canonical.ledger, number_audit)


async def _chain(
    settings: Settings, scope: Scope, journal: Path | None, number_audit: NumberAudit | None
) -> tuple[Chain, CanonicalReading]:
    """The hops that exist, and the canonical one among them.

    Raises CaptureError if the journal, BrokerError if md.status, DatabaseError if the database, and MdstreamError if
    the stream on NATS cannot be read.
    """
    hops = [] if journal is None else [JournalHop(journal)]
    for hop in hops:
        hop.check()
    rules = rules_of(settings)
    followed, alive = Followed(lambda symbol: rules.of(symbol).merge), Alive()
    canonical = CanonicalReading(CanonicalHop(settings, scope), scope, followed, number_audit)
    standby = StandBy(followed, alive, canonical.ledger)
    requested = await _requested_gaps(settings, scope)
    raw = RawReading(RawHop(settings, scope, alive.add_frame), scope, standby, requested, canonical.ledger)
    chain = Chain(scope, [*(Reading(hop, scope) for hop in hops), raw, canonical])
    await _add_sinks(chain, settings)
    return chain, canonical


async def _add_sinks(chain: Chain, settings: Settings) -> None:
    database = DatabaseHop(settings, chain.scope)
    if database.path.exists():
        chain.readings.append(Reading(database, chain.scope))
    else:
        chain.notes.append(f"no database at {database.path}: the files role writes one (mdstream worker files)")
    if settings.database.url:  # not set, or set to nothing
        timescale = TimescaleHop(settings, chain.scope)
        await timescale.check()
        chain.readings.append(Reading(timescale, chain.scope))
    if settings.nats.jetstream:
        stream = NatsHop(settings, chain.scope)
        await stream.check()
        chain.readings.append(Reading(stream, chain.scope))


async def _requested_gaps(settings: Settings, scope: Scope) -> RequestedGaps:
    """The gaps that the canonical stream reported, and the history that it asked a backfill for."""
    requested, topics = RequestedGaps(), Topics(settings)
    decode = msgspec.json.Decoder(Gap).decode
    decode_answer = msgspec.json.Decoder(HistoryAnswer | RangeAnswer).decode
    with Progress("audit gaps", "records") as progress:
        async for record in records(settings, topics.gaps.name, scope, progress):
            with suppress(msgspec.MsgspecError, UnicodeError):  # a request to repair
                answer = decode_answer(record.value or b"")
                for first, last in answer.missing:
                    if isinstance(answer, HistoryAnswer):
                        requested.add(answer.provider, answer.symbol, str(first), str(last))
                    elif answer.interval == TRADES:
                        requested.add_time(answer.provider, answer.symbol, first, last)
    with Progress("audit status", "records") as progress:
        async for record in records(settings, topics.status.name, scope, progress):
            with suppress(msgspec.MsgspecError, UnicodeError):  # another kind of event
                gap = decode(record.value or b"")
                requested.add(gap.provider, gap.symbol, gap.first_id, gap.last_id)
    return requested
