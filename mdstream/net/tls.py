"""TLS as a client: the context of a connection, from the PEM files that settings name, and why a connection failed."""

from __future__ import annotations

import ssl
from pathlib import Path
from typing import NamedTuple

from mdstream.errors import SettingsError

NAMED_OTHERWISE = frozenset({62, 64})
"""OpenSSL's verify codes for a certificate of another host name or address."""


class Named(NamedTuple):
    """A file, if given, and the setting that names it."""

    setting: str
    path: Path | None

    def read(self) -> str:
        """Its text. Raises SettingsError if it cannot be read."""
        assert self.path is not None
        try:
            return self.path.read_text()
        except (OSError, UnicodeDecodeError) as error:
            reason = error.strerror if isinstance(error, OSError) else "not a text file"
            raise SettingsError(f"{self.setting}={self.path}: {reason}") from None


def client_context(
    ca: Named, certificate: Named, key: Named, *, key_password: str = "", check_hostname: bool = True
) -> ssl.SSLContext:
    """A context that trusts `ca`, by default the system's CAs, and presents `certificate` if given.

    Without `key`, the key is read from the certificate's file. Raises SettingsError naming the file and its setting,
    never a password.
    """
    context = ssl.create_default_context()
    if ca.path is not None:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        try:
            context.load_verify_locations(cadata=ca.read())
        except (ssl.SSLError, ValueError):
            raise SettingsError(f"{ca.setting}={ca.path}: no certificate in PEM form is in it") from None
    context.check_hostname = check_hostname
    if certificate.path is not None:
        _show(context, certificate, key if key.path is not None else certificate, key_password)
    return context


def _show(context: ssl.SSLContext, certificate: Named, key: Named, password: str) -> None:
    """Load a certificate and its key. Without a password callback OpenSSL would prompt on the terminal."""
    assert certificate.path is not None
    assert key.path is not None
    for named in (certificate, key):
        named.read()
    try:
        context.load_cert_chain(certificate.path, key.path, password=lambda: password)
    except (ssl.SSLError, ValueError) as error:
        reason = getattr(error, "reason", None)
        what = (
            "the key is not that of the certificate"
            if reason == "KEY_VALUES_MISMATCH"
            else "no PEM, or a wrong password"
        )
        raise SettingsError(f"{certificate.setting}={certificate.path}, {key.setting}={key.path}: {what}") from None


def reason_of(error: ssl.SSLError, *, ca: str, name: str, certificate: str, protocol: str, shown: bool) -> str:
    """What the other side did, to follow its address in a sentence, and which of the given settings to check.

    `shown`: whether we present a certificate.
    """
    if isinstance(error, ssl.SSLCertVerificationError):
        reason = error.verify_message.rstrip(".")
        if error.verify_code in NAMED_OTHERWISE:
            return f"shows a certificate for another name ({reason}): {name}"
        return f"shows a certificate that is not trusted ({reason}): {ca}"
    reason = error.reason or ""
    words = reason.replace("_", " ").lower() or "no reason given"
    if "ALERT" in reason and "CERT" in reason and not shown:
        return f"asks for a client certificate: {certificate}"
    if "ALERT" in reason and shown:
        return f"does not accept our certificate ({words}): {certificate}"
    return f"does not answer as TLS does ({words}): {protocol}"
