"""mdstream/config.py: where settings come from, which one wins, and how a bad one is refused."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from pydantic import SecretStr

from mdstream.cluster import UNSECURED, Cluster, Security
from mdstream.config import load
from mdstream.errors import SettingsError


@pytest.fixture(autouse=True)
def _empty_folder_and_environment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for name in os.environ:
        if name.startswith(("MDSTREAM_", "KAFKA_", "HTTP_")):
            monkeypatch.delenv(name)


def test_defaults_are_those_of_a_laptop() -> None:
    """With nothing set, everything is local and listens on loopback only."""
    settings = load()
    assert settings.bootstrap_servers == Cluster("localhost:9092")
    assert settings.topic_prefix == "md"
    assert settings.partitions == 8
    assert settings.markets == ("crypto", "equities")
    assert settings.data_dir == Path("data")
    assert settings.role == "core"
    assert settings.http_host == "127.0.0.1"


def test_an_earlier_source_wins_over_a_later_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Options, then the environment, then .env, then mdstream.toml."""
    (tmp_path / "mdstream.toml").write_text('topic_prefix = "toml"\npartitions = 2\nreplication = 3\nrole = "nats"\n')
    (tmp_path / ".env").write_text("MDSTREAM_TOPIC_PREFIX=dotenv\nMDSTREAM_PARTITIONS=3\nMDSTREAM_REPLICATION=2\n")
    monkeypatch.setenv("MDSTREAM_TOPIC_PREFIX", "environment")
    monkeypatch.setenv("MDSTREAM_PARTITIONS", "4")
    settings = load(topic_prefix="option")
    assert (settings.topic_prefix, settings.partitions, settings.replication, settings.role) == ("option", 4, 2, "nats")


def test_an_option_that_was_not_given_leaves_the_setting(monkeypatch: pytest.MonkeyPatch) -> None:
    """click passes None for those."""
    monkeypatch.setenv("KAFKA_BOOTSTRAP_SERVERS", "kafka:9092")
    assert str(load(bootstrap_servers=None).bootstrap_servers) == "kafka:9092"


@pytest.mark.parametrize(("text", "markets"), [("fx", ("fx",)), (" crypto , fx,", ("crypto", "fx"))])
def test_markets_are_split_at_commas(monkeypatch: pytest.MonkeyPatch, text: str, markets: tuple[str, ...]) -> None:
    """Spaces and empty parts are nothing."""
    monkeypatch.setenv("MDSTREAM_MARKETS", text)
    assert load().markets == markets


def test_unknown_names_are_ignored(tmp_path: Path) -> None:
    """A .env file is shared with other programs."""
    (tmp_path / ".env").write_text("POSTGRES_PASSWORD=x\n")
    assert load().topic_prefix == "md"


@pytest.mark.parametrize(
    ("name", "value", "problem"),
    [
        ("MDSTREAM_PARTITIONS", "0", "greater than or equal to 1"),
        ("MDSTREAM_PARTITIONS", "many", "valid integer"),
        ("MDSTREAM_TOPIC_PREFIX", "a.b", "match pattern"),
        ("MDSTREAM_ROLE", "cook", "'core', 'timescale', 'nats' or 'files'"),
        ("HTTP_PORT", "70000", "less than or equal to 65535"),
        ("MDSTREAM_CHECKPOINT_INTERVAL_S", "0", "greater than 0"),
    ],
)
def test_a_bad_setting_is_refused_by_name_value_and_range(
    monkeypatch: pytest.MonkeyPatch, name: str, value: str, problem: str
) -> None:
    """The one line that is printed says what to change."""
    monkeypatch.setenv(name, value)
    with pytest.raises(SettingsError) as caught:
        load()
    assert str(caught.value).startswith(f"bad settings: {name}={value!r}: ")
    assert problem in str(caught.value)


def test_all_bad_settings_are_named_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nobody wants to be told one a run."""
    monkeypatch.setenv("MDSTREAM_PARTITIONS", "0")
    monkeypatch.setenv("MDSTREAM_REPLICATION", "9")
    with pytest.raises(SettingsError, match=r"MDSTREAM_PARTITIONS='0'.*; MDSTREAM_REPLICATION='9'"):
        load()


def test_settings_cannot_be_changed() -> None:
    """They are read once and passed down as values."""
    settings = load()
    with pytest.raises(ValueError, match="frozen"):
        settings.partitions = 3


# -- Kafka with TLS and passwords


def secured(monkeypatch: pytest.MonkeyPatch, **variables: str) -> None:
    for name, value in variables.items():
        monkeypatch.setenv(f"KAFKA_{name}", value)


def test_cluster_carries_all_that_a_client_has_to_know(monkeypatch: pytest.MonkeyPatch) -> None:
    """Under the names of Kafka's clients; protocol and mechanism in any case; an empty variable is none."""
    secured(monkeypatch, SECURITY_PROTOCOL="sasl_ssl", SASL_MECHANISM="scram-sha-512", SASL_USERNAME="u")
    secured(monkeypatch, SASL_PASSWORD="p", SASL_PASSWORD_FILE="", SSL_CAFILE="ca.pem", SSL_CHECK_HOSTNAME="false")
    monkeypatch.setenv("MDSTREAM_COMPRESSION", "zstd")
    security = Security(
        protocol="SASL_SSL",
        mechanism="SCRAM-SHA-512",
        username="u",
        password=SecretStr("p"),
        cafile=Path("ca.pem"),
        check_hostname=False,
    )
    cluster = load(bootstrap_servers="a:1,b:2").bootstrap_servers
    assert cluster == Cluster("a:1,b:2", security, "zstd")
    assert f"{cluster}" == "a:1,b:2"


@pytest.mark.parametrize(
    ("variables", "said"),
    [
        (
            {"SASL_USERNAME": "u", "SASL_PASSWORD": "a-secret"},
            "KAFKA_SASL_USERNAME, KAFKA_SASL_PASSWORD: KAFKA_SECURITY_PROTOCOL=PLAINTEXT, expected SASL_*",
        ),
        (
            {"SECURITY_PROTOCOL": "PLAINTEXT", "SSL_CAFILE": "ca.pem"},
            "KAFKA_SSL_CAFILE: KAFKA_SECURITY_PROTOCOL=PLAINTEXT, expected SSL or SASL_SSL",
        ),
        (
            {"SECURITY_PROTOCOL": "SASL_SSL"},
            "KAFKA_SASL_MECHANISM is not set: expected PLAIN, SCRAM-SHA-256, SCRAM-SHA-512, OAUTHBEARER",
        ),
        (
            {"SECURITY_PROTOCOL": "SASL_SSL", "SASL_MECHANISM": "PLAIN"},
            "KAFKA_SASL_MECHANISM=PLAIN needs KAFKA_SASL_USERNAME",
        ),
        (
            {"SECURITY_PROTOCOL": "SASL_SSL", "SASL_MECHANISM": "PLAIN", "SASL_USERNAME": "u"},
            "KAFKA_SASL_MECHANISM=PLAIN needs one of KAFKA_SASL_PASSWORD and KAFKA_SASL_PASSWORD_FILE",
        ),
        (
            {"SECURITY_PROTOCOL": "SASL_SSL", "SASL_MECHANISM": "OAUTHBEARER"},
            "KAFKA_SASL_MECHANISM=OAUTHBEARER needs KAFKA_SASL_OAUTHBEARER_TOKEN_FILE",
        ),
        (
            {"SECURITY_PROTOCOL": "SSL", "SSL_KEY_PASSWORD": "a-secret"},
            "KAFKA_SSL_KEYFILE and KAFKA_SSL_KEY_PASSWORD mean nothing without KAFKA_SSL_CERTFILE",
        ),
    ],
    ids=str,
)
def test_security_settings_that_do_not_fit_together_are_refused(
    monkeypatch: pytest.MonkeyPatch, variables: dict[str, str], said: str
) -> None:
    """What would be ignored was meant to protect something. The secret is not repeated."""
    secured(monkeypatch, **variables)
    with pytest.raises(SettingsError) as caught:
        load()
    assert str(caught.value) == said


def test_a_bad_secret_is_refused_without_it(tmp_path: Path) -> None:
    """A password of digits alone is a number in TOML."""
    (tmp_path / "mdstream.toml").write_text("kafka_sasl_password = 271828\n")
    with pytest.raises(SettingsError) as caught:
        load()
    assert str(caught.value) == "bad settings: KAFKA_SASL_PASSWORD=***: Input should be a valid string"


def test_secrets_are_not_shown(monkeypatch: pytest.MonkeyPatch) -> None:
    """Settings and clusters get into logs and tracebacks."""
    secured(monkeypatch, SECURITY_PROTOCOL="SASL_SSL", SASL_MECHANISM="PLAIN", SASL_USERNAME="u")
    secured(monkeypatch, SASL_PASSWORD="a-secret", SSL_CERTFILE="c.pem", SSL_KEY_PASSWORD="a-secret")
    settings = load()
    assert "a-secret" not in f"{settings!r} {settings.bootstrap_servers!r}"


def test_broker_of_our_own_is_free_of_what_is_set_for_another(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The demo and the benchmarks start one; every setting that could keep them from it is among the variables."""
    (tmp_path / "mdstream.toml").write_text('kafka_security_protocol = "SSL"\nkafka_ssl_cafile = "ca.pem"\n')
    secured(monkeypatch, SASL_MECHANISM="PLAIN", SASL_USERNAME="u", SASL_PASSWORD="p", SSL_CERTFILE="c.pem")
    for name, value in UNSECURED.items():
        monkeypatch.setenv(name, value)
    assert load().bootstrap_servers.security == Security()
