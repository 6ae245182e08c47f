"""`mdstream api`: the HTTP API."""

from __future__ import annotations

import click
import uvloop

from mdstream import config
from mdstream.api.process import api
from mdstream.api.seen import DEFAULT_PORT
from mdstream.cli import set_up_logging
from mdstream.tools.running import run


@click.command()
@click.option("--kafka", help="Kafka brokers, host:port.  [default: KAFKA_BOOTSTRAP_SERVERS, localhost:9092]")
@click.option("--port", type=click.IntRange(1, 65535), help=f"HTTP port.  [default: HTTP_PORT, {DEFAULT_PORT}]")
def command(kafka: str | None, port: int | None) -> None:
    """Take alerts from TradingView by webhook, and answer what is stored.

    An alert becomes a trade of the provider tradingview: the core worker publishes it on md.trades under a symbol like
    BINANCE:BTCUSDT.TV, and the sinks store it. 202 means that Kafka has it on all replicas. The same alert counts once,
    however often it is sent.

    \b
    A signed alert (from a relay or a program of your own):
      export TRADINGVIEW_HMAC_SECRET=$(openssl rand -hex 32)
      mdstream api
      BODY='{"symbol":"BINANCE:BTCUSDT","price":93741.2,"timenow":"'$(date -u +%FT%TZ)'","id":"a1"}'
      SIGNATURE=$(printf %s "$BODY" | openssl dgst -sha256 -hmac "$TRADINGVIEW_HMAC_SECRET" -r | cut -d' ' -f1)
      curl -i 127.0.0.1:8000/webhooks/tradingview -H "X-Signature: $SIGNATURE" -d "$BODY"

    \b
    From TradingView itself, which cannot sign, behind a proxy with TLS on port 443:
      export TRADINGVIEW_PATH_SECRET=$(openssl rand -hex 32) MDSTREAM_API_PROXIES=127.0.0.1
      mdstream api
      the webhook's address in the alert: https://HOST/webhooks/tradingview/SECRET

    Several secrets, comma-separated, are good at the same time: add the new one, change the senders, remove the old
    one. TRADINGVIEW_WINDOW_S (120) is how far an alert's time may be from ours.

    \b
    What the timescale worker has stored (MARKET_DATA_DATABASE_URL), as JSON, or by the Accept header as CSV or Arrow:
      curl '127.0.0.1:8000/v1/trades?symbol=BTCUSDT&from=2026-01-05T15:00:00Z&limit=100'
      curl '127.0.0.1:8000/v1/bars?symbol=BTCUSDT&interval=1m'      also /v1/quotes, /v1/gaps, /v1/symbols

    \b
    Live events from Kafka, as server-sent events or a websocket; also quotes, books and bars:
      curl -N '127.0.0.1:8000/v1/stream/trades?symbol=BTCUSDT'

    With MDSTREAM_API_KEYS, the SHA-256 of each key, these and the charts ask for one: Authorization: Bearer KEY.

    \b
    The bars in TradingView's charting library, or any other client of its protocol UDF:
      http://127.0.0.1:8000/udf

    \b
    HTTP, on 127.0.0.1 unless HTTP_HOST says otherwise:
      /chart      candles that move, of any symbol         /ready   200 while all it needs answers
      /docs       what there is, with examples             /live    200 while it answers
      /health     Kafka, the database                      /metrics for Prometheus

    More: docs/api.md.
    """
    set_up_logging()
    settings = config.load(bootstrap_servers=kafka, http_port=port)
    run(api(settings, port=settings.http.port or DEFAULT_PORT), uvloop.new_event_loop)
