"""A venue is one folder: found by its name, checked when it is made, and no trouble to the others when it is broken."""

from __future__ import annotations

from pathlib import Path
from typing import ClassVar

import pytest

from mdstream import venues
from mdstream.errors import SettingsError
from mdstream.repair.venues import HISTORIES, PASTS, TIMED
from mdstream.rest.listings import LISTINGS
from mdstream.simulator.venues import EXCHANGES, RESTS
from mdstream.venues import SANDBOX, SANDBOX_MODE, parts, rest_setting, ws_setting
from mdstream.venues.declared import Declared
from mdstream.venues.feed import Provider
from mdstream.venues.past import Past
from mdstream.venues.providers import PROVIDERS
from mdstream.venues.rest import Api

WHOLE = """
from mdstream.venues.binance.feed import Binance
class Copy(Binance):
    name = "whole"
"""


def test_every_folder_is_a_venue_by_its_own_name() -> None:
    """The name that the user types is the folder's, in every part."""
    folders = {path.parent.name for path in Path(venues.__path__[0]).glob("*/feed.py")}
    assert set(PROVIDERS) == folders
    assert set(EXCHANGES) == {name for name in folders if PROVIDERS[name].has_feed}
    over_http = {name for name, past in PASTS.items() if past.client is None}
    assert set(RESTS) == over_http | set(LISTINGS) < folders
    for found in (PROVIDERS, HISTORIES, TIMED, LISTINGS, EXCHANGES, RESTS):
        assert all(part.name == name for name, part in found.items())


SANDBOXES = {"alpaca", "alpaca_crypto", "binance", "bybit", "bybit_linear", "coinbase", "okx"}
OWN_GATEWAY = {"ib"}
"""The addresses are the user's own."""


@pytest.mark.parametrize("name", sorted(PROVIDERS.keys() - OWN_GATEWAY))
def test_a_venue_leads_to_its_sandbox_or_nowhere(name: str) -> None:
    """Both of its addresses to the same one; whoever wants the sandbox never gets the market. A set address wins."""
    sandbox = {SANDBOX_MODE: SANDBOX}
    found = PROVIDERS[name]()
    if name in SANDBOXES:
        assert found.url(sandbox) not in (found.url({}), found.url({SANDBOX_MODE: "official"}))
    else:
        with pytest.raises(SettingsError, match=f"no sandbox for {ws_setting(name)}: set it"):
            found.url(sandbox)
    assert found.url(sandbox | {ws_setting(name): "ws://localhost/x"}) == "ws://localhost/x"
    rests: list[Api] = [of[name]() for of in (HISTORIES, TIMED, LISTINGS) if name in of]
    for rest in rests:
        if name in SANDBOXES - {"okx"}:
            assert rest.base_url(sandbox) != rest.base_url({})
            assert not isinstance(rest, Past) or rest.check_addresses(sandbox) is None
        else:
            with pytest.raises(SettingsError, match=f"no sandbox for {rest_setting(name)}: set it"):
                rest.base_url(sandbox)
            assert rest.base_url(sandbox | {rest_setting(name): "http://localhost/"}) == "http://localhost"


def test_venues_whose_missing_trades_are_noticed_are_preferred() -> None:
    """The order of the providers is that of the sources where the user named none; among equals it is alphabetical."""
    noticed = sorted(name for name, provider in PROVIDERS.items() if provider.contiguous_ids)
    assert list(PROVIDERS) == [*noticed, *sorted(PROVIDERS.keys() - set(noticed))]


@pytest.mark.parametrize("broken", ["import nothing_of_this_name", "1 / 0", "class Nothing: pass", "not Python"])
def test_a_broken_venue_stops_no_other(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, broken: str
) -> None:
    """It is left out, with an error that names it."""
    for name, source in (("broken", broken), ("whole", WHOLE), ("empty", None)):
        (tmp_path / name).mkdir()
        (tmp_path / name / "__init__.py").touch()
        if source is not None:
            (tmp_path / name / "feed.py").write_text(source)
    monkeypatch.setattr(venues, "__path__", [str(tmp_path)])
    monkeypatch.setattr(venues, "NAMES", ("broken", "whole", "empty"))
    monkeypatch.syspath_prepend(tmp_path)
    assert list(parts(Provider, "feed")) == ["whole"]  # type: ignore[type-abstract]
    assert ["broken" in record.getMessage() for record in caplog.records] == [True]


class Described(Declared):
    name: ClassVar[str]
    limit: ClassVar[int]
    most: ClassVar[int] = 5


def test_class_variables_without_a_value_have_to_be_set() -> None:
    """Told when the class is made, each by its name."""
    with pytest.raises(TypeError, match=r"Partly has to set limit$"):
        type("Partly", (Described,), {"name": "x"})
    whole = type("Whole", (Described,), {"name": "x", "limit": 1})
    assert type("Again", (whole,), {}).limit == 1  # type: ignore[attr-defined]
