"""What the venues list, over sockets: printed, published, and used to check and to find the symbols of an ingestor."""

from __future__ import annotations

import asyncio
import json
import urllib.request
from collections import defaultdict
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from processes import Processes, free_port, run_mdstream, wait_until
from servers import read_topic
from venues import Venues

from mdstream import events
from mdstream.errors import ListingError
from mdstream.events import ListedInstrument
from mdstream.rest.listings import LISTINGS, ask

pytestmark = pytest.mark.system

Start = Callable[..., Venues]


@pytest.fixture
def start(processes: Processes, tmp_path: Path) -> Start:
    return lambda *options: Venues.start(processes, tmp_path / "made.jsonl", *options)


async def test_every_venue_is_asked_at_its_own_address(start: Start) -> None:
    """Each has its default instruments, with volumes where the venue gives them."""
    found = await ask(list(LISTINGS), start().urls, limit_s=20)
    for name, instruments in found.items():
        assert not isinstance(instruments, ListingError), instruments
        assert any(each.symbol.startswith("BTCUSD") for each in instruments)
        assert {each.volume_24h is None for each in instruments} == {name == "coinbase"}


async def test_a_venue_that_cannot_answer_stops_no_other(start: Start) -> None:
    """Away, too busy, of another kind, or in no time: the reason is named."""
    venues = start("--rest-budget", "coinbase=1/1000", "--symbols", "BTCUSD")
    addresses = {**venues.urls, "KRAKEN_API_BASE_URL": f"http://127.0.0.1:{free_port()}"}
    addresses["OKX_API_BASE_URL"] = addresses["BYBIT_API_BASE_URL"]
    addresses["BYBIT_LINEAR_API_BASE_URL"] = "no address"
    names = ["binance", "coinbase", "kraken", "okx", "bybit_linear", "bybit"]
    await ask(["coinbase"], addresses, limit_s=20)
    found = await ask(names, addresses, limit_s=20)
    reasons = {name: each.reason for name, each in found.items() if isinstance(each, ListingError)}
    assert reasons.keys() == {"coinbase", "kraken", "okx", "bybit_linear"}
    assert reasons["coinbase"] == "HTTP 429: Public rate limit exceeded"
    assert "cannot be reached" in reasons["kraken"]
    assert "404" in reasons["okx"]
    assert "expected an address like https://" in reasons["bybit_linear"]
    assert [each.symbol for each in found["bybit"] if isinstance(each, ListedInstrument)] == ["BTCUSD"]  # type: ignore[union-attr]
    nothing = await ask(["binance_usdm"], addresses, limit_s=20)
    assert str(nothing["binance_usdm"]).startswith("binance_usdm does not say what it lists: ")
    late = await ask(["binance"], addresses, limit_s=0.0)
    assert str(late["binance"]) == "binance does not say what it lists: no answer within 0 s"


async def test_instruments_are_printed_and_published(start: Start, env: dict[str, str], prefix: str) -> None:
    """A line and an event for each that matches; a second run replaces the first, key by key."""
    venues = start()
    away = {"KRAKEN_API_BASE_URL": f"http://127.0.0.1:{free_port()}"}
    done = run_mdstream("instruments", "btc*usdt*", env={**env, **venues.urls, **away})
    assert done.returncode == 1
    assert done.stderr.startswith("kraken does not say what it lists: ")
    assert "BTC-USDT" in done.stdout
    published = [record async for record in _published(env, prefix)]
    shown = int(done.stdout.splitlines()[-1].split(" ")[0])
    assert len(published) == shown > 5
    assert done.stdout.splitlines()[-1].endswith(f"published to {prefix}.instruments")
    for key, event in published:
        assert key == f"{event.provider}:{event.symbol}"
        assert "USDT" in event.symbol
    again = run_mdstream("instruments", "--provider", "okx", "BTCUSDT", "--json", env={**env, **venues.urls})
    assert again.returncode == 0, again.stderr
    (line,) = again.stdout.splitlines()
    assert [event async for key, event in _published(env, prefix) if key == "okx:BTCUSDT"][-1] == events.decode(
        line.encode()
    )


async def _published(env: dict[str, str], prefix: str) -> Any:
    for record in await read_topic(env["KAFKA_BOOTSTRAP_SERVERS"], f"{prefix}.instruments"):
        event = events.decode(record.value)
        assert isinstance(event, ListedInstrument)
        yield record.key.decode(), event


def test_an_ingestor_refuses_what_the_venue_does_not_list(start: Start, processes: Processes) -> None:
    """By name, with the nearest that there are; the others run."""
    ingestor = processes.mdstream(
        *("ingest", "--provider", "okx", "--symbols", "BTCUSDT,BTTCUSDT", "--port", free_port()), env=start().urls
    )
    ingestor.wait_for("left out: okx does not list BTTCUSDT: the nearest are BTCUSDT, ")
    ingestor.wait_for("okx connected")
    assert ingestor.stop() == 0


def test_an_ingestor_runs_without_a_list(start: Start, processes: Processes) -> None:
    """One warning; but a pattern means nothing then."""
    port = free_port()
    urls = {**start().urls, "OKX_API_BASE_URL": f"http://127.0.0.1:{port}"}
    args = ("ingest", "--provider", "okx", "--port", free_port(), "--symbols")
    ingestor = processes.mdstream(*args, "BTCUSDT,XYZUSDT", env=urls)
    ingestor.wait_for("okx does not say what it lists: ")
    ingestor.wait_for("okx connected")
    assert ingestor.output().count("its symbols are not checked") == 1
    assert ingestor.stop() == 0
    refused = processes.mdstream(*args, "*USDT", env=urls)
    assert refused.wait() != 0
    assert "okx: *USDT needs the venue's list of instruments: " in refused.output()


async def test_an_ingestor_writes_what_a_contract_is_worth(
    start: Start, processes: Processes, env: dict[str, str], prefix: str
) -> None:
    """On every record of the contract, by the venue's list, and on no other."""
    urls = start("--symbols", "BTCUSDT,ETHUSDT-20261225").urls
    args = ("ingest", "--provider", "okx", "--port", free_port(), "--symbols", "BTCUSDT,ETH-USDT-261225")
    ingestor = processes.mdstream(*args, env={**env, **urls})
    ingestor.wait_for("okx connected")
    found = await _raw(env, prefix, {b"BTCUSDT", b"ETHUSDT-20261225"})
    assert ingestor.stop() == 0
    assert {key: contract_sizes for key, contract_sizes in found.items() if key != b"okx"} == {
        b"BTCUSDT": {None},
        b"ETHUSDT-20261225": {b"0.05"},
    }
    assert found[b"okx"] == {None}


async def test_a_contract_keeps_the_venues_name_while_its_worth_is_not_known(
    start: Start, processes: Processes, env: dict[str, str], prefix: str
) -> None:
    """The ingestor says so; nothing is lost, and no number of contracts is taken for an amount of base."""
    urls = {**start().urls, "OKX_API_BASE_URL": f"http://127.0.0.1:{free_port()}"}
    args = ("ingest", "--provider", "okx", "--port", free_port(), "--symbols", "BTCUSDT-PERP")
    ingestor = processes.mdstream(*args, env={**env, **urls})
    ingestor.wait_for("okx: what a contract is worth is not known without its list: BTC-USDT-SWAP keep these names")
    ingestor.wait_for("okx connected")
    assert (await _raw(env, prefix, {b"BTC-USDT-SWAP"}))[b"BTC-USDT-SWAP"] == {None}
    assert ingestor.stop() == 0


async def _raw(env: dict[str, str], prefix: str, keys: set[bytes]) -> dict[bytes, set[bytes | None]]:
    """What contracts are worth by the raw records, by key, once there are all kinds of each of these keys."""
    async with asyncio.timeout(120):
        while True:
            found: dict[bytes, set[bytes | None]] = defaultdict(set)
            kinds: dict[bytes, set[bytes]] = defaultdict(set)
            for record in await read_topic(env["KAFKA_BOOTSTRAP_SERVERS"], f"{prefix}.raw.crypto"):
                headers = dict(record.headers)
                found[record.key].add(headers.get("v"))
                kinds[record.key].add(headers["k"])
            if all(kinds[key] == {b"trade", b"quote", b"book"} for key in keys):
                return found


def test_patterns_are_expanded_again_when_a_file_changes(start: Start, processes: Processes, tmp_path: Path) -> None:
    """What they stand for is what the venue lists then; without its list nothing is taken away."""
    venues, path, port = start(), tmp_path / "symbols.txt", free_port()
    path.write_text("BTC*-PERP\n")
    args = ("ingest", "--provider", "binance_usdm", "--symbols", f"file:{path}", "--port", port)
    ingestor = processes.mdstream(*args, env=venues.urls)

    def symbols() -> set[str]:
        done = json.loads(_get(f"http://127.0.0.1:{port}/symbols") or '{"binance_usdm":[]}')
        return set(done["binance_usdm"])

    wait_until(lambda: {"BTCUSDT-PERP", "BTCUSDC-PERP"} <= symbols(), what="the pattern", limit_s=60)
    assert all(symbol.startswith("BTC") for symbol in symbols())
    path.write_text("top:3:*USDT-PERP\n")
    wait_until(lambda: len(symbols()) == 3, what="the top", limit_s=60)
    assert all(symbol.endswith("USDT-PERP") for symbol in symbols())
    kept = symbols()
    venues.begin("binance_usdm", "refuse", rest=True)
    path.write_text("ETHUSDT-PERP top:2:*USDT-PERP\n")
    ingestor.wait_for("binance_usdm: the symbols stay as they are")
    assert symbols() == kept
    assert ingestor.stop() == 0


def _get(url: str) -> str:
    try:
        with urllib.request.urlopen(url, timeout=10) as answer:
            return str(answer.read().decode())
    except OSError:
        return ""
