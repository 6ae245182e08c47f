"""An Apache Kafka that asks for TLS, and for a password, a token or a certificate of the client's own."""

from __future__ import annotations

import base64
import json
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from certificates import Authority, Certificate
from processes import free_port
from servers import apache_kafka

USER, PASSWORD = "alice", "alice's = pass word"
"""With what SCRAM and shells find hard."""
KEY_PASSWORD = "open sesame"


@dataclass(frozen=True)
class SecureKafka:
    """Its listeners on localhost, and the files of a client. `passwords`: SASL_SSL; `certificates`: SSL."""

    open: str
    passwords: str
    certificates: str
    authority: Path
    client: Certificate
    folder: Path

    def environment(self, mechanism: str) -> dict[str, str]:
        """What KAFKA_* variables have to be for SASL_SSL."""
        common = {
            "KAFKA_BOOTSTRAP_SERVERS": self.passwords,
            "KAFKA_SECURITY_PROTOCOL": "SASL_SSL",
            "KAFKA_SASL_MECHANISM": mechanism,
            "KAFKA_SSL_CAFILE": str(self.authority),
        }
        if mechanism == "OAUTHBEARER":
            return common | {"KAFKA_SASL_OAUTHBEARER_TOKEN_FILE": str(token_file(self.folder / "token"))}
        return common | {"KAFKA_SASL_USERNAME": USER, "KAFKA_SASL_PASSWORD": PASSWORD}

    def certified(self) -> dict[str, str]:
        """What KAFKA_* variables have to be for SSL with a certificate of the client's."""
        return {
            "KAFKA_BOOTSTRAP_SERVERS": self.certificates,
            "KAFKA_SECURITY_PROTOCOL": "SSL",
            "KAFKA_SSL_CAFILE": str(self.authority),
            "KAFKA_SSL_CERTFILE": str(self.client.certificate),
            "KAFKA_SSL_KEYFILE": str(self.client.key),
            "KAFKA_SSL_KEY_PASSWORD": KEY_PASSWORD,
        }


@contextmanager
def secure_kafka(folder: Path) -> Iterator[SecureKafka]:
    """One broker with all of it. An open listener is there for the broker itself."""
    authority = Authority(folder)
    server = authority.sign("server", hosts=("localhost",))
    client = authority.sign("client", password=KEY_PASSWORD)
    listeners = {"SASL_SSL": free_port(), "SSL": free_port()}
    with apache_kafka(_settings(server, authority), listeners=listeners, users={USER: PASSWORD}) as kafka:
        yield SecureKafka(
            kafka.bootstrap,
            f"localhost:{listeners['SASL_SSL']}",
            f"localhost:{listeners['SSL']}",
            authority.certificate,
            client,
            folder,
        )


def _settings(server: Certificate, authority: Authority) -> dict[str, str]:
    module = "org.apache.kafka.common.security.{}LoginModule required"
    logins = {
        "plain": f'{module.format("plain.Plain")} user_{USER}="{PASSWORD}";',
        "scram-sha-512": f"{module.format('scram.Scram')};",
        "oauthbearer": f'{module.format("oauthbearer.OAuthBearer")} unsecuredLoginStringClaim_sub="broker";',
    }
    return {
        "ssl.keystore.type": "PEM",
        "ssl.keystore.location": str(server.both),
        "ssl.truststore.type": "PEM",
        "ssl.truststore.location": str(authority.certificate),
        "listener.name.ssl.ssl.client.auth": "required",
        "listener.name.sasl_ssl.sasl.enabled.mechanisms": ",".join(logins).upper(),
        **{f"listener.name.sasl_ssl.{name}.sasl.jaas.config": login for name, login in logins.items()},
    }


def token_file(path: Path, *, lives_s: float = 3600.0) -> Path:
    """A file with a token that Kafka's validator for tests accepts: nobody has signed it."""
    now_s = time.time()
    parts = {"alg": "none"}, {"sub": USER, "iat": now_s - 1, "exp": now_s + lives_s}
    encoded = (base64.urlsafe_b64encode(json.dumps(part).encode()).decode().rstrip("=") for part in parts)
    path.write_text(".".join(encoded) + ".\n")
    return path
