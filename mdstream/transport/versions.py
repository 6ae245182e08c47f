"""The transport subclasses parts of Faust and aiokafka that are not public: only tested versions are let through."""

from __future__ import annotations

from importlib.metadata import version

from mdstream.errors import UnsupportedVersionError

TESTED = {"faust-streaming": "0.15.3", "aiokafka": "0.14.0"}


def require_tested_versions() -> None:
    """Raises UnsupportedVersionError where another version is installed than the transport was tested with."""
    for package, expected in TESTED.items():
        found = version(package)
        if found != expected:
            raise UnsupportedVersionError(package, found, expected)
