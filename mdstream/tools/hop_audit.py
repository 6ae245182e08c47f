"""The chain of hops that a trade passes: journal, raw topics, canonical topic, and where the sinks keep it."""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path

import msgspec

from mdstream.audit.details import Details
from mdstream.audit.ledger import Ledger
from mdstream.audit.prints import Bucket, Identity, Print, Scope
from mdstream.audit.recovered import AskedFor
from mdstream.audit.standby import Alive, Followed, StandBy
from mdstream.config import Settings
from mdstream.core.rules import rules_of
from mdstream.events import Gap
from mdstream.tools.chain import Chain, Reading
from mdstream.tools.database_hop import TimescaleHop
from mdstream.tools.hops import CanonicalHop, DatabaseHop, JournalHop, RawHop, records
from mdstream.tools.nats_hop import NatsHop
from mdstream.tools.progress import Progress
from topics import Topics


class CanonicalReading(Reading):
    """The canonical hop: it tells which sources were followed."""

    def __init__(self, hop: CanonicalHop, scope: Scope, followed: Followed) -> None:
        super().__init__(hop, scope)
        self._followed = followed

    def take(self, trade: Print, seq: int | None = None, record_hash: int = 0) -> None:
        self._followed.learn(trade)
        self.ledger.add(trade, seq, record_hash)


class RawReading(Reading):
    """The raw hop: of some of its trades the next hop knows nothing, by design."""

    def __init__(self, hop: RawHop, scope: Scope, standby: StandBy, asked: AskedFor, canonical: Ledger) -> None:
        super().__init__(hop, scope)
        self._hop, self._standby, self._asked, self._canonical = hop, standby, asked, canonical

    def take(self, trade: Print, seq: int | None = None, record_hash: int = 0) -> None:
        if self._counts(trade) and self.ledger.add(trade, seq, record_hash):
            self._standby.consider(trade)

    def _counts(self, trade: Print) -> bool:
        """Of what a venue gave to be asked again, only what was missing."""
        return not trade.recovered or trade in self._asked

    def settle(self, chain: Chain) -> None:
        self._standby.settle(self.ledger)
        # Trades from before the feed began are compared only where the canonical hop took them for news.
        before = [trade for trade in self._hop.first.values() if trade is not None]
        for trade in before:
            if not self._canonical.holds(trade) and trade not in self._standby:
                chain.ignore(trade)
        if chain.ignored:
            chain.notes.append(
                f"{len(chain.ignored):,} trades that answered a first subscription are set aside: they are from before "
                "the feed began"
            )

    async def look_closer(self, wanted: set[Bucket], ignored: set[Identity]) -> Details:
        stood_by = self._standby.__contains__
        details = Details(self.ledger, wanted, may_repeat=True, ignored=ignored, stood_by=stood_by)

        def add(trade: Print, seq: int | None = None, record_hash: int = 0) -> None:
            if self._counts(trade):
                details.add(trade, seq, record_hash)

        await self.hop.read(add)
        return details


async def chain_of_hops(settings: Settings, scope: Scope, journal: Path | None) -> Chain:
    """The hops that exist. Raises CaptureError where the journal, BrokerError where md.status, DatabaseError where the
    database, and MdstreamError where the stream on NATS cannot be read.
    """
    hops = [] if journal is None else [JournalHop(journal)]
    for hop in hops:
        hop.check()
    rules = rules_of(settings)
    followed, alive = Followed(lambda symbol: rules.of(symbol).merge), Alive()
    canonical = CanonicalReading(CanonicalHop(settings, scope), scope, followed)
    standby = StandBy(followed, alive, canonical.ledger)
    asked = await _asked_for(settings, scope)
    raw = RawReading(RawHop(settings, scope, alive.heard), scope, standby, asked, canonical.ledger)
    chain = Chain(scope, [*(Reading(hop, scope) for hop in hops), raw, canonical])
    await _add_sinks(chain, settings)
    return chain


async def _add_sinks(chain: Chain, settings: Settings) -> None:
    database = DatabaseHop(settings, chain.scope)
    if database.path.exists():
        chain.readings.append(Reading(database, chain.scope))
    else:
        chain.notes.append(f"no database at {database.path}: the files role writes one (mdstream worker files)")
    if settings.database_url:  # not set, or set to nothing
        timescale = TimescaleHop(settings, chain.scope)
        await timescale.check()
        chain.readings.append(Reading(timescale, chain.scope))
    if settings.use_jetstream:
        stream = NatsHop(settings, chain.scope)
        await stream.check()
        chain.readings.append(Reading(stream, chain.scope))


async def _asked_for(settings: Settings, scope: Scope) -> AskedFor:
    """The gaps that the canonical stream reported."""
    asked = AskedFor()
    decode = msgspec.json.Decoder(Gap).decode
    with Progress("audit status", "records") as progress:
        async for record in records(settings, Topics(settings).status.name, scope, progress):
            with suppress(msgspec.MsgspecError, UnicodeError):  # another kind of event
                gap = decode(record.value or b"")
                asked.add(gap.provider, gap.symbol, gap.first_id, gap.last_id)
    return asked
