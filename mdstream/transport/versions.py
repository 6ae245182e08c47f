"""The transport subclasses private parts of Faust and aiokafka: only tested versions are accepted."""

from __future__ import annotations

from importlib.metadata import version

from mdstream.errors import UnsupportedVersionError

TESTED = {"faust-streaming": "0.15.3", "aiokafka": "0.14.0"}


def require_tested_versions() -> None:
    """Raises UnsupportedVersionError if a version is installed that the transport was not tested with."""
    for package, expected in TESTED.items():
        found = version(package)
        if found != expected:
            raise UnsupportedVersionError(package, found, expected)
