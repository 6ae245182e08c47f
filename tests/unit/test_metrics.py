"""Everything that Prometheus scrapes, held to the rules of `promtool check metrics`; and that one name means one thing.

The rules: https://github.com/prometheus/client_golang/tree/main/prometheus/testutil/promlint (read 2026-11-21).
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest
from aiohttp import web
from aiohttp.test_utils import make_mocked_request
from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.parser import text_string_to_metric_families

from mdstream.app import ROLES, build
from mdstream.config import load
from mdstream.ingest.bus import Bus
from mdstream.ingest.feed import Feed
from mdstream.ingest.metrics import IngestMetrics
from mdstream.ingest.plan import plan, raw_topics
from mdstream.repair.access import Access
from mdstream.repair.desk import Desk
from mdstream.repair.metrics import RepairMetrics
from mdstream.repair.rawlog import RawLog
from mdstream.repair.requests import Requests
from mdstream.repair.venues import HISTORIES
from mdstream.rest.client import Client, new_session

PROMISED = {"market_exchange_latency_ms"}
"""A name that dashboards know from before, with a unit that the rules do not want: decision 37."""
PROCESS = {"process_cpu_seconds_total", "process_resident_memory_bytes", "process_open_fds", "python_info"}
KEPT = {"market_events_total", "market_exchange_latency_ms", "market_events_per_second", "market_gaps_total"}

ABBREVIATED = frozenset({"s", "ms", "us", "ns", "sec", "b", "kb", "mb", "gb", "tb", "pb", "m", "h", "d"})
NOT_BASE = re.compile(
    r"_(milli|micro|nano|kilo|mega|giga|tera|kibi|mebi|gibi)(seconds|bytes)|_(minutes|hours|days|bits)"
)
KINDS = ("counter", "gauge", "histogram", "summary")
OF_HISTOGRAMS = ("_bucket", "_count", "_sum")


def problems(text: str) -> Iterator[str]:
    """What promtool would say of a page of metrics."""
    names = re.findall(r"^# TYPE (\S+) ", text, re.MULTILINE)
    yield from (f"{name}: twice" for name, count in Counter(names).items() if count > 1)
    for family in text_string_to_metric_families(text):
        name = family.name + ("_total" if family.type == "counter" else "")
        parts = name.split("_")
        labels = {label for sample in family.samples for label in sample.labels}
        found = {
            "no help": not family.documentation,
            "no type": family.type not in KINDS,
            "a counter without _total": family.type == "counter" and name not in names,
            "_total, and no counter": family.type != "counter" and name.endswith("_total"),
            "a histogram's suffix": family.type not in ("histogram", "summary") and name.endswith(OF_HISTOGRAMS),
            "its type in its name": any(kind in parts for kind in KINDS),
            "camel case": bool(re.search(r"[a-z][A-Z]|:", "".join([name, *labels]))),
            "an abbreviated unit": not ABBREVIATED.isdisjoint(parts),
            "not a base unit": bool(NOT_BASE.search(name)),
        }
        yield from (f"{name}: {problem}" for problem, holds in found.items() if holds and name not in PROMISED)


def families(text: str) -> dict[str, str]:
    """Name to help, of all there are."""
    return dict(re.findall(r"^# HELP (\S+) (.*)$", text, re.MULTILINE))


def worker(role: str, folder: Path) -> str:
    """What a worker of this role shows before it has done anything, and with a trade in it."""
    settings = load(role=role, data_dir=folder, database_url="postgresql://u@127.0.0.1/x", markets="crypto")
    registry: CollectorRegistry = build(settings).registry
    return generate_latest(registry).decode()


async def ingestor() -> str:
    """What an ingestor of all providers shows."""
    settings, wanted = load(), plan("all", ["BTCUSDT"])
    bus = Bus(raw_topics(wanted, settings), settings)
    feeds = [Feed(w.provider, w.symbols, bus.intake(w), {}) for w in wanted]
    return shown(await IngestMetrics(feeds, bus).page(make_mocked_request("GET", "/metrics")))


async def repairer() -> str:
    """What `mdstream repair` shows."""
    settings = load()
    raw_log = RawLog(settings)
    async with new_session() as session:
        desks = [
            Desk(h(), Access(h(), Client(session, h.default_url, variable="x")), raw_log, patience_s=1)
            for h in HISTORIES.values()
        ]
        by_name = {desk.history.name: desk for desk in desks}
        requests = Requests(
            bootstrap_servers="x:1", topic="md.gaps", group="g", desks=by_name, raw_log=raw_log, only=None
        )
        return shown(await RepairMetrics(desks, requests).page(make_mocked_request("GET", "/metrics")))


def shown(answer: web.Response) -> str:
    assert isinstance(answer.body, bytes)
    return answer.body.decode()


@pytest.fixture
async def pages(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, str]:
    """The page /metrics of each kind of process."""
    monkeypatch.chdir(tmp_path)
    workers = {role: worker(role, tmp_path) for role in ROLES}
    return {**workers, "ingest": await ingestor(), "repair": await repairer()}


async def test_every_page_keeps_the_rules_and_shows_its_process(pages: dict[str, str]) -> None:
    """Help and type are there, counters end in _total, units are seconds and bytes, no family comes twice."""
    for name, text in pages.items():
        assert list(problems(text)) == [], name
        assert families(text).keys() >= PROCESS, name
        assert "_created" not in text


async def test_one_name_means_one_thing(pages: dict[str, str]) -> None:
    """Summed over all processes, a metric must not add frames to events: frames are the ingestor's own."""
    message: dict[str, str] = {}
    for name, text in pages.items():
        for family, what in families(text).items():
            assert message.setdefault(family, what) == what, f"{family} of {name}"
    assert families(pages["core"]).keys() >= KEPT
    assert not KEPT & families(pages["ingest"]).keys()
    assert "mdstream_ingest_frames_total" in families(pages["ingest"])


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("# TYPE a_total counter\na_total 1\n", "a_total: no help"),
        ("# HELP a b\n# TYPE a counter\na 1\n", "a_total: a counter without _total"),
        ("# HELP a_total b\n# TYPE a_total gauge\na_total 1\n", "a_total: _total, and no counter"),
        ("# HELP a_ms b\n# TYPE a_ms gauge\na_ms 1\n", "a_ms: an abbreviated unit"),
        ("# HELP a_minutes b\n# TYPE a_minutes gauge\na_minutes 1\n", "a_minutes: not a base unit"),
        ("# HELP a_count b\n# TYPE a_count gauge\na_count 1\n", "a_count: a histogram's suffix"),
        ("# HELP a b\n# TYPE a gauge\na 1\n# HELP c d\n# TYPE c gauge\nc 1\n# HELP a b\n# TYPE a gauge\n", "a: twice"),
        ('# HELP a b\n# TYPE a gauge\na{theKind="x"} 1\n', "a: camel case"),
    ],
)
def test_the_rules_find_what_promtool_finds(text: str, problem: str) -> None:
    """A rule that finds nothing would keep nothing."""
    assert problem in list(problems(text))
