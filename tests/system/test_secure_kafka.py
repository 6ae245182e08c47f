"""A cluster that asks for TLS and a password, a token or a certificate: everything runs on it, or says why not.

Part of the tests on Apache Kafka only (tests/conftest.py): the embedded broker has neither.
"""

from __future__ import annotations

import asyncio
import gc
import json
import os
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import pytest
from certificates import Authority
from pages import page
from processes import Process, Processes, free_port, run_mdstream, wait_until
from secure_kafka import PASSWORD, SecureKafka, secure_kafka, token_file

from mdstream import config, kafka
from mdstream.errors import AccessError, MdstreamError
from mdstream.watchdog.guard import Watchdog
from mdstream.watchdog.rule import Limits, State

pytestmark = [
    pytest.mark.system,
    # aiokafka does not await the end of a TLS connection that was refused, and CPython's may stay half closed.
    pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning"),
]

TRADES = 2_000
SECRET = "pass word"
"""A part of PASSWORD that is the same however it is quoted."""
assert SECRET in PASSWORD


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SecureKafka]:
    with secure_kafka(tmp_path_factory.mktemp("secure")) as running:
        yield running


@pytest.fixture(scope="module", autouse=True)
def _no_connection_outlives_these_tests() -> Iterator[None]:
    """What these tests leave half closed is collected here, where it is expected, not in a test of another module."""
    yield
    gc.collect()


@pytest.fixture(scope="module")
def broker(cluster: SecureKafka) -> str:
    """In place of the shared broker, which accepts everybody."""
    return cluster.passwords


@pytest.fixture(autouse=True)
def _nothing_set(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(tmp_path)
    for name in os.environ:
        if name.startswith("KAFKA_"):
            monkeypatch.delenv(name)


def ready(port: int) -> bool:
    return page(port, "/ready")[0] == 200


def simulated(processes: Processes, journal: Path) -> tuple[Process, dict[str, str]]:
    """Venues that send TRADES trades and end, and the variables that point an ingestor at them."""
    options = ("--port", 0, "--rate", 1000, "--trades", TRADES, "--linger", 10, "--journal", journal)
    simulator = processes.mdstream("simulate", "--venues", "binance", *options)
    simulator.wait_for("export BINANCE_WS_URL=")
    exports = [line.removeprefix("export ") for line in simulator.output().splitlines() if line.startswith("export ")]
    return simulator, dict(line.split("=", 1) for line in exports)


@pytest.mark.timeout(480)
def test_whole_system_runs_over_tls_with_passwords_tokens_and_certificates(
    cluster: SecureKafka, processes: Processes, env: dict[str, str], tmp_path: Path
) -> None:
    """From topics to audit, each part with another mechanism: every trade arrives; no log holds a secret, even at
    DEBUG."""
    plain, scram, token = (cluster.environment(name) for name in ("PLAIN", "SCRAM-SHA-512", "OAUTHBEARER"))
    journal = tmp_path / "sent.jsonl"
    made = run_mdstream("topics", "--create", env=env | plain)
    assert made.returncode == 0, made.stderr
    ports = [free_port() for _ in range(4)]
    workers = [
        processes.mdstream("worker", "core", "--port", ports[0], "--log-level", "debug", env=plain),
        processes.mdstream("worker", "core", "--port", ports[1], env=cluster.certified()),
        processes.mdstream("worker", "files", "--port", ports[2], env=token),
    ]
    for port in ports[:3]:
        wait_until(partial(ready, port), what=f"the worker at {port} to be ready", limit_s=180)
    _, urls = simulated(processes, journal)
    ingest = ("ingest", "--provider", "binance", "--symbols", "BTCUSDT,ETHUSDT", "--port", ports[3])
    ingestor = processes.mdstream(*ingest, env=urls | scram)
    tail = run_mdstream("tail", "trades", "--from-beginning", "--count", TRADES, env=env | token)
    assert len({(t["symbol"], t["trade_id"]) for t in map(json.loads, tail.stdout.splitlines())}) == TRADES

    for process in (ingestor, *workers):
        assert process.running, process.output()[-2000:]
    status = run_mdstream("status", "--json", env=env | cluster.certified())
    assert status.returncode == 0, status.stderr
    groups = {group["name"].rpartition(".")[2] for group in json.loads(status.stdout)["groups"]}
    assert groups == {"core", "files"}
    for process in (ingestor, *workers):
        assert process.stop() == 0, process.output()[-2000:]
    audit = run_mdstream("audit", "--to", "now", "--journal", journal, "--json", env=env | scram)
    assert audit.returncode == 0, audit.stdout + audit.stderr
    hops = {hop["name"]: hop["trades"] for hop in json.loads(audit.stdout)["hops"]}
    prefix = env["MDSTREAM_TOPIC_PREFIX"]
    named = ("journal", f"{prefix}.raw.*", f"{prefix}.trades", "SQLite market_data.db")
    assert hops == dict.fromkeys(named, TRADES)
    for process in (ingestor, *workers):
        assert SECRET not in process.output()


async def refusal(given: dict[str, str], monkeypatch: pytest.MonkeyPatch) -> str:
    """What every client says that is refused."""
    with monkeypatch.context() as patch:
        for name, value in given.items():
            patch.setenv(name, value)
        with pytest.raises(MdstreamError) as caught:
            await kafka.partition_counts(config.load().bootstrap_servers)
    assert SECRET not in str(caught.value)
    return str(caught.value)


async def test_password_user_or_mechanism_that_is_refused_is_named(
    cluster: SecureKafka, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """The broker's own answer, with the setting to check."""
    place, file = cluster.passwords, tmp_path / "password"
    file.write_text("wrong\n")
    scram = cluster.environment("SCRAM-SHA-512")
    assert await refusal(scram | {"KAFKA_SASL_USERNAME": "bob"}, monkeypatch) == (
        f"Kafka at {place} does not accept the user or the password: KAFKA_SASL_USERNAME, KAFKA_SASL_PASSWORD"
    )
    in_file = {name: value for name, value in scram.items() if name != "KAFKA_SASL_PASSWORD"}
    assert await refusal(in_file | {"KAFKA_SASL_PASSWORD_FILE": str(file)}, monkeypatch) == (
        f"Kafka at {place} does not accept the user or the password: KAFKA_SASL_USERNAME, KAFKA_SASL_PASSWORD_FILE"
    )
    assert await refusal(cluster.environment("SCRAM-SHA-256"), monkeypatch) == (
        f"Kafka at {place} does not offer the mechanism SCRAM-SHA-256: KAFKA_SASL_MECHANISM"
    )
    expired = token_file(tmp_path / "expired", lives_s=-60)
    old = cluster.environment("OAUTHBEARER") | {"KAFKA_SASL_OAUTHBEARER_TOKEN_FILE": str(expired)}
    assert await refusal(old, monkeypatch) == (
        f"Kafka at {place} does not accept the token: KAFKA_SASL_OAUTHBEARER_TOKEN_FILE"
    )
    file.write_text(f"{PASSWORD}\n")
    for name, value in (in_file | {"KAFKA_SASL_PASSWORD_FILE": str(file)}).items():
        monkeypatch.setenv(name, value)
    await kafka.partition_counts(config.load().bootstrap_servers)  # the line break is no part of it


async def test_certificate_that_is_not_trusted_or_not_shown_is_named(
    cluster: SecureKafka, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """On either side: theirs that we do not know, ours that they do not know or never saw."""
    stranger = Authority(tmp_path, "stranger")
    plain, certified = cluster.environment("PLAIN"), cluster.certified()
    untrusted = await refusal(plain | {"KAFKA_SSL_CAFILE": str(stranger.certificate)}, monkeypatch)
    assert untrusted.startswith(f"Kafka at {cluster.passwords} shows a certificate that is not trusted (")
    assert untrusted.endswith("): KAFKA_SSL_CAFILE")
    by_number = {"KAFKA_BOOTSTRAP_SERVERS": cluster.passwords.replace("localhost", "127.0.0.1")}
    assert "shows a certificate for another name (IP address mismatch" in await refusal(plain | by_number, monkeypatch)
    keyless = {name: value for name, value in certified.items() if "CERT" not in name and "KEY" not in name}
    assert await refusal(keyless, monkeypatch) == (
        f"Kafka at {cluster.certificates} asks for a client certificate: KAFKA_SSL_CERTFILE, KAFKA_SSL_KEYFILE"
    )
    unknown = await refusal(keyless | {"KAFKA_SSL_CERTFILE": str(stranger.sign("eve").both)}, monkeypatch)
    assert unknown.startswith(f"Kafka at {cluster.certificates} does not accept our certificate (")

    with monkeypatch.context() as patch:
        for name, value in (plain | by_number | {"KAFKA_SSL_CHECK_HOSTNAME": "false"}).items():
            patch.setenv(name, value)
        await kafka.partition_counts(config.load().bootstrap_servers)


async def test_listener_of_another_protocol_is_recognised(
    cluster: SecureKafka, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Neither side can report it: the message names the setting."""
    open_ = {"KAFKA_BOOTSTRAP_SERVERS": cluster.open}
    message = await refusal({"KAFKA_BOOTSTRAP_SERVERS": cluster.passwords}, monkeypatch)
    assert message == (
        f"Kafka at {cluster.passwords} closes the connection: it is just starting, or wants TLS or a password: "
        "KAFKA_SECURITY_PROTOCOL=PLAINTEXT, or the port"
    )
    message = await refusal(cluster.environment("PLAIN") | open_, monkeypatch)
    assert (
        "closes the connection: it is just starting, or wants no TLS: KAFKA_SECURITY_PROTOCOL=SASL_SSL, or the port"
        in message
    )
    message = await refusal(cluster.certified() | {"KAFKA_BOOTSTRAP_SERVERS": cluster.passwords}, monkeypatch)
    assert "or wants a password, or no TLS: KAFKA_SECURITY_PROTOCOL=SSL, or the port" in message
    clear = {name: value for name, value in cluster.environment("PLAIN").items() if name != "KAFKA_SSL_CAFILE"}
    message = await refusal(clear | open_ | {"KAFKA_SECURITY_PROTOCOL": "SASL_PLAINTEXT"}, monkeypatch)
    assert message.endswith("asks for no password: KAFKA_SECURITY_PROTOCOL=SASL_PLAINTEXT")


@pytest.mark.parametrize(
    "command",
    [
        ("topics", "--create"),
        ("worker", "core"),
        ("ingest", "--provider", "binance", "--symbols", "BTCUSDT"),
        ("repair",),
        ("tail", "trades"),
        ("status",),
        ("audit",),
    ],
    ids=lambda command: command[0],
)
def test_command_with_a_wrong_password_ends_at_once_with_one_line(
    cluster: SecureKafka, env: dict[str, str], command: tuple[str, ...]
) -> None:
    """Not retried, no traceback; a worker of Faust's as well."""
    wrong = cluster.environment("PLAIN") | {"KAFKA_SASL_PASSWORD": SECRET}
    done = run_mdstream(*command, env=env | wrong, timeout=30)
    assert done.returncode == (3 if command == ("audit",) else 1)
    assert done.stderr.splitlines()[-1] == (
        f"mdstream: Kafka at {cluster.passwords} does not accept the user or the password: KAFKA_SASL_USERNAME, "
        "KAFKA_SASL_PASSWORD"
    )
    assert "Traceback" not in done.stderr
    assert SECRET not in done.stderr


def test_faust_worker_with_a_wrong_password_ends_with_the_same_line(cluster: SecureKafka, processes: Processes) -> None:
    """Started past `mdstream worker`, which asks first."""
    worker = processes.worker(port=free_port(), env=cluster.environment("PLAIN") | {"KAFKA_SASL_PASSWORD": SECRET})
    assert worker.wait(60) == 1
    assert "does not accept the user or the password: KAFKA_SASL_USERNAME" in worker.output()
    assert "Traceback" not in worker.output()
    assert SECRET not in worker.output()


async def test_watchdog_logs_once_why_kafka_refuses_us(
    cluster: SecureKafka, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """A password that was changed while we ran: the clients only find that they cannot connect."""
    with monkeypatch.context() as patch:
        for name, value in (cluster.environment("PLAIN") | {"KAFKA_SASL_PASSWORD": SECRET}).items():
            patch.setenv(name, value)
        limits = Limits(ready_s=1.0, exit_s=60.0)
        wrong = config.load().bootstrap_servers
    watchdog = Watchdog(wrong, limits, lambda: State({}), reads=False, outcome=lambda: "")
    watchdog.start()
    await asyncio.sleep(6)  # three attempts at least
    await watchdog.stop()
    assert caplog.text.count("does not accept the user or the password") == 1
    assert SECRET not in caplog.text


def test_refusal_is_not_to_be_tried_again() -> None:
    """Its error is not retriable."""
    assert not AccessError("Kafka at a:1 does not accept the token").retriable
