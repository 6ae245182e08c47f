"""`mdstream status`: the deployment on one screen."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterator

import click
import msgspec
from rich.console import Console, Group
from rich.live import Live
from rich.table import Table

from mdstream.cli import set_up_logging
from mdstream.config import Settings, load
from mdstream.errors import BrokerError
from mdstream.tools import cluster
from mdstream.tools.cluster import Snapshot
from mdstream.tools.running import run
from mdstream.tools.text import show, table

WATCH_S = 2.0
NS = 1_000_000_000


@click.command()
@click.option("--json", "as_json", is_flag=True, help="One JSON object instead of tables; with --watch one per line.")
@click.option("--watch", is_flag=True, help="Refresh every two seconds, until Ctrl-C.")
def command(as_json: bool, watch: bool) -> None:
    """Brokers, topics with their records, lag of each consumer group, and the last reported state of each feed.

    Asks the broker only, so it also works while workers or ingestors are down. `lag` is what a group has not committed
    yet: workers commit about once a second, so a healthy group shows about a second of its input.

    \b
    mdstream status
    mdstream status --watch
    mdstream status --json | jq '.groups[] | {name, lag: ([.lag[].records] | add)}'
    """
    set_up_logging()
    settings = load()
    if watch:
        run(_watch(settings, as_json))
        return
    facts = asyncio.run(cluster.snapshot(settings, now_ns=time.time_ns()))
    if as_json:
        click.echo(_json(facts))
    else:
        show(*_tables(facts, time.time_ns()))


async def _watch(settings: Settings, as_json: bool) -> None:
    console = Console()
    with Live(console=console, screen=False, auto_refresh=False, transient=False) as live:
        while True:
            parts = await _parts(settings, as_json)
            if as_json or not console.is_terminal:
                for part in parts:
                    show(part)
            else:
                live.update(Group(*parts), refresh=True)
            await asyncio.sleep(WATCH_S)


async def _parts(settings: Settings, as_json: bool) -> list[Table | str]:
    """What to show now. An unreachable broker is shown as such: it may come back."""
    now_ns = time.time_ns()
    try:
        facts = await cluster.snapshot(settings, now_ns=now_ns)
    except BrokerError as error:
        return [msgspec.json.encode({"error": str(error)}).decode() if as_json else str(error)]
    return [_json(facts)] if as_json else list(_tables(facts, now_ns))


def _json(facts: Snapshot) -> str:
    return msgspec.json.encode(facts).decode()


def _tables(facts: Snapshot, now_ns: int) -> Iterator[Table | str]:
    yield f"brokers   {', '.join(f'{b.address} (id {b.id})' for b in facts.brokers)}"
    yield ""
    yield _topics(facts)
    yield ""
    yield _groups(facts) if facts.groups else "no consumer group yet: start a worker with `mdstream worker core`"
    yield ""
    yield _feeds(facts, now_ns) if facts.feeds else "no feed yet: start one with `mdstream ingest --provider NAME ...`"


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


def _ago(then_ns: int | None, now_ns: int) -> str:
    if then_ns is None:
        return "-"
    seconds = max(0, now_ns - then_ns) / NS
    for size_s, unit in ((86_400, "d"), (3_600, "h"), (60, "min")):
        if seconds >= size_s:
            return f"{seconds / size_s:.1f} {unit} ago"
    return f"{seconds:.1f} s ago"
