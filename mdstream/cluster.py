"""A Kafka cluster as a value: its addresses, how clients authenticate, and how they compress batches.

`Settings.bootstrap_servers` makes it, every client is made from it (mdstream/kafka/security.py), and as text it is its
addresses.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal, get_args

from pydantic import SecretStr

from mdstream.errors import SettingsError

Protocol = Literal["PLAINTEXT", "SSL", "SASL_PLAINTEXT", "SASL_SSL"]
Mechanism = Literal["PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512", "OAUTHBEARER"]
Compression = Literal["none", "gzip", "snappy", "lz4", "zstd"]

UNSECURED = dict.fromkeys(
    (
        "KAFKA_SECURITY_PROTOCOL",
        "KAFKA_SASL_MECHANISM",
        "KAFKA_SASL_USERNAME",
        "KAFKA_SASL_PASSWORD",
        "KAFKA_SASL_PASSWORD_FILE",
        "KAFKA_SASL_OAUTHBEARER_TOKEN_FILE",
        "KAFKA_SSL_CAFILE",
        "KAFKA_SSL_CERTFILE",
        "KAFKA_SSL_KEYFILE",
        "KAFKA_SSL_KEY_PASSWORD",
    ),
    "",
)
"""Environment of processes that use our own broker, whatever is set for another one."""


@dataclass(frozen=True)
class Security:
    """How a client authenticates, and whom it trusts; named as in Kafka's clients. Prints no secret."""

    protocol: Protocol = "PLAINTEXT"
    mechanism: Mechanism | None = None
    username: str | None = None
    password: SecretStr | None = None
    password_file: Path | None = None
    token_file: Path | None = None
    cafile: Path | None = None
    certfile: Path | None = None
    keyfile: Path | None = None
    key_password: SecretStr | None = None
    check_hostname: bool = True

    @property
    def tls(self) -> bool:
        return self.protocol in ("SSL", "SASL_SSL")

    @property
    def sasl(self) -> bool:
        return self.protocol in ("SASL_PLAINTEXT", "SASL_SSL")

    def check(self) -> None:
        """Raises SettingsError if the settings do not fit together. Reads no file."""
        self._check_unused()
        if self.sasl:
            self._check_sasl()
        if self.certfile is None and (self.keyfile or self.key_password):
            raise SettingsError("KAFKA_SSL_KEYFILE and KAFKA_SSL_KEY_PASSWORD mean nothing without KAFKA_SSL_CERTFILE")

    def _check_unused(self) -> None:
        """Refuse settings that would have no effect: they were meant to protect something."""
        passwords = {
            "KAFKA_SASL_MECHANISM": self.mechanism,
            "KAFKA_SASL_USERNAME": self.username,
            "KAFKA_SASL_PASSWORD": self.password,
            "KAFKA_SASL_PASSWORD_FILE": self.password_file,
            "KAFKA_SASL_OAUTHBEARER_TOKEN_FILE": self.token_file,
        }
        certificates = {
            "KAFKA_SSL_CAFILE": self.cafile,
            "KAFKA_SSL_CERTFILE": self.certfile,
            "KAFKA_SSL_KEYFILE": self.keyfile,
        }
        for used, wanted, settings in ((self.sasl, "SASL_*", passwords), (self.tls, "SSL or SASL_SSL", certificates)):
            given = [name for name, value in settings.items() if value is not None]
            if given and not used:
                raise SettingsError(f"{', '.join(given)}: KAFKA_SECURITY_PROTOCOL={self.protocol}, expected {wanted}")

    def _check_sasl(self) -> None:
        if self.mechanism is None:
            raise SettingsError(f"KAFKA_SASL_MECHANISM is not set: expected {', '.join(get_args(Mechanism))}")
        if self.mechanism == "OAUTHBEARER":
            if self.token_file is None:
                raise SettingsError("KAFKA_SASL_MECHANISM=OAUTHBEARER needs KAFKA_SASL_OAUTHBEARER_TOKEN_FILE")
            return
        if not self.username:
            raise SettingsError(f"KAFKA_SASL_MECHANISM={self.mechanism} needs KAFKA_SASL_USERNAME")
        if (self.password is None) == (self.password_file is None):
            raise SettingsError(
                f"KAFKA_SASL_MECHANISM={self.mechanism} needs one of KAFKA_SASL_PASSWORD and KAFKA_SASL_PASSWORD_FILE"
            )


@dataclass(frozen=True)
class Cluster:
    """The cluster at `servers`: host:port, comma-separated. `str` gives these."""

    servers: str
    security: Security = Security()
    compression: Compression = "none"

    @classmethod
    def of(cls, brokers: Brokers) -> Cluster:
        return brokers if isinstance(brokers, Cluster) else cls(brokers)

    def __str__(self) -> str:
        return self.servers


Brokers = Cluster | str
"""A cluster; a string is one without TLS and password."""
