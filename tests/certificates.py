"""Certificates for tests, made by the openssl command: an authority, and whom it vouches for."""

from __future__ import annotations

import subprocess
from dataclasses import dataclass
from pathlib import Path

KEY = ("-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256")


@dataclass(frozen=True)
class Certificate:
    """A certificate and its key, PEM, each in a file; `both`: in one."""

    certificate: Path
    key: Path
    both: Path


class Authority:
    """Signs certificates, and is trusted by whoever has `certificate`. All files are in `folder`."""

    def __init__(self, folder: Path, name: str = "authority") -> None:
        self._folder = folder
        self.certificate, self._key = folder / f"{name}.pem", folder / f"{name}.key"
        _openssl(name, self.certificate, self._key, "-nodes", "-addext", "keyUsage=critical,keyCertSign")

    def sign(self, name: str, *, alternatives: str = "DNS:localhost,IP:127.0.0.1", password: str = "") -> Certificate:
        """A certificate of `name`, for the hosts in `alternatives`; with a password its key is encrypted."""
        made = Certificate(*(self._folder / f"{name}.{suffix}" for suffix in ("crt", "key", "both")))
        signed = ("-CA", self.certificate, "-CAkey", self._key, "-addext", f"subjectAltName={alternatives}")
        locked = ("-passout", f"pass:{password}") if password else ("-nodes",)
        _openssl(name, made.certificate, made.key, *signed, *locked, "-addext", "basicConstraints=critical,CA:FALSE")
        made.both.write_text(made.key.read_text() + made.certificate.read_text())
        return made


def _openssl(name: str, certificate: Path, key: Path, *options: object) -> None:
    command = [
        "openssl",
        "req",
        "-x509",
        *KEY,
        "-days",
        "2",
        "-subj",
        f"/CN={name}",
        "-out",
        certificate,
        "-keyout",
        key,
    ]
    subprocess.run([*map(str, command), *map(str, options)], check=True, capture_output=True)
