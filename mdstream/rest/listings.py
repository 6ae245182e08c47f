"""Asks venues what they list: one attempt each, all at the same time."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Mapping, Sequence

import msgspec

from mdstream.errors import FrameError, ListingError, SettingsError
from mdstream.events import ListedInstrument
from mdstream.rest.client import Client, new_session
from mdstream.venues import parts, rest_setting
from mdstream.venues.feed import UNREADABLE
from mdstream.venues.listing import Listing
from mdstream.venues.rest import RetryableError

LISTINGS: dict[str, type[Listing]] = parts(Listing, "listing")  # type: ignore[type-abstract]
MOST_PAGES = 20

Found = Mapping[str, Sequence[ListedInstrument] | ListingError]
"""By provider: its instruments, by symbol, or why they cannot be had."""


async def ask(names: Sequence[str], addresses: Mapping[str, str], *, limit_s: float, volumes: bool = True) -> Found:
    """The lists of these providers, each within `limit_s`, with the volumes of 24 hours if they are wanted."""
    async with new_session() as session:

        async def one(name: str) -> Sequence[ListedInstrument] | ListingError:
            listing = LISTINGS[name]()
            try:
                client = Client(session, listing.base_url(addresses), variable=rest_setting(name))
                async with asyncio.timeout(limit_s):
                    return await _read(listing, client, volumes=volumes)
            except TimeoutError:
                return ListingError(name, f"no answer within {limit_s:g} s")
            except (ListingError, SettingsError) as error:
                return error if isinstance(error, ListingError) else ListingError(name, str(error))

        return dict(zip(names, await asyncio.gather(*map(one, names)), strict=True))


async def _read(listing: Listing, client: Client, *, volumes: bool) -> list[ListedInstrument]:
    bodies = [body for target in listing.targets for body in await _pages(listing, client, target)]
    traded = [await _body(listing, client, target) for target in (listing.volume_targets if volumes else ())]
    try:
        found = listing.read(bodies, traded, ts_recv=time.time_ns())
    except (FrameError, msgspec.MsgspecError) as error:
        raise ListingError(listing.name, f"an answer that cannot be understood: {error}") from None
    if not found:
        raise ListingError(listing.name, "its list is empty")
    return found


async def _pages(listing: Listing, client: Client, target: str) -> list[bytes]:
    bodies: list[bytes] = []
    following: str | None = target
    while following is not None and len(bodies) < MOST_PAGES:
        bodies.append(await _body(listing, client, following))
        try:
            following = listing.more(following, bodies[-1])
        except (msgspec.MsgspecError, *UNREADABLE):  # `read` says what is wrong with it
            following = None
    return bodies


async def _body(listing: Listing, client: Client, target: str) -> bytes:
    """The answer to a target. Raises ListingError."""
    answer = await client.get(target)
    if isinstance(answer, RetryableError):
        raise ListingError(listing.name, answer.reason)
    error = listing.judge(answer, now_s=time.time())
    if error is not None:
        wait_s = error.wait_s if isinstance(error, RetryableError) else None
        raise ListingError(listing.name, f"{error.reason}" + ("" if wait_s is None else f"; try again in {wait_s:g} s"))
    return answer.body
