"""`mdstream topics`: the list of topics, and their creation."""

from __future__ import annotations

import asyncio
import json

import click

from mdstream import kafka
from mdstream.cli import set_up_logging
from mdstream.config import Settings, load
from mdstream.tools.text import show, table
from topics import DAY_MS, HOUR_MS, Topic, Topics


@click.command()
@click.option("--create", is_flag=True, help="Create the topics that the broker does not have yet.")
@click.option("--json", "as_json", is_flag=True, help="One JSON object per topic and line.")
def command(create: bool, as_json: bool) -> None:
    """The topics of this deployment: what they hold, under which key, and for how long.

    Names and partition count follow MDSTREAM_TOPIC_PREFIX (md), MDSTREAM_PARTITIONS (8) and MDSTREAM_MARKETS
    (crypto,equities); the copies of each partition MDSTREAM_REPLICATION (1).

    \b
    mdstream topics                     print them, without a broker
    mdstream topics --create            create what is missing; a second run changes nothing
    """
    set_up_logging()
    settings = load()
    topics = list(Topics(settings))
    new = _create(settings, topics) if create else None
    if as_json:
        for topic in topics:
            click.echo(json.dumps(_facts(topic) | ({} if new is None else {"new": topic.name in new})))
        return
    _print(topics, new)
    if new is not None:
        click.echo(_summary(settings, len(topics), len(new)))


def _create(settings: Settings, topics: list[Topic]) -> set[str]:
    created = kafka.create_topics(settings.bootstrap_servers, topics, replication=settings.replication)
    return set(asyncio.run(created))


def _facts(topic: Topic) -> dict[str, object]:
    return {
        "name": topic.name,
        "key": topic.key,
        "value": topic.value,
        "partitions": topic.partitions,
        "retention_ms": topic.retention_ms,
        "compacted": topic.compacted,
        "config": topic.config,
    }


def _print(topics: list[Topic], new: set[str] | None) -> None:
    columns = ("topic", "key", "value", "partitions", "kept", *(() if new is None else ("",)))
    printed = table(*columns, right=("partitions",))
    for topic in topics:
        state = () if new is None else ("new" if topic.name in new else "was there",)
        printed.add_row(topic.name, topic.key, topic.value, str(topic.partitions), kept(topic.retention_ms), *state)
    show(printed)


def kept(retention_ms: int | None) -> str:
    """How long a topic keeps its records, for people."""
    if retention_ms is None:
        return "compacted"
    unit_ms, unit = (DAY_MS, "day") if retention_ms % DAY_MS == 0 else (HOUR_MS, "hour")
    count = retention_ms / unit_ms
    return f"{count:g} {unit}{'' if count == 1 else 's'}"


def _summary(settings: Settings, total: int, new: int) -> str:
    if not new:
        return f"all {total} topics were at {settings.bootstrap_servers} already"
    return f"{new} of {total} topics are new at {settings.bootstrap_servers}"
