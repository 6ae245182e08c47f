"""Client options for aiokafka and Faust, from a Cluster."""

from __future__ import annotations

import logging
import ssl
from errno import EINVAL
from pathlib import Path
from typing import Any

from aiokafka.abc import AbstractTokenProvider

from mdstream.config.cluster import Brokers, Cluster, Security
from mdstream.errors import SettingsError
from mdstream.net.tls import Named, client_context

# At DEBUG aiokafka logs every request verbatim, including the one with the password.
logging.getLogger("aiokafka.conn").setLevel(logging.INFO)


class TokenFile(AbstractTokenProvider):  # type: ignore[misc]  # aiokafka ships no types
    """The token in a file, read for each connection: replacing the file renews it."""

    def __init__(self, path: Path) -> None:
        self._path = path

    async def token(self) -> str:
        """Raises OSError, after which aiokafka tries again later; any other error would end its background tasks."""
        try:
            token = self._path.read_text().strip()
        except UnicodeDecodeError:
            token = ""
        if not token:
            raise OSError(EINVAL, "no token is in it", str(self._path))
        return token


def options(brokers: Brokers) -> dict[str, Any]:
    """The arguments that every client of aiokafka takes. Raises SettingsError if a file cannot be used."""
    cluster = Cluster.of(brokers)
    return {"bootstrap_servers": cluster.servers, **security_options(cluster.security)}


def security_options(security: Security) -> dict[str, Any]:
    """As `options`, without the addresses."""
    found: dict[str, Any] = {"security_protocol": security.protocol, "ssl_context": ssl_context(security)}
    if security.sasl:
        found["sasl_mechanism"] = security.sasl_mechanism
        if security.sasl_oauthbearer_token_file is not None:
            _secret_in(Named("KAFKA_SASL_OAUTHBEARER_TOKEN_FILE", security.sasl_oauthbearer_token_file))
            found["sasl_oauth_token_provider"] = TokenFile(security.sasl_oauthbearer_token_file)
        else:
            found |= {"sasl_plain_username": security.sasl_username, "sasl_plain_password": password(security)}
    return found


def ssl_context(security: Security) -> ssl.SSLContext | None:
    """The context of a protocol with TLS, else None. Raises SettingsError if a file cannot be used."""
    if not security.tls:
        return None
    return client_context(
        Named("KAFKA_SSL_CAFILE", security.ssl_cafile),
        Named("KAFKA_SSL_CERTFILE", security.ssl_certfile),
        Named("KAFKA_SSL_KEYFILE", security.ssl_keyfile),
        key_password=security.ssl_key_password.get_secret_value() if security.ssl_key_password else "",
        check_hostname=security.ssl_check_hostname,
    )


def password(security: Security) -> str:
    """The password, from its setting or its file, without the final line break. Raises SettingsError."""
    if security.sasl_password is not None:
        return security.sasl_password.get_secret_value()
    return _secret_in(Named("KAFKA_SASL_PASSWORD_FILE", security.sasl_password_file))


def _secret_in(file: Named) -> str:
    secret = file.read().rstrip("\r\n")
    if not secret:
        raise SettingsError(f"{file.setting}={file.path}: the file is empty")
    return secret
