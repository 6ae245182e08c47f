"""Which symbols an ingestor is asked for: names, patterns, groups of mdstream.toml, files.

--symbols BTCUSDT,top:20:*USDC,@majors,file:symbols.txt

@NAME        the group symbol_groups.NAME of mdstream.toml
file:PATH    symbols separated by white space or commas; # begins a comment
*, top:      patterns (plan.py), by what the venue lists

Files are read again when they change.
"""

from __future__ import annotations

import asyncio
import logging
import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from mdstream import config
from mdstream.errors import ListingError, MdstreamError, SettingsError, UnknownError
from mdstream.ingest.feed import Feed
from mdstream.ingest.plan import TOP, Listing, Wanted, contract_sizes_of, is_pattern, names_of, plan
from mdstream.rest.listings import LISTINGS, ask
from mdstream.venues import rest_setting, ws_setting

log = logging.getLogger(__name__)

POLL_S = 2.0
LISTING_LIMIT_S = 5.0
"""How long a start waits for the venues' lists."""
GROUP, FILE = "@", "file:"
IN_CONTRACTS = "%s: what a contract is worth is not known without its list: %s keep these names, and sizes in contracts"

Groups = Mapping[str, Sequence[str]]


def expand(text: str, groups: Groups) -> list[str]:
    """The symbols that `--symbols` names, each once. Raises SettingsError."""
    names = (name for part in _parts(text, ",") for name in _expand(part, groups))
    found = list(dict.fromkeys(names))
    if not found:
        raise SettingsError(f"no symbols in {text!r}: name some, separated by commas, like BTCUSDT,ETHUSDT")
    return found


def _parts(text: str, separators: str) -> list[str]:
    return [part.strip() for part in re.split(f"[{separators}]", text) if part.strip()]


def _expand(part: str, groups: Groups) -> Sequence[str]:
    if part.startswith(GROUP):
        name = part.removeprefix(GROUP)
        if name not in groups:
            known = ", ".join(GROUP + each for each in groups) or "none"
            raise SettingsError(f"no group {part} in {config.TOML_FILE}; it has {known}")
        return groups[name]
    if part.startswith(FILE):
        return _read(Path(part.removeprefix(FILE)))
    return (part,)


def _read(path: Path) -> list[str]:
    try:
        lines = path.read_text("utf-8").splitlines()
    except UnicodeDecodeError as error:
        raise SettingsError(f"{path} is no UTF-8: {error.reason} at byte {error.start}") from None
    except OSError as error:
        raise SettingsError(f"{path} cannot be read: {error.strerror}") from None
    return [name for line in lines for name in _parts(line.partition("#")[0], r",\s")]


class Selection:
    """What `--provider` and `--symbols` select; without `symbols`, the providers' defaults."""

    def __init__(self, provider: str, symbols: str | None) -> None:
        self._provider, self._symbols = provider, symbols
        parts = _parts(symbols or "", ",")
        self._files = [Path(part.removeprefix(FILE)) for part in parts if part.startswith(FILE)]
        if any(part.startswith(GROUP) for part in parts):
            self._files.append(Path(config.TOML_FILE))
        self._contract_sizes: dict[str, Mapping[str, str]] = {}
        """By provider whose sizes count contracts: what these are worth, by its last list."""
        self._seen = self._states()  # before anything is read: an edit during a slow start counts, too

    async def plan(self, groups: Groups, addresses: Mapping[str, str]) -> list[Wanted]:
        """What it comes to now, by what the venues at the `addresses` list. Raises SettingsError or SymbolError."""
        names = None if self._symbols is None else expand(self._symbols, groups)
        if not any(map(is_pattern, names or ())):
            plan(self._provider, names)  # what is impossible in any case needs no answer of a venue
        ranked = any(name.startswith(TOP) for name in names or ())
        found = await listings(names_of(self._provider), addresses, volumes=ranked)
        self._contract_sizes |= contract_sizes_of(found)
        planned = plan(self._provider, names, found, self._contract_sizes)
        for w in planned:
            if w.in_contracts:
                log.warning(IN_CONTRACTS, w.provider.name, ", ".join(w.in_contracts))
        return planned

    async def follow(self, feeds: Sequence[Feed], wanted: Sequence[Wanted]) -> None:
        """Change the feeds, which began with `wanted`, whenever a file changes, until cancelled."""
        known, states = {w.provider.name: w.symbols for w in wanted}, self._seen
        while True:
            await asyncio.sleep(POLL_S)
            if (now := self._states()) == states:
                continue
            states = now
            try:
                settings = config.load()
                planned = await self.plan(settings.symbol_groups, settings.venue_addresses())
            except MdstreamError as error:
                log.error("the symbols stay as they are: %s", error)  # noqa: TRY400  what is wrong, not where in our code
                continue
            for feed, w in _both(feeds, planned):
                known[w.provider.name] = await _change(feed, known[w.provider.name], w)

    def _states(self) -> list[tuple[int, int] | None]:
        """A value that differs when a file was changed."""
        return [_state(path) for path in self._files]


async def listings(names: Sequence[str], addresses: Mapping[str, str], *, volumes: bool) -> dict[str, Listing]:
    """What the venues list, or why that is not known. One that is read elsewhere than it is asked is not asked: a
    websocket's address of its own is a test server's or a proxy's."""
    unknown = {name: reason for name in names if (reason := _not_asked(name, addresses)) is not None}
    asked = await ask(
        [name for name in names if name not in unknown], addresses, limit_s=LISTING_LIMIT_S, volumes=volumes
    )
    for found in asked.values():
        if isinstance(found, ListingError):
            log.warning("%s; its symbols are not checked", found)
    return {**asked, **{name: ListingError(name, reason) for name, reason in unknown.items()}}


def _not_asked(name: str, addresses: Mapping[str, str]) -> str | None:
    """Why a venue is not asked; None if it is."""
    if name not in LISTINGS:
        return "nothing here asks this venue"
    both = ws_setting(name), rest_setting(name)
    given = [setting for setting in both if addresses.get(setting)]
    return f"only {given[0]} of {' and '.join(both)} is set: set both, or neither" if len(given) == 1 else None


def _state(path: Path) -> tuple[int, int] | None:
    try:
        stat = path.stat()
    except OSError:
        return None
    return stat.st_mtime_ns, stat.st_size


def _both(feeds: Sequence[Feed], planned: Sequence[Wanted]) -> Iterator[tuple[Feed, Wanted]]:
    by_name = {w.provider.name: w for w in planned}
    return ((feed, by_name[feed.provider.name]) for feed in feeds if feed.provider.name in by_name)


async def _change(feed: Feed, known: Sequence[str], wanted: Wanted) -> tuple[str, ...]:
    for reason in wanted.refused:
        log.error("left out: %s", reason)
    if any(isinstance(error, UnknownError) for error in wanted.errors):
        log.error("%s: the symbols stay as they are", wanted.provider.name)  # not known is not gone
        return tuple(known)
    feed.intake.contracts.learn(wanted.contract_size)
    before, after = dict.fromkeys(known), dict.fromkeys(wanted.symbols)
    add = [symbol for symbol in after if symbol not in before]
    remove = [symbol for symbol in before if symbol not in after]
    if add or remove:
        await feed.change(add=add, remove=remove)
    return wanted.symbols
