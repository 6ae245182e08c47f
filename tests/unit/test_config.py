"""mdstream/config/: where settings come from, which one wins, and how a bad one is refused."""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import Self

import pytest
from pydantic import SecretStr, model_validator

from mdstream.config import NAMES, Settings, load
from mdstream.config.cluster import UNSECURED, Cluster, Security
from mdstream.config.fields import Group, settings_of
from mdstream.config.groups import VENUE_ADDRESSES
from mdstream.errors import SettingsError
from mdstream.repair.venues import HISTORIES
from mdstream.venues import rest_setting, ws_setting
from mdstream.venues.providers import PROVIDERS

DOCS = Path(__file__).resolve().parents[2] / "docs"
ADDRESSES = [ws_setting(name) for name in PROVIDERS] + [rest_setting(name) for name in HISTORIES]


@pytest.fixture(autouse=True)
def _empty_folder_and_environment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for name in os.environ:
        if name.startswith(("MDSTREAM_", "KAFKA_", "HTTP_", "ALPACA_", "MASSIVE_", "POLYGON_")) or name in ADDRESSES:
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
    assert settings.http.host == "127.0.0.1"


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
    """All are reported in one run."""
    monkeypatch.setenv("MDSTREAM_PARTITIONS", "0")
    monkeypatch.setenv("MDSTREAM_REPLICATION", "9")
    with pytest.raises(SettingsError, match=r"MDSTREAM_PARTITIONS='0'.*; MDSTREAM_REPLICATION='9'"):
        load()


def test_settings_cannot_be_changed() -> None:
    """They are read once and passed down as values."""
    settings = load()
    with pytest.raises(ValueError, match="frozen"):
        settings.partitions = 3


@pytest.mark.parametrize("name", ["ROLE", "PARTITIONS", "partitions"])
def test_a_setting_has_one_name_in_the_environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, name: str) -> None:
    """What other programs call ROLE or PARTITIONS is theirs."""
    monkeypatch.setenv(name, "nats")
    (tmp_path / ".env").write_text(f"{name}=nats\n")
    assert (load().role, load().partitions) == ("core", 8)


# -- what is documented


def in_words(value: object) -> str:
    """A default as docs/settings.md writes it."""
    match value:
        case None | {}:
            return ""
        case SecretStr():
            return value.get_secret_value()
        case tuple():
            return ",".join(value)
        case bool():
            return str(value).lower()
        case float():
            return f"{value:g}"
    return str(value)


def test_documented_settings_are_the_settings() -> None:
    """Names in the environment and in mdstream.toml, defaults and meanings: users have them in their files."""
    pattern = r"^\| `(\w+)` \| `(\w+)` \| (.*?) ?\| (.*) \|$"
    documented = re.findall(pattern, (DOCS / "settings.md").read_text(), re.MULTILINE)
    names = {name: short for short, name in NAMES.items() if name not in VENUE_ADDRESSES}
    assert sorted(documented) == sorted(
        (name, names[name], in_words(field.default), field.description)
        for field in settings_of(Settings)
        if (name := field.alias) in names
    )


ANOTHER = {
    "MDSTREAM_ROLE": "nats",
    "MDSTREAM_POLICY": "merge",
    "PROVIDERS_SANDBOX_MODE": "sandbox",
    "MDSTREAM_INSTRUMENTS": '{"BTCUSDT":{"policy":"merge"}}',
    "MDSTREAM_SYMBOL_GROUPS": '{"majors":["BTCUSDT"]}',
    "MDSTREAM_COMPRESSION": "zstd",
    "MDSTREAM_BARS": "2m",
    "MDSTREAM_SPOOL_FSYNC": "never",
    "KAFKA_SECURITY_PROTOCOL": "SSL",
    "KAFKA_SASL_MECHANISM": "PLAIN",
    "NODE_CANONICAL_URL": "http://core:6066",
    "HTTP_PORT": "8080",
    "IBKR_PORT": "7497",
    "IBKR_CLIENT_ID": "1",
    "ALPACA_FEED": "sip",
    "TRADINGVIEW_PATH_SECRET": "a-secret-of-some-length",
    "TRADINGVIEW_ADDRESSES": "10.0.0.1,10.1.0.0/16",
    "MDSTREAM_API_PROXIES": "10.0.0.1",
    "MDSTREAM_API_KEYS": "0" * 64,
    "MDSTREAM_SENPAI_ROWS_PER_S": "20",
    "MDSTREAM_SENPAI_RULES": '{"up":{"direction":"long","above":{"mid":1}}}',
}
"""Values that differ from the default, where neither the next number nor the text `trades` will do."""


def another(name: str, default: object) -> str:
    if isinstance(default, bool):
        return str(not default)
    return ANOTHER.get(name) or (str(default + 1) if isinstance(default, int | float) else "trades")


def values_of(group: Group) -> dict[str, object]:
    """All settings by their names in the environment."""
    found: dict[str, object] = {}
    for name, field in type(group).model_fields.items():
        value = getattr(group, name)
        found |= values_of(value) if isinstance(value, Group) else {str(field.alias): value}
    return found


@pytest.mark.parametrize("where", ["environment", ".env", "mdstream.toml", "options"])
def test_each_setting_is_set_by_its_own_name(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, where: str) -> None:
    """And sets no other one, whichever group it is in."""
    monkeypatch.setattr(Security, "check", lambda _: None)  # one of them alone is never complete
    defaults = values_of(load())
    for short, name in NAMES.items():
        text, options = another(name, defaults[name]), {}
        with monkeypatch.context() as patched:
            if where == "environment":
                patched.setenv(name, text)
            elif where == "options":
                options[short] = text
            else:
                written = {".env": f"{name}='{text}'", "mdstream.toml": f"{short} = '{text}'"}
                (tmp_path / where).write_text(written[where])
            found = values_of(load(**options))
        assert {key for key, value in found.items() if value != defaults[key]} == {name}


@pytest.mark.parametrize("secret", ["short", "sixteen letters/", "a-secret-of-some-length,short"])
def test_a_secret_in_a_path_is_long_and_never_shown(secret: str) -> None:
    """It is all that keeps others out; and the error may be in a log."""
    with pytest.raises(SettingsError, match="expected secrets of 16 or more letters") as refused:
        load(tradingview_path_secret=secret)
    assert secret not in str(refused.value)


@pytest.mark.parametrize("digest", ["a-key-itself", "0" * 63, f"{'0' * 64},{'F' * 64}"])
def test_a_key_of_the_api_is_given_by_its_digest_and_never_shown(digest: str) -> None:
    """Who gives the key itself must not find it in a log."""
    with pytest.raises(SettingsError, match="expected the SHA-256 of each key") as refused:
        load(api_keys=digest)
    assert digest not in str(refused.value)


# -- where the venues are


@pytest.mark.parametrize("name", ADDRESSES)
def test_a_venue_address_comes_from_every_source(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, name: str) -> None:
    """The simulator's addresses in .env must not end at the real venue. A new venue's variables are settings, too."""
    assert load().venue_addresses() == {}
    (tmp_path / "mdstream.toml").write_text(f'{name.lower()} = "toml"\n')
    assert load().venue_addresses() == {name: "toml"}
    (tmp_path / ".env").write_text(f"{name}=dotenv\n")
    assert load().venue_addresses() == {name: "dotenv"}
    monkeypatch.setenv(name, "environment")
    assert load().venue_addresses() == {name: "environment"}
    assert "environment" not in repr(load())


def test_feeds_are_handed_the_venues_own_settings(monkeypatch: pytest.MonkeyPatch) -> None:
    """Massive's key also by the name that it had as Polygon; the newer name wins."""
    assert load().venue_settings() == {"ALPACA_FEED": "iex", "ALPACA_DRY_RUN": ""}
    monkeypatch.setenv("ALPACA_KEY", "key")
    monkeypatch.setenv("ALPACA_DRY_RUN", "true")
    monkeypatch.setenv("POLYGON_API_KEY", "old")
    own = {"ALPACA_FEED": "iex", "ALPACA_DRY_RUN": "true", "ALPACA_KEY": "key"}
    assert load().venue_settings() == own | {"MASSIVE_API_KEY": "old"}
    monkeypatch.setenv("MASSIVE_API_KEY", "new")
    assert load().venue_settings() == own | {"MASSIVE_API_KEY": "new"}
    assert not any(secret in repr(load()) for secret in ("'new'", "'old'", "'key'"))


# -- names that are none


@pytest.mark.parametrize(
    ("name", "meant"),
    [
        ("MDSTREAM_PARTITONS", "MDSTREAM_PARTITIONS"),
        ("MDSTREAM_ROL", "MDSTREAM_ROLE"),
        ("MDSTREAM_NATS_URL", "NATS_URL"),
        ("MDSTREAM_HTTP_PORT", "HTTP_PORT"),
    ],
)
@pytest.mark.parametrize("where", ["environment", ".env"])
def test_a_misspelt_name_is_refused_with_the_one_meant(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, name: str, meant: str, where: str
) -> None:
    """Topics made with the wrong number of partitions stay so."""
    if where == ".env":
        (tmp_path / ".env").write_text(f"{name}=4\n")
    else:
        monkeypatch.setenv(name, "4")
    with pytest.raises(SettingsError, match=rf"bad settings: {name} is no setting: did you mean {meant}\?"):
        load()


def test_an_unknown_name_with_our_prefix_gives_a_warning(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """Kubernetes names the services beside a pod so: nothing may end for that."""
    monkeypatch.setenv("MDSTREAM_FILES_PORT", "tcp://10.0.0.1:6067")
    load()
    assert caplog.messages == ["MDSTREAM_FILES_PORT is not a setting of mdstream: it has no effect"]


@pytest.mark.parametrize(
    ("name", "meant"),
    [
        ("KAFKA_BOOTSTRAP_SERVER", "KAFKA_BOOTSTRAP_SERVERS"),
        ("KAFKA_SASL_MECHANISMS", "KAFKA_SASL_MECHANISM"),
        ("NATS_URLS", "NATS_URL"),
        ("BINANCE_WS_URI", "BINANCE_WS_URL"),
    ],
)
def test_a_name_without_our_prefix_that_is_nearly_a_setting_is_warned_of(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, name: str, meant: str
) -> None:
    """It may be another program's, so nothing ends for it; but with it mdstream talks to another broker than meant."""
    monkeypatch.setenv(name, "x")
    load()
    assert caplog.messages == [f"{name} has no effect: did you mean {meant}?"]


def test_names_of_other_programs_are_not_warned_of(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """They begin like our settings, and mean something else."""
    for name in ("KAFKA_HEAP_OPTS", "KAFKA_SERVICE_HOST", "NATS_USER", "NATS_PORT", "HTTP_PROXY", "BINANCE_API_KEY"):
        monkeypatch.setenv(name, "x")
    load()
    assert caplog.messages == []


def test_an_address_that_nothing_reads_is_not_ignored_in_silence(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """Who sets it wants the sandbox, and must not read the market."""
    monkeypatch.setenv("IBKR_HTTP_SANDBOX_URL", "http://localhost:5000")
    load()
    (warning,) = caplog.messages
    assert warning.startswith(
        "IBKR_HTTP_SANDBOX_URL has no effect: Interactive Brokers is read through TWS or IB Gateway"
    )
    (tmp_path / "mdstream.toml").write_text('ibkr_http_sandbox_url = "http://localhost:5000"')
    with pytest.raises(SettingsError, match="ibkr_http_sandbox_url is no setting: Interactive Brokers is read through"):
        load()


def test_a_key_that_is_not_needed_is_accepted(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """In the environment and in our file; it goes nowhere."""
    (tmp_path / "mdstream.toml").write_text('binance_api_key = "public"')
    monkeypatch.setenv("BINANCE_API_SECRET", "secret")
    assert not {"public", "secret"} & set(load().venue_settings().values())
    assert caplog.messages == []


def test_sandboxes_are_wanted_of_all_venues_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each venue finds its own; an address that is set wins."""
    monkeypatch.setenv("PROVIDERS_SANDBOX_MODE", "sandbox")
    monkeypatch.setenv("BINANCE_WS_URL", "ws://localhost")
    expected = {"PROVIDERS_SANDBOX_MODE": "sandbox", "BINANCE_WS_URL": "ws://localhost"}
    assert load().venue_addresses() == expected
    assert load().venue_settings().items() >= expected.items()
    monkeypatch.setenv("PROVIDERS_SANDBOX_MODE", "official")
    assert load().venue_addresses() == {"BINANCE_WS_URL": "ws://localhost"}


def test_names_of_the_compose_file_and_the_tests_are_known(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """`make up` reads MDSTREAM_DB_PASSWORD from the same .env."""
    (tmp_path / ".env").write_text("MDSTREAM_DB_PASSWORD=x\nMDSTREAM_DB_PORT=5433\n")
    monkeypatch.setenv("MDSTREAM_TEST_BROKER", "kafka")
    load()
    assert caplog.messages == []


@pytest.mark.parametrize(
    ("line", "problem"),
    [
        ("partitons = 4", "mdstream.toml: partitons is no setting: did you mean partitions?"),
        ("colour = 'red'", "mdstream.toml: colour is no setting"),
        ("binanse_ws_url = 'ws://x'", "mdstream.toml: binanse_ws_url is no setting: did you mean binance_ws_url?"),
    ],
)
def test_a_key_of_our_file_that_is_none_is_refused(tmp_path: Path, line: str, problem: str) -> None:
    """mdstream.toml is ours alone: every key in it is meant for us."""
    (tmp_path / "mdstream.toml").write_text(line)
    with pytest.raises(SettingsError) as caught:
        load()
    assert str(caught.value) == f"bad settings: {problem}"


# -- values that are none


@pytest.mark.parametrize(
    ("file", "content", "problem"),
    [
        ("mdstream.toml", b"partitions = = 4", r"mdstream\.toml is no TOML: .*line 1"),
        ("mdstream.toml", b"topic_prefix = '\xff'", "is no UTF-8"),
        (".env", b"MDSTREAM_TOPIC_PREFIX=\xff", "is no UTF-8"),
    ],
)
def test_a_file_that_cannot_be_read_is_named(tmp_path: Path, file: str, content: bytes, problem: str) -> None:
    """One line that says where, and no traceback."""
    (tmp_path / file).write_bytes(content)
    with pytest.raises(SettingsError, match=problem):
        load()


@pytest.mark.parametrize("text", ["{", "[1", "yes"])
def test_a_setting_that_is_no_json_is_refused_by_name(monkeypatch: pytest.MonkeyPatch, text: str) -> None:
    """As every other bad setting is."""
    monkeypatch.setenv("MDSTREAM_INSTRUMENTS", text)
    with pytest.raises(SettingsError, match=r"bad settings: MDSTREAM_INSTRUMENTS=.*: .*no JSON"):
        load()


@pytest.mark.parametrize("text", ["../x", "crypto,a/b", "a b", "", "x" * 65, "crypto\n"])
def test_a_market_is_a_part_of_a_topic_name(monkeypatch: pytest.MonkeyPatch, text: str) -> None:
    """It ends in names of topics and files."""
    with pytest.raises(SettingsError, match="bad settings: markets"):
        load(markets=(text,) if text else ())
    monkeypatch.setenv("MDSTREAM_MARKETS", "../x")
    with pytest.raises(SettingsError, match="bad settings: MDSTREAM_MARKETS"):
        load()


SECRETS = ["database_url", "nats_url", *(name.lower() for name in ADDRESSES)]


@pytest.mark.parametrize("field", SECRETS)
@pytest.mark.parametrize("value", ['["secret-1", "secret-2"]', "{ password = 'secret-1' }", "2026"])
def test_a_secret_of_the_wrong_type_is_refused_without_its_value(tmp_path: Path, field: str, value: str) -> None:
    """A list of addresses is a likely mistake, and the message ends in logs."""
    (tmp_path / "mdstream.toml").write_text(f"{field} = {value}\n")
    with pytest.raises(SettingsError) as caught:
        load()
    assert "secret" not in str(caught.value)
    assert "2026" not in str(caught.value)
    assert str(caught.value).startswith("bad settings: ")


def test_what_is_wrong_with_several_settings_is_reported_without_their_values(monkeypatch: pytest.MonkeyPatch) -> None:
    """The input of such an error is all that was given, secrets too."""

    class Strict(Settings):
        @model_validator(mode="after")
        def _never(self) -> Self:
            raise ValueError("these two exclude each other")

    monkeypatch.setattr("mdstream.config.sources.Settings", Strict)
    with pytest.raises(SettingsError) as caught:
        load(nats_url="nats://u:secret@host")
    assert str(caught.value) == "bad settings: Value error, these two exclude each other"


def test_an_address_in_another_setting_is_shown_without_its_secrets(monkeypatch: pytest.MonkeyPatch) -> None:
    """NODE_CANONICAL_URL is shown to the whole group, so it may hold none."""
    monkeypatch.setenv("NODE_CANONICAL_URL", "http://user:secret@core:8080")
    with pytest.raises(SettingsError) as caught:
        load()
    assert str(caught.value).startswith("bad settings: NODE_CANONICAL_URL='http://core:8080'")


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
        sasl_mechanism="SCRAM-SHA-512",
        sasl_username="u",
        sasl_password=SecretStr("p"),
        ssl_cafile=Path("ca.pem"),
        ssl_check_hostname=False,
    )
    cluster = load(bootstrap_servers="a:1,b:2").bootstrap_servers
    assert cluster == Cluster("a:1,b:2", security, "zstd")
    assert f"{cluster}" == "a:1,b:2"


@pytest.mark.parametrize(
    ("variables", "message"),
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
    monkeypatch: pytest.MonkeyPatch, variables: dict[str, str], message: str
) -> None:
    """What would be ignored was meant to protect something. The secret is not repeated."""
    secured(monkeypatch, **variables)
    with pytest.raises(SettingsError) as caught:
        load()
    assert str(caught.value) == message


def test_a_bad_secret_is_refused_without_it(tmp_path: Path) -> None:
    """A password of digits alone is a number in TOML."""
    (tmp_path / "mdstream.toml").write_text("kafka_sasl_password = 271828\n")
    with pytest.raises(SettingsError) as caught:
        load()
    assert str(caught.value) == "bad settings: KAFKA_SASL_PASSWORD: Input should be a valid string"


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
