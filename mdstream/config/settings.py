"""Every setting, by its group."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from pydantic import Field, SecretStr

from mdstream import venues
from mdstream.config.cluster import Cluster
from mdstream.config.fields import Group, Json, Listed, prefixed, setting
from mdstream.config.groups import (
    VENUE_ADDRESSES,
    Addresses,
    Alpaca,
    Api,
    Bars,
    Binance,
    CoinApi,
    Database,
    Dtc,
    Failover,
    Files,
    Http,
    Ibkr,
    Kafka,
    Massive,
    Nats,
    Repair,
    Role,
    SandboxMode,
    Senpai,
    Spool,
    Timescale,
    Watchdog,
)

Market = Annotated[str, Field(pattern=r"^[A-Za-z0-9_-]{1,64}$")]
"""Part of a topic's name, and of paths."""


class Settings(Group, alias_generator=prefixed("MDSTREAM_")):
    """What all parts use, and the group of each part. Immutable; `load` makes it."""

    topic_prefix: str = setting("md", "first part of every topic's name", pattern=r"^[A-Za-z0-9_-]{1,64}$")
    partitions: int = setting(8, "partitions of every topic", ge=1, le=1024)
    replication: int = setting(1, "copies of every partition", ge=1, le=7)
    providers: Listed[str] = setting(
        (), "providers that `mdstream ingest` reads without --provider, comma-separated, or all"
    )
    sandbox_mode: SandboxMode = setting(
        "official", "sandbox: the venues' sandboxes and testnets in place of the venues", name=venues.SANDBOX_MODE
    )
    symbol_groups: Json[dict[str, Listed[str]]] = setting(
        {}, 'groups of symbols for `mdstream ingest --symbols @NAME`, as JSON: {"majors":["BTCUSDT","ETHUSDT"]}'
    )
    markets: Listed[Market] = setting(
        ("crypto", "equities"), "markets, each a raw topic, comma-separated", min_length=1
    )
    data_dir: Path = setting(Path("data"), "where SQLite and JSONL files and the embedded servers' data go")
    role: Role = setting("core", "what a worker does: core, timescale, nats or files")
    canonical_url: str | None = setting(
        None,
        "address at which the other workers of the group reach this one: http://HOST:PORT",
        name="NODE_CANONICAL_URL",
        pattern=r"^https?://[^\s/?#@]+/?$",
    )
    checkpoint_interval_s: float = setting(1.0, "seconds between checkpoints", gt=0, le=60)

    kafka: Kafka
    http: Http
    failover: Failover
    watchdog: Watchdog
    spool: Spool
    bars: Bars
    repair: Repair
    files: Files
    nats: Nats
    timescale: Timescale
    senpai: Senpai
    api: Api
    database: Database
    ibkr: Ibkr
    addresses: Addresses
    alpaca: Alpaca
    binance: Binance
    massive: Massive
    coinapi: CoinApi
    dtc: Dtc

    @property
    def bootstrap_servers(self) -> Cluster:
        """The Kafka cluster, with everything a client needs to connect."""
        return Cluster(self.kafka.servers, self.kafka.security, self.kafka.compression)

    def venue_addresses(self) -> dict[str, str]:
        """The venue addresses that are set, by their names in the environment; and whether sandboxes are wanted."""
        given: dict[str, SecretStr | None] = {name: getattr(self.addresses, name) for name in VENUE_ADDRESSES}
        found = {name: value.get_secret_value() for name, value in given.items() if value}
        return found | ({venues.SANDBOX_MODE: venues.SANDBOX} if self.sandbox_mode == venues.SANDBOX else {})

    def venue_settings(self) -> dict[str, str]:
        """What the feeds need: the venue addresses, and the venues' own settings, as far as they are set."""
        alpaca, massive = self.alpaca, self.massive
        secrets = {
            "ALPACA_KEY": alpaca.key,
            "ALPACA_SECRET": alpaca.secret,
            "MASSIVE_API_KEY": massive.api_key or massive.polygon_api_key,
            "COINAPI_KEY": self.coinapi.key,
            "DTC_USERNAME": self.dtc.username,
            "DTC_PASSWORD": self.dtc.password,
        }
        own = {name: value.get_secret_value() for name, value in secrets.items() if value}
        own |= {"ALPACA_FEED": alpaca.feed, "ALPACA_DRY_RUN": "true" if alpaca.dry_run else ""}
        return self.venue_addresses() | own | self.ibkr.parts()
