"""`mdstream schema`: JSON Schema of the public events, and of SenpAI's messages."""

from __future__ import annotations

import json

import click

from mdstream import events
from mdstream.senpai import messages


@click.command()
@click.argument("which", type=click.Choice(["events", "senpai"]), default="events")
def command(which: str) -> None:
    """Print the JSON Schema (2020-12) of the public events, made from the code that writes them.

    docs/events.md explains the events; validate a trade against #/$defs/Trade, a quote against #/$defs/Quote, ...
    With `senpai`: of its features, signals and alerts (docs/senpai.md).

    \b
    mdstream schema > events.schema.json
    mdstream schema | jq '."$defs" | keys'
    """
    click.echo(json.dumps(messages.schema() if which == "senpai" else events.schema(), indent=2))
