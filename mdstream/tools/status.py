"""`mdstream status`: the deployment on one screen."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import NamedTuple, TypeVar

import click
import msgspec
from rich.console import Console, Group
from rich.live import Live
from rich.table import Table

from mdstream.api import seen as api
from mdstream.api.seen import DEFAULT_PORT as API_PORT
from mdstream.cli import set_up_logging
from mdstream.config import Settings, load
from mdstream.errors import BrokerError
from mdstream.senpai import seen as senpai
from mdstream.senpai.process import DEFAULT_PORT as SENPAI_PORT
from mdstream.tools import cluster
from mdstream.tools.cluster import Snapshot
from mdstream.tools.running import run
from mdstream.tools.text import show, table

WATCH_S = 2.0
NS = 1_000_000_000
EVERYWHERE = {"0.0.0.0": "127.0.0.1", "::": "::1"}  # noqa: S104  nothing is bound here

T = TypeVar("T")


class Facts(NamedTuple):
    """The deployment by its broker; the APIs and SenpAI's consumers by their URLs, None where none answers."""

    deployment: Snapshot
    api: dict[str, api.Seen | None]
    senpai: dict[str, senpai.Seen | None]


class Places(NamedTuple):
    """Where the processes are that no broker knows of: URLs."""

    api: Sequence[str]
    senpai: Sequence[str]


def _checked(_context: click.Context, _option: click.Parameter, urls: tuple[str, ...]) -> tuple[str, ...]:
    for url in urls:
        if not url.startswith(("http://", "https://")):
            raise click.BadParameter(f"{url!r}: expected http://HOST:PORT")
    return urls


@click.command()
@click.option("--json", "as_json", is_flag=True, help="One JSON object instead of tables; with --watch one per line.")
@click.option(
    "--api",
    "apis",
    multiple=True,
    callback=_checked,
    metavar="URL",
    help=f"Where `mdstream api` answers; once for each process.  [default: HTTP_HOST, HTTP_PORT or {API_PORT}]",
)
@click.option(
    "--senpai",
    "members",
    multiple=True,
    default=[f"http://127.0.0.1:{SENPAI_PORT}"],
    show_default=True,
    callback=_checked,
    metavar="URL",
    help="Where `mdstream senpai` answers; once for each member.",
)
@click.option("--watch", is_flag=True, help="Refresh every two seconds, until Ctrl-C.")
def command(as_json: bool, apis: tuple[str, ...], members: tuple[str, ...], watch: bool) -> None:
    """Brokers, topics with their records, lag of each consumer group, the last reported state of each feed, the HTTP
    API and SenpAI.

    All but the last two is asked of the broker, so it also works while workers or ingestors are down. `lag` is what a
    group has not committed yet: workers commit about once a second, so a healthy group shows about a second of its
    input.

    \b
    mdstream status
    mdstream status --watch
    mdstream status --json | jq '.groups[] | {name, lag: ([.lag[].records] | add)}'
    """
    set_up_logging()
    settings = load()
    places = Places(apis or [_api_url(settings)], members)
    if watch:
        run(_watch(settings, places, as_json))
        return
    facts = asyncio.run(_facts(settings, places))
    if as_json:
        click.echo(_json(facts))
    else:
        show(*_tables(facts, time.time_ns()))


def _api_url(settings: Settings) -> str:
    """Where an API with these settings answers: at this machine if it listens on all addresses."""
    host, port = settings.http.host, settings.http.port or API_PORT
    host = EVERYWHERE.get(host, host)
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"


async def _facts(settings: Settings, places: Places) -> Facts:
    """What the broker, the API and SenpAI say. Raises BrokerError."""
    deployment = await cluster.snapshot(settings, now_ns=time.time_ns())
    apis, members = await asyncio.gather(_asked(api.seen, places.api), _asked(senpai.seen, places.senpai))
    return Facts(deployment, apis, members)


async def _asked(seen: Callable[[str], T | None], urls: Sequence[str]) -> dict[str, T | None]:
    found = await asyncio.gather(*(asyncio.to_thread(seen, url) for url in urls))
    return dict(zip(urls, found, strict=True))


async def _watch(settings: Settings, places: Places, as_json: bool) -> None:
    console = Console()
    with Live(console=console, screen=False, auto_refresh=False, transient=False) as live:
        while True:
            parts = await _parts(settings, places, as_json)
            if as_json or not console.is_terminal:
                for part in parts:
                    show(part)
            else:
                live.update(Group(*parts), refresh=True)
            await asyncio.sleep(WATCH_S)


async def _parts(settings: Settings, places: Places, as_json: bool) -> list[Table | str]:
    """What to show now. An unreachable broker is shown as such: it may come back."""
    now_ns = time.time_ns()
    try:
        facts = await _facts(settings, places)
    except BrokerError as error:
        return [msgspec.json.encode({"error": str(error)}).decode() if as_json else str(error)]
    return [_json(facts)] if as_json else list(_tables(facts, now_ns))


def _json(found: Facts) -> str:
    deployment = msgspec.structs.asdict(found.deployment)
    return msgspec.json.encode({**deployment, "api": found.api, "senpai": found.senpai}).decode()


def _tables(found: Facts, now_ns: int) -> Iterator[Table | str]:
    facts = found.deployment
    yield f"brokers   {', '.join(f'{b.address} (id {b.id})' for b in facts.brokers)}"
    yield ""
    yield _topics(facts)
    yield ""
    yield _groups(facts) if facts.groups else "no consumer group yet: start a worker with `mdstream worker core`"
    yield ""
    yield _feeds(facts, now_ns) if facts.feeds else "no feed yet: start one with `mdstream ingest --provider NAME ...`"
    yield ""
    yield _api(found.api)
    yield ""
    yield _senpai(found.senpai)


def _topics(facts: Snapshot) -> Table:
    made = table("topic", "partitions", "records", right=("partitions", "records"))
    for topic in facts.topics:
        if topic.present:
            made.add_row(topic.name, str(topic.partitions), f"{topic.records:,}")
        else:
            made.add_row(topic.name, "-", "missing: mdstream topics --create")
    return made


def _groups(facts: Snapshot) -> Table:
    made = table("group", "reads", "lag", "", right=("lag",))
    for group in facts.groups:
        for lag in group.lag:
            note = f"{lag.uncommitted} partitions without an offset" if lag.uncommitted else ""
            made.add_row(group.name, lag.topic, f"{lag.records:,}", note)
        if not group.lag:
            made.add_row(group.name, "-", "-", "nothing committed yet")
    return made


def _feeds(facts: Snapshot, now_ns: int) -> Table:
    made = table("feed", "market", "state", "symbols", "last heartbeat", "last change", "reason", right=("symbols",))
    for feed in facts.feeds:
        symbols = "-" if feed.symbols is None else str(feed.symbols)
        times = (_ago(feed.heartbeat_ns, now_ns), _ago(feed.changed_ns, now_ns))
        made.add_row(feed.provider, feed.market or "-", feed.state, symbols, *times, feed.reason or "")
    return made


def _api(processes: Mapping[str, api.Seen | None]) -> Table:
    made = table("api", "status", "open streams", "problem", right=("open streams",))
    for url, each in processes.items():
        if each is None:
            made.add_row("-", "-", "-", f"none answers at {url}: mdstream api")
        else:
            problems = "; ".join([*each.problems, *filter(None, [each.webhook])])
            made.add_row(url, each.status, str(each.streams), problems)
    return made


def _senpai(members: Mapping[str, senpai.Seen | None]) -> Table:
    right = ("behind", "rows/s", "signals", "open alerts")
    made = table("senpai", "mode", *right, "problem", right=right)
    for url, each in members.items():
        if each is None:
            made.add_row("-", "-", "-", "-", "-", "-", f"none answers at {url}: mdstream senpai")
            continue
        behind = "-" if each.behind_s is None else f"{each.behind_s:.1f} s"
        counts = f"{each.rows_per_s:,.1f}", f"{each.signals_made:,}", f"{each.open_alerts:,}"
        made.add_row(each.consumer, each.mode, behind, *counts, "; ".join(each.problems))
    return made


def _ago(then_ns: int | None, now_ns: int) -> str:
    if then_ns is None:
        return "-"
    seconds = max(0, now_ns - then_ns) / NS
    for size_s, unit in ((86_400, "d"), (3_600, "h"), (60, "min")):
        if seconds >= size_s:
            return f"{seconds / size_s:.1f} {unit} ago"
    return f"{seconds:.1f} s ago"
