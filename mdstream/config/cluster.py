"""A Kafka cluster as a value: its addresses, how clients authenticate, and how they compress batches.

`Settings.bootstrap_servers` is one, every client is made from it (mdstream/kafka/security.py), and as text it is its
addresses.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Literal, get_args

from pydantic import BeforeValidator, SecretStr

from mdstream.config.fields import Group, OptionalSetting, Upper, prefixed, setting
from mdstream.errors import SettingsError

Protocol = Literal["PLAINTEXT", "SSL", "SASL_PLAINTEXT", "SASL_SSL"]
Mechanism = Literal["PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512", "OAUTHBEARER"]
Compression = Literal["none", "gzip", "snappy", "lz4", "zstd"]


class Security(Group, alias_generator=prefixed("KAFKA_"), populate_by_name=True):
    """How a client authenticates, and whom it trusts: docs/deployment.md. Named as in Kafka's clients."""

    protocol: Upper[Annotated[Protocol, BeforeValidator(lambda value: value or "PLAINTEXT")]] = setting(
        "PLAINTEXT", "PLAINTEXT, SSL, SASL_PLAINTEXT or SASL_SSL", name="KAFKA_SECURITY_PROTOCOL"
    )
    sasl_mechanism: Upper[Mechanism | None] = setting(None, "PLAIN, SCRAM-SHA-256, SCRAM-SHA-512 or OAUTHBEARER")
    sasl_username: OptionalSetting[str] = setting(None, "the user")
    sasl_password: OptionalSetting[SecretStr] = setting(None, "the password")
    sasl_password_file: OptionalSetting[Path] = setting(None, "a file with the password, in place of it")
    sasl_oauthbearer_token_file: OptionalSetting[Path] = setting(
        None, "a file with the token, read again for each connection"
    )
    ssl_cafile: OptionalSetting[Path] = setting(None, "certificate authorities, PEM; default: those of the system")
    ssl_certfile: OptionalSetting[Path] = setting(None, "our certificate, PEM")
    ssl_keyfile: OptionalSetting[Path] = setting(None, "its key, PEM; default: in the certificate's file")
    ssl_key_password: OptionalSetting[SecretStr] = setting(None, "the password of the key")
    ssl_check_hostname: bool = setting(True, "false: accept a certificate for any host name")

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
        if self.ssl_certfile is None and (self.ssl_keyfile or self.ssl_key_password):
            raise SettingsError("KAFKA_SSL_KEYFILE and KAFKA_SSL_KEY_PASSWORD mean nothing without KAFKA_SSL_CERTFILE")

    def _check_unused(self) -> None:
        """Refuse settings that would have no effect: they were meant to protect something."""
        for used, wanted, pattern in ((self.sasl, "SASL_*", "sasl_"), (self.tls, "SSL or SASL_SSL", "ssl_.*file")):
            fields = {name: field for name, field in type(self).model_fields.items() if re.match(pattern, name)}
            given = [str(field.alias) for name, field in fields.items() if getattr(self, name) is not None]
            if given and not used:
                raise SettingsError(f"{', '.join(given)}: KAFKA_SECURITY_PROTOCOL={self.protocol}, expected {wanted}")

    def _check_sasl(self) -> None:
        mechanism = self.sasl_mechanism
        if mechanism is None:
            raise SettingsError(f"KAFKA_SASL_MECHANISM is not set: expected {', '.join(get_args(Mechanism))}")
        if mechanism == "OAUTHBEARER":
            if self.sasl_oauthbearer_token_file is None:
                raise SettingsError("KAFKA_SASL_MECHANISM=OAUTHBEARER needs KAFKA_SASL_OAUTHBEARER_TOKEN_FILE")
            return
        if not self.sasl_username:
            raise SettingsError(f"KAFKA_SASL_MECHANISM={mechanism} needs KAFKA_SASL_USERNAME")
        if (self.sasl_password is None) == (self.sasl_password_file is None):
            raise SettingsError(
                f"KAFKA_SASL_MECHANISM={mechanism} needs one of KAFKA_SASL_PASSWORD and KAFKA_SASL_PASSWORD_FILE"
            )


UNSECURED = {str(field.alias): "" for name, field in Security.model_fields.items() if name != "ssl_check_hostname"}
"""Environment of processes that use our own broker, whatever is set for another one."""


@dataclass(frozen=True)
class Cluster:
    """The cluster at `servers`: host:port, comma-separated. `str` gives these."""

    servers: str
    security: Security = field(default_factory=Security)
    compression: Compression = "none"

    @classmethod
    def of(cls, brokers: Brokers) -> Cluster:
        return brokers if isinstance(brokers, Cluster) else cls(brokers)

    def __str__(self) -> str:
        return self.servers


Brokers = Cluster | str
"""A cluster; a string is one without TLS and password."""
