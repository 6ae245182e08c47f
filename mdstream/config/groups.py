"""The settings of each part, in a group of its own."""

from __future__ import annotations

import re
from ipaddress import ip_network
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

from pydantic import AfterValidator, Field, SecretStr, create_model, field_validator

from mdstream import venues
from mdstream.bars.rules import BAR_INTERVAL
from mdstream.config.cluster import Compression, Security
from mdstream.config.fields import Group, Json, Listed, OptionalSetting, prefixed, setting

Role = Literal["core", "timescale", "nats", "files"]
AlpacaFeed = Literal["iex", "sip", "delayed_sip", "test"]
CanonicalEvents = Literal["trades", "quotes", "books", "bars", "status"]
TimescaleEvents = Literal["trades", "quotes", "bars", "status"]
SpoolSync = Literal["always", "interval", "never"]
SandboxMode = Literal["official", "sandbox"]
SourcePolicy = Literal["failover", "merge"]
BarInterval = Annotated[str, Field(pattern=BAR_INTERVAL)]


Network = Annotated[str, AfterValidator(lambda text: str(ip_network(text)))]
"""An address, or a network like 10.0.0.0/8."""
MIN_PATH_SECRET = 16
_IN_PATH = re.compile("[A-Za-z0-9_-]*")
_DIGEST = re.compile("[0-9a-f]{64}")


def secrets_in(value: SecretStr | None) -> tuple[str, ...]:
    """Several secrets in one setting, comma-separated."""
    parts = value.get_secret_value().split(",") if value else ()
    return tuple(filter(None, (part.strip() for part in parts)))


class Kafka(Group, alias_generator=prefixed("KAFKA_")):
    """The cluster."""

    servers: str = setting(
        "localhost:9092", "Kafka brokers, host:port, comma-separated", name="KAFKA_BOOTSTRAP_SERVERS"
    )
    security: Security
    compression: Compression = setting(
        "none", "compression of batches written to Kafka: none, gzip, snappy, lz4 or zstd", name="MDSTREAM_COMPRESSION"
    )


class Http(Group, alias_generator=prefixed("HTTP_")):
    """Where a process answers HTTP."""

    host: str = setting("127.0.0.1", "address that every HTTP endpoint binds to")
    port: int | None = setting(None, "port of the HTTP endpoint", ge=1, le=65535)


class InstrumentSettings(Group):
    """Overrides for an instrument or a pattern: sources, best first, and policy."""

    sources: Listed[str] = ()
    policy: SourcePolicy | None = None


class Failover(Group, alias_generator=prefixed("MDSTREAM_")):
    """Which source is followed, and what is a gap: docs/failover.md."""

    sources: Listed[str] = setting((), "providers in order of preference, comma-separated; empty: all there are")
    policy: SourcePolicy = setting("failover", "failover: one source of an instrument at a time; merge: all of them")
    instruments: Json[dict[str, InstrumentSettings]] = setting(
        {}, 'sources or policy of instruments, by name or pattern, as JSON: {"*USDT":{"sources":["okx","binance"]}}'
    )
    stale_after_s: float = setting(
        3.0, "seconds of silence that are a fault while other sources have data", ge=0.5, le=3600
    )
    recover_after_s: float = setting(30.0, "seconds that a source must be good to be followed again", ge=1, le=86_400)
    max_latency_s: float = setting(2.0, "seconds of latency above the usual that are a fault", gt=0, le=3600)
    max_faults_per_minute: float = setting(30, "unreadable frames per minute that are a fault", gt=0)
    max_gaps_per_minute: float = setting(10, "gaps per minute of an instrument that are a fault", gt=0)
    gap_after_s: float = setting(1.0, "seconds until a missing trade id is a gap", gt=0, le=600)
    max_repair_trades: int = setting(100_000, "trades in a gap above which it is not repaired", ge=1)
    heartbeat_s: float = setting(10.0, "seconds between two heartbeats on md.status in a silence", ge=1, le=86_400)


class Watchdog(Group, alias_generator=prefixed("MDSTREAM_")):
    """When a process is stuck, or its data stale: docs/operations.md."""

    stuck_ready_s: float = setting(10.0, "seconds without progress until /ready returns 503", gt=0, le=3600)
    stuck_exit_s: float = setting(60.0, "seconds without progress until the process exits with 75; 0: never", ge=0)
    core_stuck_exit_s: float = setting(
        20.0, "the same for a core worker, if that is less: others could take over its partitions", ge=1
    )
    start_allowance_s: float = setting(120.0, "seconds a worker may wait for its partitions", gt=0)
    data_silence_s: float = setting(60.0, "seconds without data that are stale, at least; 0: never", ge=0)


class Bars(Group, alias_generator=prefixed("MDSTREAM_BARS_")):
    """docs/bars.md."""

    intervals: Listed[BarInterval] = setting(
        ("1s", "1m", "5m", "1h"), "lengths of bars, comma-separated; empty: none", name="MDSTREAM_BARS", max_length=16
    )
    lateness_s: float = setting(1.0, "seconds that a bar waits for late trades", ge=0, le=60)


class Spool(Group, alias_generator=prefixed("MDSTREAM_SPOOL_")):
    """What an ingestor keeps on disk while Kafka is away: docs/operations.md."""

    mb: int = setting(4096, "MiB in DATA_DIR/spool, per ingestor; 0: nothing", ge=0, le=1 << 20)
    fsync: SpoolSync = setting(
        "interval", "when the disk has to have it: always (after each write), interval (each second) or never"
    )


class Repair(Group, alias_generator=prefixed("MDSTREAM_REPAIR_")):
    """docs/repair.md."""

    patience_s: float = setting(10.0, "seconds to wait for trades not yet in a venue's history", ge=0, le=3600)


class Files(Group, alias_generator=prefixed("MDSTREAM_")):
    """The files role: docs/sinks.md."""

    sqlite: bool = setting(True, "the files role writes DATA_DIR/market_data.db")
    jsonl: bool = setting(True, "the files role writes DATA_DIR/events.jsonl")
    jsonl_rotate_mb: int = setting(256, "size in MiB at which events.jsonl is rotated", ge=1, le=65536)
    jsonl_gzip: bool = setting(False, "compress rotated files")
    events: Listed[CanonicalEvents] = setting(
        ("trades", "quotes", "bars", "status"),
        "topics that the files role stores, comma-separated: trades, quotes, books, bars, status",
        name="MDSTREAM_FILES_EVENTS",
        min_length=1,
    )


class Nats(Group, alias_generator=prefixed("NATS_")):
    """The nats role: docs/sinks.md."""

    url: SecretStr = setting(
        SecretStr("nats://127.0.0.1:4222"), "NATS servers, nats://USER:PASSWORD@HOST:4222, comma-separated"
    )
    creds: OptionalSetting[Path] = setting(None, "a credentials file: JWT and seed of the user")
    ca: OptionalSetting[Path] = setting(None, "certificate authorities, PEM; default: those of the system")
    cert: OptionalSetting[Path] = setting(None, "our certificate, PEM")
    key: OptionalSetting[Path] = setting(None, "its key, PEM")
    enabled: bool = setting(True, "false: the nats role publishes nothing")
    subject_prefix: str = setting(
        "md.events",
        "first tokens of every subject on NATS",
        pattern=r"^[A-Za-z0-9_-]{1,64}(\.[A-Za-z0-9_-]{1,64}){0,7}$",
    )
    jetstream: bool = setting(
        False, "true: into a stream that keeps the events; false: to current subscribers only", name="USE_JETSTREAM"
    )
    events: Listed[CanonicalEvents] = setting(
        ("trades", "quotes", "books", "bars", "status"),
        "topics that the nats role publishes, comma-separated: trades, quotes, books, bars, status",
        min_length=1,
    )
    stream: str = setting("MDSTREAM", "the stream's name", pattern=r"^[A-Za-z0-9_-]{1,64}$")
    stream_hours: float = setting(24.0, "hours that the stream keeps events; 0: no limit", ge=0)
    stream_mb: int = setting(4096, "MiB that the stream keeps; 0: no limit", ge=0)
    stream_replicas: int = setting(1, "copies of the stream, in a cluster", ge=1, le=5)
    duplicate_window_s: float = setting(120.0, "seconds that the stream knows message ids", ge=1, le=86_400)


RuleName = Annotated[str, Field(pattern=r"^[A-Za-z0-9_-]{1,64}$")]
"""Part of a signal's id."""


class SenpaiRule(Group):
    """A rule of signals: what it leaves out is as in mdstream/senpai/signals.py."""

    direction: Literal["long", "short"]
    above: dict[str, float] = Field({})
    below: dict[str, float] = Field({})
    version: int = Field(1, ge=1)
    hysteresis: float = Field(0.2, ge=0, le=10)
    cooldown_s: float = Field(30.0, ge=0, le=86_400)


class Senpai(Group, alias_generator=prefixed("MDSTREAM_SENPAI_")):
    """The consumer that makes features and signals: docs/senpai.md."""

    rows_per_s: int = setting(10, "rows of features per second and symbol, a divisor of 1000", ge=1, le=50)
    lateness_ms: float = setting(50.0, "ms that a row waits for what was received before it", ge=0, le=10_000)
    stale_s: float = setting(10.0, "seconds without a trade or quote after which a symbol is stale", gt=0, le=3600)
    max_quote_age_s: float = setting(2.0, "age in seconds of a quote beyond which no signal is made", gt=0, le=60)
    max_latency_ms: float = setting(1000.0, "median latency in ms beyond which no signal is made", gt=0)
    subject_prefix: str = setting(
        "senpai",
        "first tokens of the subjects of features, signals and alerts",
        pattern=r"^[A-Za-z0-9_-]{1,64}(\.[A-Za-z0-9_-]{1,64}){0,7}$",
    )
    stream: str = setting(
        "SENPAI", "the stream of features, signals and alerts, with USE_JETSTREAM", pattern=r"^[A-Za-z0-9_-]{1,64}$"
    )
    stream_messages: int = setting(1000, "messages of each subject that this stream keeps, the newest", ge=1)
    rules: Json[dict[RuleName, SenpaiRule]] = setting(
        {},
        'rules of signals in place of the defaults, as JSON: {"up":{"direction":"long","above":{"return_10s":0.001}}}',
    )

    @field_validator("rows_per_s")
    @classmethod
    def _divides_a_second(cls, value: int) -> int:
        if 1000 % value:
            raise ValueError("expected a divisor of 1000")
        return value


class Api(Group, alias_generator=prefixed("MDSTREAM_API_")):
    """`mdstream api`: docs/api.md."""

    signing_secrets: SecretStr | None = setting(
        None, "secrets that sign the webhook's requests, comma-separated", name="TRADINGVIEW_HMAC_SECRET"
    )
    path_secrets: SecretStr | None = setting(
        None,
        "secrets in the webhook's path, for TradingView itself, comma-separated, of 16 characters or more",
        name="TRADINGVIEW_PATH_SECRET",
    )
    path_addresses: Listed[Network] = setting(
        ("52.89.214.238", "34.212.75.30", "54.218.53.128", "52.32.178.7"),
        "addresses that may use these paths, comma-separated: by default TradingView's",
        name="TRADINGVIEW_ADDRESSES",
    )
    window_s: float = setting(
        120.0, "seconds by which an alert's time may differ from ours", name="TRADINGVIEW_WINDOW_S", ge=1, le=3600
    )
    requests_per_s: float = setting(50.0, "requests per second that each address may send", gt=0, le=100_000)
    proxies: Listed[Network] = setting((), "addresses of our proxies, whose header is believed, comma-separated")
    proxy_header: str = setting(
        "X-Forwarded-For", "the header in which they name the client", pattern=r"^[A-Za-z0-9-]{1,64}$"
    )
    origins: Listed[str] = setting(
        (), "sites whose pages may read, like https://charts.example, comma-separated; * for any"
    )

    keys: SecretStr | None = setting(
        None, "SHA-256 of each key with which /v1 and /udf may be read, in hex, comma-separated; none: without a key"
    )
    key_requests_per_s: float = setting(20.0, "requests per second that each key may send", gt=0, le=100_000)
    streams: int = setting(32, "live streams open at a time, each a reader of Kafka", ge=1, le=100)

    @field_validator("keys")
    @classmethod
    def _are_digests(cls, value: SecretStr | None) -> SecretStr | None:
        if not all(_DIGEST.fullmatch(digest) for digest in secrets_in(value)):
            raise ValueError("expected the SHA-256 of each key, 64 hex digits in lower case, as sha256sum prints it")
        return value

    @field_validator("path_secrets")
    @classmethod
    def _cannot_be_guessed(cls, value: SecretStr | None) -> SecretStr | None:
        if any(len(secret) < MIN_PATH_SECRET or not _IN_PATH.fullmatch(secret) for secret in secrets_in(value)):
            raise ValueError(f"expected secrets of {MIN_PATH_SECRET} or more letters, digits, - or _")
        return value


class Timescale(Group, alias_generator=prefixed("MDSTREAM_TIMESCALE_")):
    """The timescale role: docs/sinks.md."""

    events: Listed[TimescaleEvents] = setting(
        ("trades", "quotes", "bars", "status"),
        "topics that the timescale role stores, comma-separated: trades, quotes, bars, status",
        min_length=1,
    )
    write_s: float = setting(30.0, "seconds that one write may take", ge=1, le=600)


class Database(Group, alias_generator=prefixed("MDSTREAM_DB_")):
    """The database, and what `mdstream db upgrade` sets in TimescaleDB: docs/database.md."""

    url: SecretStr | None = setting(
        None, "the database: postgresql://USER:PASSWORD@HOST:5432/NAME", name="MARKET_DATA_DATABASE_URL"
    )
    compress_after_days: int = setting(7, "days until rows are compressed; 0: never", ge=0, le=36_500)
    keep_ticks_days: int = setting(0, "days that ticks are kept; 0: forever", ge=0, le=36_500)
    keep_quotes_days: int = setting(0, "days that quotes are kept; 0: forever", ge=0, le=36_500)
    keep_ohlcv_days: int = setting(0, "days that bars are kept; 0: forever", ge=0, le=36_500)
    keep_feed_events_days: int = setting(0, "days that feed events are kept; 0: forever", ge=0, le=36_500)


class Ibkr(Group, alias_generator=prefixed("IBKR_")):
    """The gateway of Interactive Brokers, if IB_WS_URL names none: docs/venues/ib.md."""

    host: str | None = setting(None, "host of TWS or IB Gateway; default: 127.0.0.1")
    port: int | None = setting(None, "its port: 4002 (the default), 4001, 7497 or 7496", ge=1, le=65535)
    client_id: int | None = setting(
        None, "our client id there, no other connection's; default: 17; history takes the next one", ge=0, lt=1 << 31
    )

    def parts(self) -> dict[str, str]:
        """The settings that are set, by their names in the environment."""
        given = {"IBKR_HOST": self.host, "IBKR_PORT": self.port, "IBKR_CLIENT_ID": self.client_id}
        return {name: str(value) for name, value in given.items() if value is not None}


class Dtc(Group, alias_generator=prefixed("DTC_")):
    """Access to a DTC server, if it asks: docs/venues/dtc.md."""

    username: SecretStr | None = setting(None, "the user")
    password: SecretStr | None = setting(None, "the password")


class Alpaca(Group, alias_generator=prefixed("ALPACA_")):
    """Access to Alpaca: docs/venues/alpaca.md."""

    key: SecretStr | None = setting(None, "the key's id")
    secret: SecretStr | None = setting(None, "the key's secret")
    feed: AlpacaFeed = setting("iex", "feed of US stocks: iex (free), sip, delayed_sip or test")
    dry_run: bool = setting(False, "true: no connection to Alpaca, heartbeats only")


class Binance(Group, alias_generator=prefixed("BINANCE_")):
    """Accepted and not used: all that is read of Binance is public."""

    api_key: SecretStr | None = setting(None, "not needed: what is read of Binance is public")
    api_secret: SecretStr | None = setting(None, "not needed either")


class Massive(Group, alias_generator=prefixed("MASSIVE_")):
    """Access to Massive: docs/venues/massive.md."""

    api_key: SecretStr | None = setting(None, "the key")
    polygon_api_key: SecretStr | None = setting(None, "the same by its older name", name="POLYGON_API_KEY")


class CoinApi(Group, alias_generator=prefixed("COINAPI_")):
    """Access to CoinAPI: docs/venues/coinapi.md."""

    key: SecretStr | None = setting(None, "the key")


VENUE_ADDRESSES = tuple(named(venue) for venue in venues.NAMES for named in (venues.ws_setting, venues.rest_setting))

if TYPE_CHECKING:
    Addresses = Group
else:  # as many settings as there are venues; an address may hold a key
    Addresses = create_model(
        "Addresses",
        __base__=Group,
        **{
            name: (SecretStr | None, setting(None, "the venue's address, if not its own", name=name))
            for name in VENUE_ADDRESSES
        },
    )
