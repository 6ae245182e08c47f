"""`mdstream instruments`: what the venues list, printed and published."""

from __future__ import annotations

import sys
from collections import defaultdict
from collections.abc import Sequence

import click
from aiokafka.errors import KafkaError

from mdstream import events, kafka
from mdstream.cli import set_up_logging
from mdstream.config import Settings, load
from mdstream.errors import ListingError
from mdstream.events import ListedInstrument
from mdstream.kafka.publisher import Partitioner, Publisher
from mdstream.records import ProducerRecord
from mdstream.rest.listings import LISTINGS, ask
from mdstream.tools.running import run
from mdstream.tools.text import show, table
from mdstream.venues.listing import matches
from mdstream.venues.times import MS
from topics import Topics

LIMIT_S = 20.0


@click.command()
@click.argument("pattern", required=False)
@click.option("--provider", "only", type=click.Choice(sorted(LISTINGS)), help="Ask this one only.  [default: all]")
@click.option("--publish/--no-publish", default=True, show_default=True, help="Write them to md.instruments.")
@click.option("--json", "as_json", is_flag=True, help="One event per instrument and line, as on the topic.")
def command(pattern: str | None, only: str | None, publish: bool, as_json: bool) -> None:
    """The instruments that venues list: names, steps of prices and sizes, what a contract is worth, what trades.

    Asks the venues at the same time, over their public REST interfaces; no key is needed. PATTERN selects by symbol or
    by the venue's name, with * and ?. What is printed is published, too: md.instruments keeps the last event of each
    provider and symbol (docs/events.md#instrument).

    \b
    mdstream instruments --no-publish                        print all, without a broker
    mdstream instruments --provider okx 'BTC*-SWAP'
    mdstream instruments --json '*USDT' | jq -s 'sort_by(-.volume_24h)[:20][].symbol'
    BINANCE_API_BASE_URL=http://127.0.0.1:9440/binance mdstream instruments --provider binance     (mdstream simulate)

    \b
    tick       step of the prices                  lot      step of the sizes, in the venue's unit
    contract   what a size of 1 is worth           volume   of 24 hours, in quote currency, where the venue gives it

    A venue that does not answer is named on stderr; the others are printed and published, and the command exits with 1.
    Instruments whose names have no canonical form here are left out: no feed could read them (docs/instruments.md).
    """
    set_up_logging()
    settings = load()
    found = run(ask([only] if only else sorted(LISTINGS), settings.venue_addresses(), limit_s=LIMIT_S))
    if found is None:
        return
    failed = [each for each in found.values() if isinstance(each, ListingError)]
    listed = [each for of in found.values() if not isinstance(of, ListingError) for each in of]
    chosen = [each for each in listed if pattern is None or matches(each, pattern)]
    if as_json:
        for each in chosen:
            click.echo(events.encode(each))
    else:
        _print(chosen)
    for error in failed:
        click.echo(str(error), err=True)
    if publish and chosen:
        run(_publish(settings, chosen))
    if not as_json:
        where = f", published to {Topics(settings).instruments.name}" if publish and chosen else ""
        click.echo(f"{len(chosen)} of {len(listed)} instruments{where}")
    if failed:
        sys.exit(1)


def _print(instruments: Sequence[ListedInstrument]) -> None:
    columns = ("provider", "symbol", "venue's name", "kind", "tick", "lot", "contract", "status", "volume")
    printed = table(*columns, right=("tick", "lot", "volume"))
    for i in instruments:
        printed.add_row(
            i.provider,
            i.symbol,
            i.venue_symbol,
            i.kind,
            i.tick_size or "",
            i.lot_size or "",
            f"{i.contract_size} {i.contract_currency}",
            i.status.replace("_", " "),
            "" if i.volume_24h is None else f"{i.volume_24h:,.0f} {i.quote}",
        )
    show(printed)


async def _publish(settings: Settings, instruments: Sequence[ListedInstrument]) -> None:
    """Write them to the topic, which is created if it is not there. Raises BrokerError."""
    topic = Topics(settings).instruments
    await kafka.create_topics(settings.bootstrap_servers, [topic], replication=settings.replication)
    partition, batches = Partitioner(topic.partitions), defaultdict[int, list[ProducerRecord]](list)
    for each in instruments:
        key = f"{each.provider}:{each.symbol}".encode()
        batches[partition(key)].append((key, events.encode(each), each.ts_recv // MS, []))
    publisher = Publisher(settings.bootstrap_servers, client_id="mdstream-instruments")
    await publisher.start()
    try:
        for number, records in batches.items():
            for future in await publisher.send(topic.name, number, records):
                await future
    except KafkaError as error:
        raise kafka.lost(settings.bootstrap_servers, error) from error
    finally:
        await publisher.stop()
