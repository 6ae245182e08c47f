"""The command `mdstream ingest`."""

from __future__ import annotations

import click

from mdstream import config
from mdstream.cli import set_up_logging
from mdstream.errors import SettingsError
from mdstream.ingest.process import DEFAULT_PORT, Options, run
from mdstream.ingest.selection import Selection
from mdstream.venues.providers import FEEDS


@click.command()
@click.option(
    "--provider",
    help=f"{', '.join(FEEDS)}, several of them separated by commas, or all.  [default: MDSTREAM_PROVIDERS]",
)
@click.option(
    "--symbols",
    help="Comma-separated: BTCUSDT, the venue's own form like BTC-USDT-SWAP, a pattern like BTC*-PERP, top:20:*USDT, a "
    "group @NAME of mdstream.toml, or file:PATH.  [default: one or two of the venue's]",
)
@click.option("--kafka", help="Kafka brokers, host:port.  [default: KAFKA_BOOTSTRAP_SERVERS, localhost:9092]")
@click.option("--port", type=click.IntRange(1, 65535), help=f"HTTP port.  [default: HTTP_PORT, {DEFAULT_PORT}]")
@click.option(
    "--max-attempts",
    type=click.IntRange(min=1),
    help="Give a feed up after so many connections in a row without data.  [default: never]",
)
@click.option(
    "--redundant",
    type=click.IntRange(1, 4),
    default=1,
    show_default=True,
    help="Connections for each symbol: what one of them loses comes by another.",
)
def command(
    provider: str | None,
    symbols: str | None,
    kafka: str | None,
    port: int | None,
    max_attempts: int | None,
    redundant: int,
) -> None:
    """Write a venue's frames to the raw topic, untouched.

    \b
    Examples:
      mdstream ingest --provider binance --symbols BTCUSDT,ETHUSDT
      mdstream ingest --provider okx --symbols BTCUSDT,BTC-USDT-SWAP --port 8892
      mdstream ingest --provider binance,okx,coinbase
      mdstream ingest --provider all
      mdstream ingest --provider binance --symbols BTCUSDT --redundant 2
      mdstream ingest --provider binance --symbols @majors,file:symbols.txt
      mdstream ingest --provider binance --symbols 'top:20:*USDT'
      curl localhost:8891/symbols --json '{"provider":"binance","add":["SOLUSDT"],"remove":["ETHUSDT"]}'
      BINANCE_WS_URL=ws://127.0.0.1:9101/stream mdstream ingest --provider binance --symbols BTCUSDT

    BINANCE_WS_URL, OKX_WS_URL and so on point a provider at another server, in .env as well. Each second every
    partition gets a heartbeat, and a status record when a feed connects, disconnects or is given up. While Kafka is
    away the frames go to DATA_DIR/spool, up to MDSTREAM_SPOOL_MB (4096), and are sent when it is back, if need be by
    the next start. Only when that is full are some dropped, trades last (docs/operations.md).

    \b
    HTTP, on 127.0.0.1 unless HTTP_HOST says otherwise:
      /health     the feeds and their counters      /ready   200 while everything flows
      /metrics    for Prometheus                    /live    200 unless a restart is due
      /bus-stats  sending to Kafka
      /symbols    GET: those that are read; POST: add or remove some, without disturbing the others

    The venue is asked what it lists, if it is read at its own address or both addresses are set. Patterns and top:COUNT
    (by volume of 24 hours) need that; a symbol that is not listed is left out. Without the list all symbols are tried.

    The files and mdstream.toml are read again when they change: what was added is subscribed to, what was removed ends.

    The log, /health and /metrics name what does not work; the rest runs. Refused: a symbol that the venue cannot have.
    Rejected: a subscription that it answers with an error. Missing: one that it does not acknowledge within ten
    seconds. Mute: a symbol without any data.

    A venue that refuses us (HTTP 401, 403, a refused login) ends its feed, and the log says what to set; the others go
    on. If every venue refuses us, the ingestor exits with 2.

    A connection that the venue is about to end (an age limit, a notice of a restart) is replaced first: the new one is
    subscribed before the old one is closed. A feed whose data stops while its heartbeats continue is reconnected.

    While Kafka is down the ingestor waits, live and not ready; if Kafka answers but acknowledges nothing for
    MDSTREAM_STUCK_EXIT_S (60), it exits with 75, to be started again (docs/operations.md).

    Ctrl-C or SIGTERM: what has arrived is written to Kafka or to the spool, then the process ends, within ten seconds.
    A second one ends it at once.
    """
    set_up_logging()
    settings = config.load(bootstrap_servers=kafka, http_port=port)
    options = Options(settings.http.port or DEFAULT_PORT, max_attempts, redundant)
    chosen = provider or ",".join(settings.providers)
    if not chosen:
        raise SettingsError("no provider: name one with --provider, or set MDSTREAM_PROVIDERS")
    run(Selection(chosen, symbols), settings, options)
