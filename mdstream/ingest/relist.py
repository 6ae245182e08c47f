"""Asks again what contracts are worth while their feeds run: a venue changes it, or gave no list at the start.

A contract whose size has changed is subscribed to again: its book would hold sizes of before and after. One of which
it was not known gets its canonical name.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Mapping, Sequence

from mdstream.ingest.feed import Feed
from mdstream.ingest.plan import Listing, contract_sizes_of
from mdstream.ingest.selection import listings

log = logging.getLogger(__name__)

KNOWN_S, UNKNOWN_S = 3600.0, 60.0
"""Between two requests, if what all contracts are worth is known, and if not."""


async def relist(feeds: Sequence[Feed], addresses: Mapping[str, str]) -> None:
    """Follow the lists of the venues whose sizes count contracts, until cancelled."""
    counting = {feed.provider.name: feed for feed in feeds if feed.provider.sizes_in_contracts}
    while True:
        await asyncio.sleep(UNKNOWN_S if any(map(_renamed, counting.values())) else KNOWN_S)
        await ask_again(counting, await listings(list(counting), addresses, volumes=False))


async def ask_again(feeds: Mapping[str, Feed], found: Mapping[str, Listing]) -> None:
    """Change the feeds by what their venues list now; without a list a feed stays as it is."""
    for name, contract_size in contract_sizes_of(found).items():
        feed = feeds[name]
        before = dict(feed.intake.contracts.contract_size)
        feed.intake.contracts.learn(contract_size)
        changed = [s for s in feed.symbols if s in before and contract_size.get(s, before[s]) != before[s]]
        renamed = {old: new for old, new in _renamed(feed).items() if new in contract_size}
        for symbol in changed:
            log.warning(
                "%s: a contract of %s is worth %s now, not %s", name, symbol, contract_size[symbol], before[symbol]
            )
        for old, new in renamed.items():
            log.info("%s: %s is %s from now on, in units of base", name, old, new)
        if changed or renamed:
            await feed.change(add=[*changed, *renamed.values()], remove=[*changed, *renamed])


def _renamed(feed: Feed) -> dict[str, str]:
    """The canonical names of its contracts of unknown size, by the venue's."""
    provider = feed.provider
    names = {symbol: provider.from_venue(provider.to_venue(symbol)) for symbol in feed.symbols}
    return {symbol: name for symbol, name in names.items() if name != symbol}
