"""A NATS server that asks for TLS, and for a password, a certificate or credentials: how the nats role and the audit
connect."""

from __future__ import annotations

import base64
import json
import os
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import nkeys
import pytest
from certificates import Authority
from servers import nats_server

from mdstream.audit.hops.nats import NatsHop
from mdstream.audit.trades import Scope
from mdstream.config import Settings, load
from mdstream.embedded.nats import EmbeddedNats
from mdstream.errors import SettingsError, SinkError
from mdstream.sinks.nats import JetStreamSink

pytestmark = pytest.mark.system


@pytest.fixture
def authority(tmp_path: Path) -> Authority:
    return Authority(tmp_path)


def tls(authority: Authority, *, verify: bool = False) -> str:
    """Lines for a server's configuration: TLS, and with `verify` a certificate of the client's."""
    server = authority.sign("server")
    files = f'cert_file: "{server.certificate}", key_file: "{server.key}", ca_file: "{authority.certificate}"'
    return f"tls {{ {files}, verify: {str(verify).lower()} }}\n"


def given(server: EmbeddedNats, *, login: str = "", **settings: Any) -> Settings:
    return load(nats_url=f"tls://{login}localhost:{server.port}", use_jetstream=True, **settings)


async def works(settings: Settings) -> None:
    """The role makes its stream, and the audit reads it."""
    sink = JetStreamSink(settings)
    await sink.open()
    await sink.close()
    await NatsHop(settings, Scope()).check()


async def refusal(settings: Settings) -> str:
    with pytest.raises(SinkError) as raised:
        await JetStreamSink(settings).open()
    assert "secret" not in str(raised.value)
    return str(raised.value)


async def test_password_goes_over_tls_to_a_server_that_is_trusted(authority: Authority, tmp_path: Path) -> None:
    """The setting is named where it is not trusted, or wants another password."""
    with nats_server(settings=tls(authority) + 'authorization { user: "md", password: "a-secret" }') as server:
        ca = authority.certificate
        await works(given(server, login="md:a-secret@", nats_ca=ca))
        assert "it refuses the user, password or token of NATS_URL" in await refusal(
            given(server, login="md:other-secret@", nats_ca=ca)
        )
        for untrusted in (None, Authority(tmp_path, "stranger").certificate):
            message = await refusal(given(server, login="md:a-secret@", nats_ca=untrusted))
            assert "it shows a certificate that is not trusted (" in message
            assert message.endswith("): NATS_CA")


async def test_certificate_is_shown_to_a_server_that_asks_for_one(authority: Authority) -> None:
    """With NATS_CERT and NATS_KEY; without them the server ends the connection."""
    own = authority.sign("client")
    with nats_server(settings=tls(authority, verify=True)) as server:
        known: dict[str, Any] = {"nats_ca": authority.certificate}
        await works(given(server, **known, nats_cert=own.certificate, nats_key=own.key))
        assert "NATS_CERT, NATS_KEY" in await refusal(given(server, **known))


async def test_credentials_are_shown_to_a_server_with_accounts(authority: Authority, tmp_path: Path) -> None:
    """A signed JWT, and the answer to a challenge: the seed never leaves this machine."""
    operator = Operator()
    with nats_server(settings=tls(authority) + operator.configuration) as server:
        (tmp_path / "good.creds").write_text(operator.credentials())
        (tmp_path / "bad.creds").write_text(Operator().credentials())
        known: dict[str, Any] = {"nats_ca": authority.certificate}
        await works(given(server, **known, nats_creds=tmp_path / "good.creds"))
        message = await refusal(given(server, **known, nats_creds=tmp_path / "bad.creds"))
        assert "or the credentials of NATS_CREDS" in message


async def test_server_without_tls_gets_no_password() -> None:
    """A client that is set to TLS does not fall back to plain text, whatever the server announces."""
    with eavesdropper() as (port, heard):
        url = f"tls://md:a-secret@localhost:{port}"
        assert "it offers no TLS: NATS_URL, NATS_CA" in await refusal(load(nats_url=url, use_jetstream=True))
    assert heard == []


@contextmanager
def eavesdropper() -> Iterator[tuple[int, list[bytes]]]:
    """A server that greets as NATS does and needs no TLS, and what it receives."""
    heard: list[bytes] = []

    def serve() -> None:
        connection, _ = listener.accept()
        with connection:
            connection.sendall(
                b'INFO {"server_id":"x","version":"2.12.1","max_payload":1048576,"auth_required":true}\r\n'
            )
            connection.settimeout(5)
            while content := connection.recv(4096):
                heard.append(content)

    with socket.create_server(("127.0.0.1", 0)) as listener:
        thread = threading.Thread(target=serve)
        thread.start()
        yield listener.getsockname()[1], heard
        thread.join()


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"nats_creds": "none"}, "NATS_CREDS=none: No such file or directory"),
        ({"nats_creds": "empty"}, "NATS_CREDS=empty: not a credentials file: expected a user's JWT and seed"),
        ({"nats_ca": "none"}, "NATS_CA=none: No such file or directory"),
        ({"nats_key": "empty"}, "NATS_KEY means nothing without NATS_CERT"),
    ],
    ids=str,
)
def test_file_that_cannot_be_used_is_named_before_anything_is_asked(
    settings: dict[str, str], message: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With nats-py alone an empty credentials file is read for ever."""
    monkeypatch.chdir(tmp_path)
    Path("empty").touch()
    with pytest.raises(SettingsError) as raised:
        JetStreamSink(load(**settings))
    assert str(raised.value) == message


class Operator:
    """An operator with an account for us, as `nsc` makes them: each signs the next one's JWT."""

    def __init__(self) -> None:
        operator, system, self._account = (_pair(kind) for kind in (b"O", b"A", b"A"))
        limits = dict.fromkeys(("subs", "data", "payload", "imports", "exports", "conn", "leaf"), -1)
        room = dict.fromkeys(("mem_storage", "disk_storage", "streams", "consumer"), -1)
        accounts = {
            _public(system): _jwt(operator, system, "account", limits=limits | {"wildcards": True}),
            _public(self._account): _jwt(
                operator, self._account, "account", limits=limits | room | {"wildcards": True}
            ),
        }
        preloaded = "\n".join(f"  {name}: {jwt}" for name, jwt in accounts.items())
        signed = _jwt(operator, operator, "operator", system_account=_public(system))
        self.configuration = (
            f"operator: {signed}\nsystem_account: {_public(system)}\nresolver: MEMORY\n"
            f"resolver_preload: {{\n{preloaded}\n}}\n"
        )

    def credentials(self) -> str:
        """A credentials file of a new user."""
        user = _pair(b"U")
        parts = {
            "NATS USER JWT": _jwt(self._account, user, "user", subs=-1, data=-1, payload=-1),
            "USER NKEY SEED": bytes(user.seed).decode(),
        }
        return "".join(f"-----BEGIN {name}-----\n{part}\n------END {name}------\n\n" for name, part in parts.items())


def _pair(kind: bytes) -> nkeys.KeyPair:
    prefixes = {b"O": nkeys.PREFIX_BYTE_OPERATOR, b"A": nkeys.PREFIX_BYTE_ACCOUNT, b"U": nkeys.PREFIX_BYTE_USER}
    return nkeys.from_seed(bytearray(nkeys.encode_seed(os.urandom(32), prefixes[kind])))


def _public(pair: nkeys.KeyPair) -> str:
    return str(bytes(pair.public_key).decode())


def _jwt(issuer: nkeys.KeyPair, subject: nkeys.KeyPair, kind: str, **claims: object) -> str:
    payload = {
        "jti": os.urandom(8).hex(),
        "iat": 1_700_000_000,
        "iss": _public(issuer),
        "sub": _public(subject),
        "name": kind,
        "nats": {"type": kind, "version": 2, **claims},
    }
    parts = [_base64(json.dumps(part).encode()) for part in ({"typ": "JWT", "alg": "ed25519-nkey"}, payload)]
    return ".".join([*parts, _base64(issuer.sign(".".join(parts).encode()))])


def _base64(content: bytes) -> str:
    return base64.urlsafe_b64encode(content).decode().rstrip("=")
