"""mdstream/kafka/security.py, diagnosis.py and tls.py: the clients' options, and why a connection failed."""

from __future__ import annotations

import logging
import ssl
from pathlib import Path
from typing import Any

import pytest
from aiokafka.errors import (
    IllegalSaslStateError,
    KafkaConnectionError,
    SaslAuthenticationFailed,
    UnsupportedSaslMechanismError,
)
from certificates import Authority
from faust.auth import OAuthCredentials, SASLCredentials, SSLCredentials
from pydantic import SecretStr

from mdstream.config.cluster import Cluster, Security
from mdstream.errors import SettingsError
from mdstream.kafka.diagnosis import reason_of
from mdstream.kafka.security import TokenFile, options
from mdstream.transport.credentials import credentials

SASL: Any = {"protocol": "SASL_PLAINTEXT", "sasl_mechanism": "PLAIN", "sasl_username": "u"}
PLAIN = Security(**SASL, sasl_password=SecretStr("p"))


def test_text_is_a_cluster_that_asks_for_nothing() -> None:
    """Without security the clients' options are what they were."""
    assert options("a:1") == options(Cluster("a:1"))
    assert options("a:1") == {"bootstrap_servers": "a:1", "security_protocol": "PLAINTEXT", "ssl_context": None}
    assert credentials(Security()) is None


def test_password_may_stand_in_a_file_with_a_line_break_at_its_end(tmp_path: Path) -> None:
    """Spaces are a part of it."""
    file = tmp_path / "password"
    file.write_text(" p q \n")
    reported = options(Cluster("a:1", Security(**SASL, sasl_password_file=file)))
    assert (reported["sasl_plain_username"], reported["sasl_plain_password"]) == ("u", " p q ")


@pytest.mark.parametrize("name", ["sasl_password_file", "sasl_oauthbearer_token_file"])
@pytest.mark.parametrize(("content", "message"), [(None, "No such file or directory"), ("\n", "the file is empty")])
def test_secret_file_that_cannot_be_used_is_named_with_its_setting(
    tmp_path: Path, name: str, content: str | None, message: str
) -> None:
    """Before anything is asked of a broker."""
    file = tmp_path / "secret"
    if content is not None:
        file.write_text(content)
    with pytest.raises(SettingsError) as caught:
        options(Cluster("a:1", Security(**SASL | {name: file})))
    assert str(caught.value) == f"KAFKA_{name.upper()}={file}: {message}"


async def test_token_is_read_again_each_time(tmp_path: Path) -> None:
    """Who renews it replaces the file. One that is missing is an OSError: aiokafka tries again after that."""
    file = tmp_path / "token"
    file.write_text("one\n")
    provider = TokenFile(file)
    assert await provider.token() == "one"
    file.write_text("two")
    assert await provider.token() == "two"
    file.write_text("")
    with pytest.raises(OSError, match="no token is in it"):
        await provider.token()


def test_faust_gets_the_same_options(tmp_path: Path) -> None:
    """Each kind of credentials that its driver knows."""
    (tmp_path / "token").write_text("t")
    plain = credentials(PLAIN)
    assert isinstance(plain, SASLCredentials)
    assert (plain.protocol.value, plain.mechanism.value, plain.password) == ("SASL_PLAINTEXT", "PLAIN", "p")
    token = credentials(
        Security(protocol="SASL_SSL", sasl_mechanism="OAUTHBEARER", sasl_oauthbearer_token_file=tmp_path / "token")
    )
    assert isinstance(token, OAuthCredentials)
    assert token.protocol.value == "SASL_SSL"
    certified = credentials(Security(protocol="SSL"))
    assert isinstance(certified, SSLCredentials)
    assert certified.protocol.value == "SSL"


def test_requests_with_a_password_in_them_are_not_logged() -> None:
    """aiokafka logs each request at DEBUG, unchanged."""
    logging.getLogger().setLevel(logging.DEBUG)
    try:
        assert not logging.getLogger("aiokafka.conn").isEnabledFor(logging.DEBUG)
    finally:
        logging.getLogger().setLevel(logging.WARNING)


@pytest.mark.parametrize(
    ("made", "message"),
    [
        (("missing", "good.key", ""), "KAFKA_SSL_CERTFILE={0}/missing: No such file or directory"),
        (
            ("good.crt", "other.key", ""),
            "KAFKA_SSL_CERTFILE={0}/good.crt, KAFKA_SSL_KEYFILE={0}/other.key: the key is not that of the certificate",
        ),
        (
            ("locked.crt", "locked.key", "a-secret"),
            "KAFKA_SSL_CERTFILE={0}/locked.crt, KAFKA_SSL_KEYFILE={0}/locked.key: no PEM, or a wrong password",
        ),
    ],
    ids=["missing", "another", "locked"],
)
def test_certificate_that_cannot_be_used_is_named_with_its_setting(
    tmp_path: Path, made: tuple[str, str, str], message: str
) -> None:
    """And OpenSSL asks nobody for a password at the terminal."""
    authority = Authority(tmp_path)
    for name, password in (("good", ""), ("other", ""), ("locked", "open sesame")):
        authority.sign(name, password=password)
    certificate, key, password = made
    security = Security(
        protocol="SSL",
        ssl_certfile=tmp_path / certificate,
        ssl_keyfile=tmp_path / key,
        ssl_key_password=SecretStr(password),
    )
    with pytest.raises(SettingsError) as caught:
        options(Cluster("a:1", security))
    assert str(caught.value) == message.format(tmp_path)


def test_authority_file_without_a_certificate_is_named_with_its_setting(tmp_path: Path) -> None:
    (tmp_path / "ca.pem").write_text("nothing")
    with pytest.raises(SettingsError) as caught:
        options(Cluster("a:1", Security(protocol="SSL", ssl_cafile=tmp_path / "ca.pem")))
    assert str(caught.value) == f"KAFKA_SSL_CAFILE={tmp_path}/ca.pem: no certificate in PEM form is in it"


def _closed_by(cause: BaseException) -> KafkaConnectionError:
    error = KafkaConnectionError("closed")
    error.__cause__ = cause
    return error


def _alert(reason: str) -> ssl.SSLError:
    error = ssl.SSLError(1, reason)
    error.reason = reason
    return error


@pytest.mark.parametrize(
    ("error", "security", "message"),
    [
        (
            SaslAuthenticationFailed("no"),
            PLAIN,
            "does not accept the user or the password: KAFKA_SASL_USERNAME, KAFKA_SASL_PASSWORD",
        ),
        (UnsupportedSaslMechanismError("no"), PLAIN, "does not offer the mechanism PLAIN: KAFKA_SASL_MECHANISM"),
        (IllegalSaslStateError("no"), PLAIN, "asks for no password: KAFKA_SECURITY_PROTOCOL=SASL_PLAINTEXT"),
        (
            ValueError("Server sent wrong signature!"),
            PLAIN,
            "does not keep to PLAIN: it may not be the broker of KAFKA_BOOTSTRAP_SERVERS",
        ),
        (
            _closed_by(_alert("SSLV3_ALERT_BAD_CERTIFICATE")),
            Security(protocol="SSL"),
            "asks for a client certificate: KAFKA_SSL_CERTFILE, KAFKA_SSL_KEYFILE",
        ),
        (
            _alert("WRONG_VERSION_NUMBER"),
            Security(protocol="SSL"),
            "does not answer as TLS does (wrong version number): KAFKA_SECURITY_PROTOCOL=SSL, or the port",
        ),
        (
            _closed_by(EOFError()),
            Security(),
            (
                "closes the connection: it is just starting, or wants TLS or a password: "
                "KAFKA_SECURITY_PROTOCOL=PLAINTEXT, or the port"
            ),
        ),
        (ConnectionRefusedError(111, "refused"), Security(), None),
        (TimeoutError(), Security(protocol="SSL"), None),
    ],
    ids=lambda value: type(value).__name__ if isinstance(value, Exception) else "",
)
def test_reason_names_the_setting_to_check(error: Exception, security: Security, message: str | None) -> None:
    """None for what no setting causes: nobody is there."""
    assert reason_of(error, security) == message
