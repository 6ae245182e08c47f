"""The bars' settings and what is counted of them."""

from __future__ import annotations

import pytest
from bar_builders import RULES, records, trade
from prometheus_client import CollectorRegistry

from mdstream.bars.bars import Bars
from mdstream.config import load
from mdstream.errors import SettingsError
from mdstream.roles.bars_metrics import BarsMetrics


@pytest.mark.parametrize(
    ("text", "names"), [("1s,1m,5m,1h", ("1s", "1m", "5m", "1h")), (" 15m , 1d,", ("15m", "1d")), ("", ()), (" ", ())]
)
def test_intervals_are_split_at_commas_and_none_is_allowed(
    monkeypatch: pytest.MonkeyPatch, text: str, names: tuple[str, ...]
) -> None:
    """Empty switches bars off."""
    monkeypatch.setenv("MDSTREAM_BARS", text)
    assert load().bars.intervals == names


@pytest.mark.parametrize("text", ["1x", "0s", "s", "1.5m", "-1s", "1m,1M", "10000s"])
def test_an_interval_that_is_none_is_refused_by_name(monkeypatch: pytest.MonkeyPatch, text: str) -> None:
    """A number and s, m, h or d."""
    monkeypatch.setenv("MDSTREAM_BARS", text)
    with pytest.raises(SettingsError, match=r"bad settings: MDSTREAM_BARS\.\d="):
        load()


def test_counters_are_there_at_zero_and_add_up() -> None:
    """Bars, revisions and late trades by interval; trades by outcome. What was taken over is not counted again."""
    bars, metrics = Bars(RULES), BarsMetrics(RULES)
    registry = CollectorRegistry()
    registry.register(metrics)

    def value(name: str, label: str) -> float | None:
        key = "outcome" if name == "mdstream_bar_trades" else "interval"
        return registry.get_sample_value(f"{name}_total", {key: label})

    assert value("mdstream_late_trades", "1h") == 0
    for trades in ([trade(1, 0), trade(2, 400_000)], [trade(2, 400_000), trade(3, 500)]):
        bars.step(records(trades))
        metrics.add(bars.report())
        metrics.count(bars.collect(bars.watermark_ns))
    metrics.add(bars.report())
    assert (value("mdstream_bar_trades", "trade"), value("mdstream_bar_trades", "repeat")) == (3, 1)
    assert (value("mdstream_bars", "1s"), value("mdstream_bar_revisions", "1s")) == (1, 0)
    assert (value("mdstream_bars", "1m"), value("mdstream_bar_revisions", "1m")) == (2, 1)
    assert (value("mdstream_late_trades", "1s"), value("mdstream_late_trades", "1m")) == (1, 0)
