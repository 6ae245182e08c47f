"""`mdstream schema`: JSON Schema of the public events."""

from __future__ import annotations

import json

import click

from mdstream import events


@click.command()
def command() -> None:
    """Print the JSON Schema (2020-12) of the public events, made from the code that writes them.

    docs/events.md explains the events; validate a trade against #/$defs/Trade, a quote against #/$defs/Quote, ...

    \b
    mdstream schema > events.schema.json
    mdstream schema | jq '."$defs" | keys'
    """
    click.echo(json.dumps(events.schema(), indent=2))
