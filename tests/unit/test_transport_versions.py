"""The transport subclasses parts of Faust and aiokafka that are not public: it says so where others are installed."""

from __future__ import annotations

import pytest

from mdstream.errors import MdstreamError, UnsupportedVersionError
from mdstream.transport import versions
from mdstream.transport.versions import TESTED, require_tested_versions


def test_installed_versions_are_the_tested_ones() -> None:
    """What this environment holds is let through."""
    require_tested_versions()


@pytest.mark.parametrize(("package", "found"), [("faust-streaming", "0.16.0"), ("aiokafka", "0.13.1")])
def test_other_version_is_refused_with_what_to_run(monkeypatch: pytest.MonkeyPatch, package: str, found: str) -> None:
    """Another version of either raises, and the sentence names it, the tested one and the command to run."""
    monkeypatch.setattr(versions, "version", lambda name: found if name == package else TESTED[name])
    with pytest.raises(UnsupportedVersionError) as caught:
        require_tested_versions()
    tested = TESTED[package]
    assert str(caught.value) == (
        f"{package} {found} is installed, but mdstream's transport was tested with {tested} only: "
        f"run `pip install '{package}=={tested}'`"
    )
    assert isinstance(caught.value, MdstreamError)
    assert not caught.value.retriable


def test_transport_refuses_to_be_made_with_another_version(monkeypatch: pytest.MonkeyPatch) -> None:
    """The check is where the transport is made: no app can start without it."""
    from mdstream.transport.driver import Transport

    monkeypatch.setattr(versions, "version", lambda _: "9.9.9")
    with pytest.raises(UnsupportedVersionError):
        Transport([], None)
