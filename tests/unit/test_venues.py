"""A venue is one folder: found by its name, checked when it is made, and no trouble to the others when it is broken."""

from __future__ import annotations

from pathlib import Path
from typing import ClassVar

import pytest

from mdstream import venues
from mdstream.repair.venues import HISTORIES, PASTS, TIMED
from mdstream.rest.listings import LISTINGS
from mdstream.simulator.venues import EXCHANGES, RESTS
from mdstream.venues import parts
from mdstream.venues.declared import Declared
from mdstream.venues.feed import Provider
from mdstream.venues.providers import PROVIDERS

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
    assert set(RESTS) == set(PASTS) | set(LISTINGS) < folders
    for found in (PROVIDERS, HISTORIES, TIMED, LISTINGS, EXCHANGES, RESTS):
        assert all(part.name == name for name, part in found.items())


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
