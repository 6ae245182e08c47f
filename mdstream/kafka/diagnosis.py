"""Why a Kafka cluster does not let us in: aiokafka only reports that it could not connect.

Connects to each address, and to each broker named there. The first failure becomes a message that names the setting to
check.
"""

from __future__ import annotations

import asyncio
import ssl
import sys
from collections.abc import Iterator
from typing import Any

from aiokafka.conn import AIOKafkaConnection, OAuthAuthenticator, collect_hosts
from aiokafka.errors import (
    IllegalSaslStateError,
    KafkaConnectionError,
    KafkaError,
    SaslAuthenticationFailed,
    UnsupportedSaslMechanismError,
)
from aiokafka.protocol.metadata import MetadataRequest

from mdstream.config.cluster import Cluster, Security
from mdstream.kafka.security import security_options
from mdstream.net import tls

LIMIT_S = 5.0
"""Limit of the whole diagnosis: the caller has already waited for a broker before it."""
FAILURES = (KafkaError, OSError, ValueError, AssertionError)
"""What aiokafka raises while it connects: the last two if the peer does not follow SASL."""


async def why(cluster: Cluster) -> str | None:
    """Why the cluster does not let us in, and the setting to check; None if it is only unreachable.

    Raises SettingsError if a file cannot be used.
    """
    given, handled = security_options(cluster.security), sys.exc_info()[1]
    waiting = [(host, port) for host, port, _ in collect_hosts(cluster.servers, randomize=False)]
    queried: set[tuple[str, int]] = set()
    try:
        async with asyncio.timeout(LIMIT_S):
            while waiting:
                queried.add(place := waiting.pop(0))
                try:
                    named = await _brokers_named_by(*place, given)
                except FAILURES as error:
                    if reason := reason_of(error, cluster.security, handled=handled):
                        return f"{place[0]}:{place[1]} {reason}"
                else:
                    waiting = [*(named - queried), *waiting]
    except TimeoutError:
        pass
    return None


class _OAuth(OAuthAuthenticator):  # type: ignore[misc]  # aiokafka ships no types
    """aiokafka takes a refused token for an accepted one: it ignores the answer, which is empty only on success
    (RFC 7628, 3.2.3)."""

    async def step(self, payload: bytes | None) -> tuple[bytes, bool] | None:
        if payload:
            raise SaslAuthenticationFailed(payload.decode(errors="replace"))
        step: tuple[bytes, bool] | None = await super().step(payload)
        return step


class _Connection(AIOKafkaConnection):  # type: ignore[misc]  # aiokafka ships no types
    def authenticator_oauth(self) -> _OAuth:
        return _OAuth(sasl_oauth_token_provider=self._sasl_oauth_token_provider)


async def _brokers_named_by(host: str, port: int, given: dict[str, Any]) -> set[tuple[str, int]]:
    connection = _Connection(host, port, request_timeout_ms=round(LIMIT_S * 1000), **given)
    try:
        await connection.connect()
        found = await connection.send(MetadataRequest([]))
    finally:
        connection.close()
    return {(host, port) for _, host, port, *_ in found.brokers}


def reason_of(error: BaseException, security: Security, *, handled: BaseException | None = None) -> str | None:
    """What the broker did, and the setting to check; None for a failure that no setting causes.

    `handled`: the error that triggered the diagnosis, which Python counts among the causes.
    """
    causes = list(_causes(error, handled))
    for cause in causes:
        if isinstance(cause, ssl.SSLError):
            return tls.reason_of(
                cause,
                ca="KAFKA_SSL_CAFILE",
                name="KAFKA_BOOTSTRAP_SERVERS, or else KAFKA_SSL_CHECK_HOSTNAME",
                certificate="KAFKA_SSL_CERTFILE, KAFKA_SSL_KEYFILE",
                protocol=f"KAFKA_SECURITY_PROTOCOL={security.protocol}, or the port",
                shown=security.ssl_certfile is not None,
            )
    if isinstance(error, SaslAuthenticationFailed):
        return f"does not accept {_credentials(security)}"
    if isinstance(error, UnsupportedSaslMechanismError):
        return f"does not offer the mechanism {security.sasl_mechanism}: KAFKA_SASL_MECHANISM"
    if isinstance(error, IllegalSaslStateError):
        return f"asks for no password: KAFKA_SECURITY_PROTOCOL={security.protocol}"
    if isinstance(error, (ValueError, AssertionError)):
        return f"does not keep to {security.sasl_mechanism}: it may not be the broker of KAFKA_BOOTSTRAP_SERVERS"
    if any(isinstance(cause, (EOFError, ConnectionResetError, KafkaConnectionError)) for cause in causes):
        return _closed_reason(security)
    return None


def _causes(error: BaseException | None, handled: BaseException | None) -> Iterator[BaseException]:
    while error is not None and error is not handled:
        yield error
        error = error.__cause__ or error.__context__


def _credentials(security: Security) -> str:
    if security.sasl_mechanism == "OAUTHBEARER":
        return "the token: KAFKA_SASL_OAUTHBEARER_TOKEN_FILE"
    where = "KAFKA_SASL_PASSWORD_FILE" if security.sasl_password_file is not None else "KAFKA_SASL_PASSWORD"
    return f"the user or the password: KAFKA_SASL_USERNAME, {where}"


def _closed_reason(security: Security) -> str:
    """The most likely reasons for a connection that was closed without an answer."""
    wants = {"PLAINTEXT": "TLS or a password", "SSL": "a password, or no TLS", "SASL_PLAINTEXT": "TLS"}
    wanted = wants.get(security.protocol, "no TLS")
    where = f"KAFKA_SECURITY_PROTOCOL={security.protocol}, or the port"
    return f"closes the connection: it is just starting, or wants {wanted}: {where}"
