"""Broker, database and NATS: configured ones are used, the others are started."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Callable
from dataclasses import dataclass, field
from urllib.parse import urlsplit

import psycopg

from mdstream import kafka
from mdstream.config import Settings
from mdstream.config.cluster import UNSECURED
from mdstream.db import connection as database
from mdstream.embedded import broker, nats, postgres
from mdstream.errors import MdstreamError
from mdstream.run.supervisor import Supervisor

SERVICE_STAGE = 0
UP_LIMIT_S = 60.0


@dataclass
class Services:
    """The variables that point at the services, and a line about each."""

    environment: dict[str, str] = field(default_factory=dict)
    descriptions: list[str] = field(default_factory=list)
    database_url: str | None = None

    def add(self, variable: str, value: str, description: str) -> None:
        self.environment[variable] = value
        self.descriptions.append(description)


def start_broker(parts: Supervisor, services: Services) -> None:
    """The embedded broker, with mdstream's topics in it."""
    port = _start(parts, "broker", "broker", broker.DEFAULT_PORT, broker.answers)
    services.environment.update(UNSECURED)  # overrides security settings meant for another one
    services.add("KAFKA_BOOTSTRAP_SERVERS", f"127.0.0.1:{port}", f"broker 127.0.0.1:{port} (embedded, in memory)")


def start_database(parts: Supervisor, services: Services, *, temporary: bool) -> None:
    """The embedded PostgreSQL."""
    port = _start(parts, "postgres", "postgres", postgres.DEFAULT_PORT, _takes_connections, *_kept(temporary))
    services.database_url = url = postgres.EmbeddedPostgres(port).url
    services.add("MARKET_DATA_DATABASE_URL", url, f"PostgreSQL {url} (embedded)")


def start_nats(parts: Supervisor, services: Services, *, temporary: bool) -> None:
    """The embedded NATS server with JetStream."""
    port = _start(parts, "nats-server", "nats", nats.DEFAULT_PORT, nats.answers, *_kept(temporary))
    url = nats.EmbeddedNats(port).url
    services.add("NATS_URL", url, f"NATS {url} (embedded, with JetStream)")


def _start(parts: Supervisor, name: str, command: str, port: int, answers: Callable[[int], bool], *options: str) -> int:
    """Start an embedded server; the port where it answers, which is `port` if that is free."""
    port = free_port(port)
    part = parts.start(name, command, "--port", str(port), *options, stage=SERVICE_STAGE)
    parts.wait(lambda: answers(port), part, UP_LIMIT_S)
    return port


def _kept(temporary: bool) -> tuple[str, ...]:
    return ("--temporary",) if temporary else ()


def find_or_start(parts: Supervisor, settings: Settings, *, sinks: tuple[str, ...]) -> Services:
    """The broker, and what the sinks need. Raises MdstreamError if a configured one does not answer."""
    services = Services()
    if "servers" in settings.kafka.model_fields_set:
        _check_broker(settings)
        services.descriptions.append(f"broker {settings.bootstrap_servers}")
    else:
        start_broker(parts, services)
    if "timescale" in sinks and "url" in settings.database.model_fields_set:
        services.descriptions.append(f"database {_database(settings)}")
    elif "timescale" in sinks:
        start_database(parts, services, temporary=False)
    if "nats" in sinks and "url" in settings.nats.model_fields_set:
        services.descriptions.append(f"NATS {_nats(settings)}")
    elif "nats" in sinks:
        start_nats(parts, services, temporary=False)
    return services


def _check_broker(settings: Settings) -> None:
    """Raises BrokerError if none answers."""

    async def check() -> None:
        async with kafka.admin(settings.bootstrap_servers):
            pass

    asyncio.run(check())


def _database(settings: Settings) -> str:
    """The name of the configured database. Raises DatabaseError if it does not answer."""

    async def check() -> str:
        async with await database.connect(database.url_of(settings)) as connection:
            return database.place_of(connection)

    return asyncio.run(check())


def _nats(settings: Settings) -> str:
    """The configured servers, without user and password. Raises MdstreamError if none of them answers."""
    urls = [urlsplit(url.strip()) for url in settings.nats.url.get_secret_value().split(",")]
    found = [(url.hostname or "127.0.0.1", url.port or nats.DEFAULT_PORT) for url in urls]
    shown = ",".join(f"{host}:{port}" for host, port in found)
    if not any(nats.answers(port, host=host, timeout_s=2.0) for host, port in found):
        raise MdstreamError(f"no NATS server answers at {shown}: start one, or leave NATS_URL out")
    return shown


def _takes_connections(port: int) -> bool:
    try:
        psycopg.connect(postgres.EmbeddedPostgres(port).url, connect_timeout=2).close()
    except psycopg.Error:
        return False
    return True


def free_port(wanted: int) -> int:
    """`wanted` if it is free, else any free port of 127.0.0.1. Raises MdstreamError."""
    for port in (wanted, 0):
        with socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                continue
            return int(probe.getsockname()[1])
    raise MdstreamError("no free port on 127.0.0.1")
