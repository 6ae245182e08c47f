"""Settings: read once, at the entry point, from the environment, `.env` and `mdstream.toml`, in that order.

In the environment a setting carries the name given below; in `mdstream.toml` its field name in lower case.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import AliasChoices, Field, ValidationError, field_validator
from pydantic_settings import (
    BaseSettings,
    NoDecode,
    PydanticBaseSettingsSource,
    SettingsConfigDict,
    TomlConfigSettingsSource,
)

from mdstream.errors import SettingsError

Role = Literal["core", "timescale", "nats", "files"]
FilesEvents = Literal["trades", "quotes", "books", "bars", "status"]


def _named(environment: str, field: str, default: Any, what: str, **limits: Any) -> Any:
    return Field(default, validation_alias=AliasChoices(environment, field), description=what, **limits)


class Settings(BaseSettings):
    """Every setting with its default. Unknown names are ignored: the environment holds other programs' too."""

    model_config = SettingsConfigDict(
        env_file=".env", toml_file="mdstream.toml", extra="ignore", frozen=True, populate_by_name=True
    )

    bootstrap_servers: str = _named(
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
    markets: Annotated[tuple[str, ...], NoDecode] = _named(
        "MDSTREAM_MARKETS", "markets", ("crypto", "equities"), "markets, each a raw topic, comma-separated"
    )
    data_dir: Path = _named("MDSTREAM_DATA_DIR", "data_dir", Path("data"), "where SQLite, JSONL and spool files go")
    role: Role = _named("MDSTREAM_ROLE", "role", "core", "what a worker does: core, timescale, nats or files")
    http_host: str = _named("HTTP_HOST", "http_host", "127.0.0.1", "address that every HTTP endpoint binds to")
    http_port: int | None = _named("HTTP_PORT", "http_port", None, "port of the HTTP endpoint", ge=1, le=65535)
    checkpoint_interval_s: float = _named(
        "MDSTREAM_CHECKPOINT_INTERVAL_S", "checkpoint_interval_s", 1.0, "seconds between checkpoints", gt=0, le=60
    )

    sqlite: bool = _named("MDSTREAM_SQLITE", "sqlite", True, "the files role writes DATA_DIR/market_data.db")
    jsonl: bool = _named("MDSTREAM_JSONL", "jsonl", True, "the files role writes DATA_DIR/events.jsonl")
    jsonl_rotate_mb: int = _named(
        "MDSTREAM_JSONL_ROTATE_MB", "jsonl_rotate_mb", 256, "MiB after which events.jsonl is put aside", ge=1, le=65536
    )
    jsonl_gzip: bool = _named("MDSTREAM_JSONL_GZIP", "jsonl_gzip", False, "compress the files that were put aside")
    files_events: Annotated[tuple[FilesEvents, ...], NoDecode] = _named(
        "MDSTREAM_FILES_EVENTS",
        "files_events",
        ("trades", "quotes", "bars", "status"),
        "topics that the files role stores, comma-separated: trades, quotes, books, bars, status",
        min_length=1,
    )

    @field_validator("markets", "files_events", mode="before")
    @classmethod
    def _split(cls, value: object) -> object:
        return tuple(part.strip() for part in value.split(",") if part.strip()) if isinstance(value, str) else value

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,  # noqa: ARG003  the signature is pydantic's
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        return init_settings, env_settings, dotenv_settings, TomlConfigSettingsSource(settings_cls)


def load(**given: Any) -> Settings:
    """The settings, with `given` (by field name; None means not given) above every source.

    Raises SettingsError that names each bad setting, its value and what is allowed.
    """
    try:
        return Settings(**{name: value for name, value in given.items() if value is not None})
    except ValidationError as error:
        problems = "; ".join(f"{'.'.join(map(str, e['loc']))}={e.get('input')!r}: {e['msg']}" for e in error.errors())
        raise SettingsError(f"bad settings: {problems}") from None
