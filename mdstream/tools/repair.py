"""`mdstream repair`: fetches the missing trades that md.gaps asks for."""

from __future__ import annotations

import click

from mdstream import config
from mdstream.cli import set_up_logging
from mdstream.repair.process import DEFAULT_PORT, repair
from mdstream.repair.venues import HISTORIES
from mdstream.tools.running import run


@click.command()
@click.option(
    "--provider",
    "providers",
    multiple=True,
    type=click.Choice(sorted(HISTORIES)),
    help="Only this provider's gaps; may be repeated.  [default: all]",
)
@click.option("--kafka", help="Kafka brokers, host:port.  [default: KAFKA_BOOTSTRAP_SERVERS, localhost:9092]")
@click.option("--port", type=click.IntRange(1, 65535), help=f"HTTP port.  [default: HTTP_PORT, {DEFAULT_PORT}]")
def command(providers: tuple[str, ...], kafka: str | None, port: int | None) -> None:
    """Fetch missing trades from the venues' public REST interfaces.

    The core worker asks for them on md.gaps. Each answer of a venue goes to the raw topic as it came, and the core
    worker takes from it what is missing. What a venue no longer has is declared lost; a venue that cannot be reached is
    retried for as long as it takes, within half of its rate limit.

    \b
    Examples:
      mdstream repair
      mdstream repair --provider binance --port 8894
      BINANCE_API_BASE_URL=http://127.0.0.1:9440/binance mdstream repair      (mdstream simulate)

    Start as many as you like: they share the work. Processes with --provider share none with those without it: run one
    kind or the other. Stop or kill them at any time: open requests are repeated.

    \b
    BINANCE_API_BASE_URL, COINBASE_API_BASE_URL and OKX_API_BASE_URL point at another server, HTTPS_PROXY at a proxy.
    MDSTREAM_REPAIR_PATIENCE_S (10) is how long a trade may take to appear in a venue's history.

    \b
    HTTP, on 127.0.0.1 unless HTTP_HOST says otherwise:
      /health     each venue: open, recovered, lost      /ready   200 while everything flows
      /metrics    for Prometheus                         /live    200 unless a restart is due

    More: docs/repair.md.
    """
    set_up_logging()
    settings = config.load(bootstrap_servers=kafka, http_port=port)
    run(repair(settings, only=frozenset(providers), port=settings.http.port or DEFAULT_PORT))
