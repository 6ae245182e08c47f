"""Settings: read once, at the entry point, from the environment, `.env` and `mdstream.toml`, in that order.

In the environment a setting has the upper-case name given below; in `mdstream.toml` its field name in lower case.
"""

from __future__ import annotations

import json
import logging
import tomllib
from pathlib import Path
from typing import Annotated, Any, Literal, TypeVar

from pydantic import (
    AliasChoices,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    SecretStr,
    ValidationError,
    create_model,
)
from pydantic_settings import (
    BaseSettings,
    EnvSettingsSource,
    NoDecode,
    PydanticBaseSettingsSource,
    SettingsConfigDict,
    TomlConfigSettingsSource,
)
from pydantic_settings import SettingsError as SourceError

from mdstream import misspelt, venues
from mdstream.cluster import Cluster, Compression, Mechanism, Protocol, Security
from mdstream.errors import SettingsError
from mdstream.redact import scrubbed

log = logging.getLogger(__name__)

ENV_FILE, TOML_FILE = ".env", "mdstream.toml"

Role = Literal["core", "timescale", "nats", "files"]
CanonicalEvents = Literal["trades", "quotes", "books", "bars", "status"]
TimescaleEvents = Literal["trades", "quotes", "bars", "status"]
SourcePolicy = Literal["failover", "merge"]
BarInterval = Annotated[str, Field(pattern=r"^[1-9][0-9]{0,3}[smhd]$")]


def _named(environment: str, field: str, default: Any, what: str, **limits: Any) -> Any:
    return Field(default, validation_alias=AliasChoices(environment, field), description=what, **limits)


def _split(value: object) -> object:
    return tuple(part.strip() for part in value.split(",") if part.strip()) if isinstance(value, str) else value


def _json(value: object) -> object:
    try:
        return json.loads(value) if isinstance(value, str) else value
    except ValueError as error:
        raise ValueError(f"no JSON: {error}") from None


def _upper(value: object) -> object:
    return (value.strip().upper() or None) if isinstance(value, str) else value


T = TypeVar("T")
Given = Annotated[T | None, BeforeValidator(lambda value: None if value == "" else value)]
"""An optional setting; an empty text in the environment counts as not set."""
Names = Annotated[tuple[str, ...], NoDecode, BeforeValidator(_split)]
"""Names as a list, or comma-separated in one text."""

Market = Annotated[str, Field(pattern=r"^[A-Za-z0-9_-]{1,64}$")]
"""Part of a topic's name, and of paths."""


class InstrumentSettings(BaseModel):
    """Overrides for one instrument: its sources, best first, and its policy."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    sources: Annotated[tuple[str, ...], BeforeValidator(_split)] = ()
    policy: SourcePolicy | None = None


class Settings(BaseSettings):
    """Every setting with its default. `load` judges unknown names: the environment has other programs' names too."""

    model_config = SettingsConfigDict(
        env_file=ENV_FILE, toml_file=TOML_FILE, extra="ignore", frozen=True, populate_by_name=True
    )

    kafka_servers: str = _named(
        "KAFKA_BOOTSTRAP_SERVERS", "bootstrap_servers", "localhost:9092", "Kafka brokers, host:port, comma-separated"
    )
    topic_prefix: str = _named(
        "MDSTREAM_TOPIC_PREFIX",
        "topic_prefix",
        "md",
        "first part of every topic's name",
        pattern=r"^[A-Za-z0-9_-]{1,64}$",
    )
    partitions: int = _named("MDSTREAM_PARTITIONS", "partitions", 8, "partitions of every topic", ge=1, le=1024)
    replication: int = _named("MDSTREAM_REPLICATION", "replication", 1, "copies of every partition", ge=1, le=7)
    markets: Annotated[tuple[Market, ...], NoDecode, BeforeValidator(_split)] = _named(
        "MDSTREAM_MARKETS",
        "markets",
        ("crypto", "equities"),
        "markets, each a raw topic, comma-separated",
        min_length=1,
    )
    data_dir: Path = _named("MDSTREAM_DATA_DIR", "data_dir", Path("data"), "where SQLite, JSONL and spool files go")
    role: Role = _named("MDSTREAM_ROLE", "role", "core", "what a worker does: core, timescale, nats or files")
    http_host: str = _named("HTTP_HOST", "http_host", "127.0.0.1", "address that every HTTP endpoint binds to")
    http_port: int | None = _named("HTTP_PORT", "http_port", None, "port of the HTTP endpoint", ge=1, le=65535)
    canonical_url: str | None = _named(
        "NODE_CANONICAL_URL",
        "canonical_url",
        None,
        "where the other workers of the group reach this one: http://HOST:PORT",
        pattern=r"^https?://[^\s/?#@]+/?$",
    )
    checkpoint_interval_s: float = _named(
        "MDSTREAM_CHECKPOINT_INTERVAL_S", "checkpoint_interval_s", 1.0, "seconds between checkpoints", gt=0, le=60
    )

    # Which source is followed: docs/failover.md.
    sources: Names = _named(
        "MDSTREAM_SOURCES", "sources", (), "providers in order of preference, comma-separated; empty: all there are"
    )
    policy: SourcePolicy = _named(
        "MDSTREAM_POLICY", "policy", "failover", "failover: one source of an instrument at a time; merge: all of them"
    )
    instruments: Annotated[dict[str, InstrumentSettings], NoDecode, BeforeValidator(_json)] = _named(
        "MDSTREAM_INSTRUMENTS",
        "instruments",
        {},
        'instruments with sources or a policy of their own, as JSON: {"ETHUSDT":{"sources":["okx","binance"]}}',
    )
    stale_after_s: float = _named(
        "MDSTREAM_STALE_AFTER_S",
        "stale_after_s",
        3.0,
        "silence that is a fault while other sources have data",
        ge=0.5,
        le=3600,
    )
    recover_after_s: float = _named(
        "MDSTREAM_RECOVER_AFTER_S", "recover_after_s", 30.0, "health before a source is taken again", ge=1, le=86_400
    )
    max_latency_s: float = _named(
        "MDSTREAM_MAX_LATENCY_S", "max_latency_s", 2.0, "lateness, beyond the usual, that is a fault", gt=0, le=3600
    )
    max_faults_per_minute: float = _named(
        "MDSTREAM_MAX_FAULTS_PER_MINUTE", "max_faults_per_minute", 30, "frames not understood that are a fault", gt=0
    )
    max_gaps_per_minute: float = _named(
        "MDSTREAM_MAX_GAPS_PER_MINUTE", "max_gaps_per_minute", 10, "gaps of an instrument that are a fault", gt=0
    )
    gap_after_s: float = _named(
        "MDSTREAM_GAP_AFTER_S", "gap_after_s", 1.0, "how late a trade may come before it is missing", gt=0, le=600
    )
    max_repair_trades: int = _named(
        "MDSTREAM_MAX_REPAIR_TRADES", "max_repair_trades", 100_000, "a gap of more trades is not repaired", ge=1
    )
    heartbeat_s: float = _named(
        "MDSTREAM_HEARTBEAT_S", "heartbeat_s", 10.0, "silence between two heartbeats on md.status", ge=1, le=86_400
    )

    # Watchdogs: docs/operations.md.
    stuck_ready_s: float = _named(
        "MDSTREAM_STUCK_READY_S", "stuck_ready_s", 10.0, "seconds without progress until /ready says 503", gt=0, le=3600
    )
    stuck_exit_s: float = _named(
        "MDSTREAM_STUCK_EXIT_S", "stuck_exit_s", 60.0, "... until the process exits with 75; 0: it never does", ge=0
    )
    core_stuck_exit_s: float = _named(
        "MDSTREAM_CORE_STUCK_EXIT_S",
        "core_stuck_exit_s",
        20.0,
        "... of a core worker, if that is less: others could go on with its partitions",
        ge=1,
    )
    start_allowance_s: float = _named(
        "MDSTREAM_START_ALLOWANCE_S", "start_allowance_s", 120.0, "seconds a worker may wait for its partitions", gt=0
    )
    data_silence_s: float = _named(
        "MDSTREAM_DATA_SILENCE_S", "data_silence_s", 60.0, "least seconds until silence is stale; 0: it never is", ge=0
    )

    # Bars: docs/bars.md.
    bars: Annotated[tuple[BarInterval, ...], NoDecode, BeforeValidator(_split)] = _named(
        "MDSTREAM_BARS",
        "bars",
        ("1s", "1m", "5m", "1h"),
        "lengths of bars, comma-separated; empty: none",
        max_length=16,
    )
    bars_lateness_s: float = _named(
        "MDSTREAM_BARS_LATENESS_S", "bars_lateness_s", 1.0, "how long trades are waited for after a bar", ge=0, le=60
    )

    repair_patience_s: float = _named(
        "MDSTREAM_REPAIR_PATIENCE_S",
        "repair_patience_s",
        10.0,
        "wait for trades not in a venue's history",
        ge=0,
        le=3600,
    )

    sqlite: bool = _named("MDSTREAM_SQLITE", "sqlite", True, "the files role writes DATA_DIR/market_data.db")
    jsonl: bool = _named("MDSTREAM_JSONL", "jsonl", True, "the files role writes DATA_DIR/events.jsonl")
    jsonl_rotate_mb: int = _named(
        "MDSTREAM_JSONL_ROTATE_MB", "jsonl_rotate_mb", 256, "MiB after which events.jsonl is put aside", ge=1, le=65536
    )
    jsonl_gzip: bool = _named("MDSTREAM_JSONL_GZIP", "jsonl_gzip", False, "compress the files that were put aside")
    files_events: Annotated[tuple[CanonicalEvents, ...], NoDecode, BeforeValidator(_split)] = _named(
        "MDSTREAM_FILES_EVENTS",
        "files_events",
        ("trades", "quotes", "bars", "status"),
        "topics that the files role stores, comma-separated: trades, quotes, books, bars, status",
        min_length=1,
    )

    # Authentication and TLS towards Kafka: docs/deployment.md. The names are those of Kafka's clients.
    kafka_security_protocol: Annotated[Protocol, BeforeValidator(lambda value: _upper(value) or "PLAINTEXT")] = _named(
        "KAFKA_SECURITY_PROTOCOL",
        "kafka_security_protocol",
        "PLAINTEXT",
        "PLAINTEXT, SSL, SASL_PLAINTEXT or SASL_SSL",
    )
    kafka_sasl_mechanism: Annotated[Mechanism | None, BeforeValidator(_upper)] = _named(
        "KAFKA_SASL_MECHANISM",
        "kafka_sasl_mechanism",
        None,
        "PLAIN, SCRAM-SHA-256, SCRAM-SHA-512 or OAUTHBEARER",
    )
    kafka_sasl_username: Given[str] = _named("KAFKA_SASL_USERNAME", "kafka_sasl_username", None, "the user")
    kafka_sasl_password: Given[SecretStr] = _named("KAFKA_SASL_PASSWORD", "kafka_sasl_password", None, "the password")
    kafka_sasl_password_file: Given[Path] = _named(
        "KAFKA_SASL_PASSWORD_FILE", "kafka_sasl_password_file", None, "a file with the password, in place of it"
    )
    kafka_sasl_oauthbearer_token_file: Given[Path] = _named(
        "KAFKA_SASL_OAUTHBEARER_TOKEN_FILE",
        "kafka_sasl_oauthbearer_token_file",
        None,
        "a file with the token, read again for each connection",
    )
    kafka_ssl_cafile: Given[Path] = _named(
        "KAFKA_SSL_CAFILE", "kafka_ssl_cafile", None, "whom to trust, PEM; without it whom the system trusts"
    )
    kafka_ssl_certfile: Given[Path] = _named("KAFKA_SSL_CERTFILE", "kafka_ssl_certfile", None, "our certificate, PEM")
    kafka_ssl_keyfile: Given[Path] = _named(
        "KAFKA_SSL_KEYFILE", "kafka_ssl_keyfile", None, "its key, PEM; without it the key beside the certificate"
    )
    kafka_ssl_key_password: Given[SecretStr] = _named(
        "KAFKA_SSL_KEY_PASSWORD", "kafka_ssl_key_password", None, "the password of the key"
    )
    kafka_ssl_check_hostname: bool = _named(
        "KAFKA_SSL_CHECK_HOSTNAME", "kafka_ssl_check_hostname", True, "false: a certificate of any name will do"
    )
    compression: Compression = _named(
        "MDSTREAM_COMPRESSION", "compression", "none", "of the batches written to Kafka: none, gzip, snappy, lz4, zstd"
    )

    # NATS: docs/sinks.md.
    nats_url: SecretStr = _named(
        "NATS_URL",
        "nats_url",
        SecretStr("nats://127.0.0.1:4222"),
        "NATS servers, nats://USER:PASSWORD@HOST:4222, comma-separated",
    )
    nats_creds: Given[Path] = _named("NATS_CREDS", "nats_creds", None, "a credentials file: JWT and seed of the user")
    nats_ca: Given[Path] = _named("NATS_CA", "nats_ca", None, "whom to trust, PEM; without it whom the system trusts")
    nats_cert: Given[Path] = _named("NATS_CERT", "nats_cert", None, "our certificate, PEM")
    nats_key: Given[Path] = _named("NATS_KEY", "nats_key", None, "its key, PEM")
    nats_enabled: bool = _named("NATS_ENABLED", "nats_enabled", True, "false: the nats role publishes nothing")
    nats_subject_prefix: str = _named(
        "NATS_SUBJECT_PREFIX",
        "nats_subject_prefix",
        "md.events",
        "first tokens of every subject on NATS",
        pattern=r"^[A-Za-z0-9_-]{1,64}(\.[A-Za-z0-9_-]{1,64}){0,7}$",
    )
    use_jetstream: bool = _named(
        "USE_JETSTREAM", "use_jetstream", False, "true: into a stream that keeps the events; false: to who listens"
    )
    nats_events: Annotated[tuple[CanonicalEvents, ...], NoDecode, BeforeValidator(_split)] = _named(
        "NATS_EVENTS",
        "nats_events",
        ("trades", "quotes", "books", "bars", "status"),
        "topics that the nats role publishes, comma-separated: trades, quotes, books, bars, status",
        min_length=1,
    )
    nats_stream: str = _named(
        "NATS_STREAM", "nats_stream", "MDSTREAM", "the stream's name", pattern=r"^[A-Za-z0-9_-]{1,64}$"
    )
    nats_stream_hours: float = _named(
        "NATS_STREAM_HOURS", "nats_stream_hours", 24.0, "age at which the stream forgets; 0: never", ge=0
    )
    nats_stream_mb: int = _named(
        "NATS_STREAM_MB", "nats_stream_mb", 4096, "MiB at which the stream forgets the oldest; 0: no limit", ge=0
    )
    nats_stream_replicas: int = _named(
        "NATS_STREAM_REPLICAS", "nats_stream_replicas", 1, "copies of the stream, in a cluster", ge=1, le=5
    )
    nats_duplicate_window_s: float = _named(
        "NATS_DUPLICATE_WINDOW_S", "nats_duplicate_window_s", 120.0, "how long message ids are known", ge=1, le=86_400
    )

    # TimescaleDB: docs/sinks.md.
    database_url: SecretStr | None = _named(
        "MARKET_DATA_DATABASE_URL", "database_url", None, "the database: postgresql://USER:PASSWORD@HOST:5432/NAME"
    )
    timescale_events: Annotated[tuple[TimescaleEvents, ...], NoDecode, BeforeValidator(_split)] = _named(
        "MDSTREAM_TIMESCALE_EVENTS",
        "timescale_events",
        ("trades", "quotes", "bars", "status"),
        "topics that the timescale role stores, comma-separated: trades, quotes, bars, status",
        min_length=1,
    )
    timescale_write_s: float = _named(
        "MDSTREAM_TIMESCALE_WRITE_S", "timescale_write_s", 30.0, "seconds that one write may take", ge=1, le=600
    )

    # What `mdstream db upgrade` sets in TimescaleDB: docs/database.md.
    db_compress_after_days: int = _named(
        "MDSTREAM_DB_COMPRESS_AFTER_DAYS", "db_compress_after_days", 7, "age of compression; 0: never", ge=0, le=36_500
    )
    db_keep_ticks_days: int = _named(
        "MDSTREAM_DB_KEEP_TICKS_DAYS", "db_keep_ticks_days", 0, "age of deletion; 0: kept forever", ge=0, le=36_500
    )
    db_keep_quotes_days: int = _named(
        "MDSTREAM_DB_KEEP_QUOTES_DAYS", "db_keep_quotes_days", 0, "as for ticks", ge=0, le=36_500
    )
    db_keep_ohlcv_days: int = _named(
        "MDSTREAM_DB_KEEP_OHLCV_DAYS", "db_keep_ohlcv_days", 0, "as for ticks", ge=0, le=36_500
    )
    db_keep_feed_events_days: int = _named(
        "MDSTREAM_DB_KEEP_FEED_EVENTS_DAYS", "db_keep_feed_events_days", 0, "as for ticks", ge=0, le=36_500
    )

    @property
    def bootstrap_servers(self) -> Cluster:
        """The Kafka cluster, with everything a client needs to connect."""
        security = Security(
            protocol=self.kafka_security_protocol,
            mechanism=self.kafka_sasl_mechanism,
            username=self.kafka_sasl_username,
            password=self.kafka_sasl_password,
            password_file=self.kafka_sasl_password_file,
            token_file=self.kafka_sasl_oauthbearer_token_file,
            cafile=self.kafka_ssl_cafile,
            certfile=self.kafka_ssl_certfile,
            keyfile=self.kafka_ssl_keyfile,
            key_password=self.kafka_ssl_key_password,
            check_hostname=self.kafka_ssl_check_hostname,
        )
        return Cluster(self.kafka_servers, security, self.compression)

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,  # noqa: ARG003  the signature is pydantic's
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        names = set(_names().values())
        for source in (env_settings, dotenv_settings):
            if isinstance(source, EnvSettingsSource):  # by field name we would take other programs' ROLE or POLICY
                source.env_vars = {k: v for k, v in source.env_vars.items() if k.upper() in names}
        return init_settings, env_settings, dotenv_settings, TomlConfigSettingsSource(settings_cls)

    def venue_addresses(self) -> dict[str, str]:
        """The venue addresses that are set, by their names in the environment."""
        given = {name: getattr(self, name.lower(), None) for name in VENUE_ADDRESSES}
        return {name: value.get_secret_value() for name, value in given.items() if value}


def _address(setting: str) -> tuple[Any, Any]:
    """A setting that may hold a key."""
    return SecretStr | None, _named(setting, setting.lower(), None, "the venue's address, if not its own")


VENUE_ADDRESSES = tuple(setting(name) for name in venues.NAMES for setting in (venues.ws_setting, venues.rest_setting))

AllSettings: type[Settings] = create_model(  # type: ignore[call-overload]
    "AllSettings", __base__=Settings, **{name.lower(): _address(name) for name in VENUE_ADDRESSES}
)


def _names() -> dict[str, str]:
    """The name of each setting in the environment, by its name in mdstream.toml."""
    aliases = (field.validation_alias for field in AllSettings.model_fields.values())
    return {str(a.choices[1]): str(a.choices[0]) for a in aliases if isinstance(a, AliasChoices)}


def load(**given: Any) -> Settings:
    """The settings; `given` (by field name, None: not given) overrides every source.

    Raises SettingsError for bad settings, naming each with its value (unless secret) and what is allowed; for a name
    close to that of a setting; for a file that cannot be read.
    """
    try:
        _check_names()
        settings = AllSettings(**{name: value for name, value in given.items() if value is not None})
    except ValidationError as error:
        raise SettingsError(f"bad settings: {'; '.join(map(_problem, error.errors()))}") from None
    except tomllib.TOMLDecodeError as error:
        raise SettingsError(f"{TOML_FILE} is no TOML: {error}") from None
    except UnicodeDecodeError as error:
        raise SettingsError(f"{ENV_FILE} or {TOML_FILE} is no UTF-8: {error.reason} at byte {error.start}") from None
    except OSError as error:
        raise SettingsError(f"{error.filename} cannot be read: {error.strerror}") from None
    except SourceError as error:
        raise SettingsError(f"bad settings: {error}: {error.__cause__}") from None
    settings.bootstrap_servers.security.check()
    return settings


def _problem(error: Any) -> str:
    """The setting, its value and what is wrong; the value of a secret is never shown, whatever its type."""
    if not error["loc"]:  # about several settings together: the input would be all of them
        return str(error["msg"])
    name, *inside = map(str, error["loc"])
    settings = ((field.validation_alias, str(field.annotation)) for field in AllSettings.model_fields.values())
    of = [type_ for alias, type_ in settings if isinstance(alias, AliasChoices) and name in alias.choices]
    shown = of and "SecretStr" not in of[0]
    value = f"={scrubbed(repr(error.get('input')))}" if shown else ""
    return f"{'.'.join([name, *inside])}{value}: {error['msg']}"


def _check_names() -> None:
    """Refuse a name close to that of a setting, and any unknown one in our own file; warn of what may be others'."""
    names = _names()
    refused, doubtful = misspelt.in_environment(names.values(), ENV_FILE)
    refused += misspelt.in_toml([*names, *names.values()], TOML_FILE)
    if refused:
        raise SettingsError(f"bad settings: {'; '.join(refused)}")
    for message in doubtful:
        log.warning("%s", message)
