"""Which symbols an ingestor is asked for: names, groups of mdstream.toml, files. Files are read again when they change.

--symbols BTCUSDT,@majors,file:symbols.txt

@NAME        the group symbol_groups.NAME of mdstream.toml
file:PATH    symbols separated by white space or commas; # begins a comment
"""

from __future__ import annotations

import asyncio
import logging
import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from mdstream import config
from mdstream.errors import MdstreamError, SettingsError
from mdstream.ingest.feed import Feed
from mdstream.ingest.plan import Wanted, plan

log = logging.getLogger(__name__)

POLL_S = 2.0
GROUP, FILE = "@", "file:"

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

    def plan(self, groups: Groups) -> list[Wanted]:
        """What it comes to now. Raises SettingsError or SymbolError."""
        return plan(self._provider, None if self._symbols is None else expand(self._symbols, groups))

    async def follow(self, feeds: Sequence[Feed], wanted: Sequence[Wanted]) -> None:
        """Change the feeds, which began with `wanted`, whenever a file changes, until cancelled."""
        known, states = {w.provider.name: w.symbols for w in wanted}, self._states()
        while True:
            await asyncio.sleep(POLL_S)
            if (now := self._states()) == states:
                continue
            states = now
            try:
                planned = self.plan(config.load().symbol_groups)
            except MdstreamError as error:
                log.error("the symbols stay as they are: %s", error)  # noqa: TRY400  what is wrong, not where in our code
                continue
            for feed, w in _both(feeds, planned):
                known[w.provider.name] = await _change(feed, known[w.provider.name], w)

    def _states(self) -> list[tuple[int, int] | None]:
        """A value that differs when a file was changed."""
        return [_state(path) for path in self._files]


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
    add = [symbol for symbol in wanted.symbols if symbol not in known]
    remove = [symbol for symbol in known if symbol not in wanted.symbols]
    if add or remove:
        await feed.change(add=add, remove=remove)
    return wanted.symbols
