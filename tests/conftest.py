"""Fixtures of the system tests. Nothing heavy is imported here: unit tests share this file."""

from __future__ import annotations

import uuid
from collections.abc import Iterator
from pathlib import Path

import pytest

from mdstream.testing import Broker, Processes, chosen_broker


@pytest.fixture(scope="session")
def broker_server() -> Iterator[Broker]:
    """The broker that all system tests share; a test that stops brokers starts one of its own."""
    with chosen_broker() as server:
        yield server


@pytest.fixture
def broker(broker_server: Broker) -> str:
    """Address of the shared broker, for KAFKA_BOOTSTRAP_SERVERS."""
    return broker_server.bootstrap


@pytest.fixture
def prefix() -> str:
    """A topic prefix of the test's own: tests share the broker and do not see one another."""
    return f"t{uuid.uuid4().hex[:12]}"


@pytest.fixture
def env(broker: str, prefix: str, tmp_path: Path) -> dict[str, str]:
    """Environment for commands and workers: the shared broker, the test's own topics and data folder."""
    return {
        "KAFKA_BOOTSTRAP_SERVERS": broker,
        "MDSTREAM_TOPIC_PREFIX": prefix,
        "MDSTREAM_DATA_DIR": str(tmp_path / "data"),
        "MDSTREAM_PARTITIONS": "4",
    }


@pytest.fixture
def processes(tmp_path: Path, env: dict[str, str]) -> Iterator[Processes]:
    """Starts processes with `env`; all are ended after the test. Their output is in tmp_path."""
    with Processes(tmp_path, env) as running:
        yield running
