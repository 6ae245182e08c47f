"""Certificates for tests: an authority, and the certificates that it signs."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import trustme
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    NoEncryption,
    PrivateFormat,
    load_pem_private_key,
)

HOSTS = ("localhost", "127.0.0.1")


@dataclass(frozen=True)
class Certificate:
    """A certificate and its key, PEM, each in a file; `both`: in one."""

    certificate: Path
    key: Path
    both: Path


class Authority:
    """Signs certificates, and is trusted by whoever has `certificate`. All files are in `folder`."""

    def __init__(self, folder: Path, name: str = "authority") -> None:
        self._folder, self._authority = folder, trustme.CA(organization_name=name)
        self.certificate = folder / f"{name}.pem"
        self._authority.cert_pem.write_to_path(str(self.certificate))

    def sign(self, name: str, *, hosts: tuple[str, ...] = HOSTS, password: str = "") -> Certificate:
        """A certificate of `name`, for these hosts; with a password its key is encrypted."""
        made = Certificate(*(self._folder / f"{name}.{suffix}" for suffix in ("crt", "key", "both")))
        issued = self._authority.issue_cert(*hosts, common_name=name)
        certificate = b"".join(blob.bytes() for blob in issued.cert_chain_pems)
        key = _pkcs8(issued.private_key_pem.bytes(), password)
        for path, content in ((made.certificate, certificate), (made.key, key), (made.both, key + certificate)):
            path.touch(mode=0o600)  # libpq and PostgreSQL take no key that others may read
            path.write_bytes(content)
        return made


def _pkcs8(key: bytes, password: str) -> bytes:
    """The only form of a key that Apache Kafka reads."""
    locked = BestAvailableEncryption(password.encode()) if password else NoEncryption()
    return load_pem_private_key(key, None).private_bytes(Encoding.PEM, PrivateFormat.PKCS8, locked)
