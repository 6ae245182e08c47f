"""Symbols that come and go while a feed runs: over HTTP, by editing a file, over several connections."""

from __future__ import annotations

import asyncio
import json
import urllib.error
import urllib.request
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Any

import pytest
from processes import Process, Processes, free_port, until, wait_until
from venues import Venues
from websockets.asyncio.server import ServerConnection, serve
from websockets.exceptions import ConnectionClosed

from mdstream.errors import FeedError, ListingError
from mdstream.events import ListedInstrument
from mdstream.ingest.backlog import Backlog
from mdstream.ingest.feed import Feed
from mdstream.ingest.intake import Intake
from mdstream.ingest.relist import ask_again
from mdstream.venues.okx.feed import Okx

pytestmark = pytest.mark.system


# -- one feed, in this process


class Small(Okx):
    """Two symbols on a connection."""

    max_symbols = 2
    subscribe_interval_s = 0.01


class Venue:
    """Acknowledges what is asked for, and knows what each client is subscribed to."""

    def __init__(self) -> None:
        self.clients: list[set[str]] = []
        self.opened = 0
        self.asked: list[tuple[str, str]] = []

    async def __call__(self, client: ServerConnection) -> None:
        self.opened += 1
        topics: set[str] = set()
        self.clients.append(topics)
        with suppress(ConnectionClosed):
            async for frame in client:
                if frame == "ping":
                    continue
                request = json.loads(frame)
                for arg in request["args"]:
                    if arg["channel"] == "trades":
                        self.asked.append((request["op"], arg["instId"]))
                        (topics.add if request["op"] == "subscribe" else topics.discard)(arg["instId"])
                    await client.send(json.dumps({"event": request["op"], "arg": arg}))
        self.clients.remove(topics)

    async def until(self, *clients: set[str]) -> None:
        """Wait until the clients are subscribed to exactly these."""
        await until(lambda: sorted(map(sorted, self.clients)) == sorted(map(sorted, clients)))


@asynccontextmanager
async def running(*symbols: str, redundant: int = 1) -> AsyncIterator[tuple[Feed, Venue, Backlog]]:
    venue, backlog, provider = Venue(), Backlog(1), Small()
    async with serve(venue, "127.0.0.1", 0, compression=None) as server:
        address = f"ws://127.0.0.1:{server.sockets[0].getsockname()[1]}"
        intake = Intake(provider, backlog, {"crypto": range(1)})
        feed = Feed(provider, symbols, intake, {"OKX_WS_URL": address}, redundant=redundant)
        task = asyncio.create_task(feed.run())
        await until(lambda: feed.state == "connected")
        yield feed, venue, backlog
        await feed.close()
        await asyncio.wait_for(task, 30)


def states(backlog: Backlog) -> list[str]:
    records, _ = backlog.take(0, 1 << 30)
    return [json.loads(value or b"")["state"] for _, value, _, h in records if dict(h)["k"] == b"status"]


async def test_symbols_come_and_go_on_the_connection_that_is_there() -> None:
    """It is not made again, and what was subscribed to before is not asked for again."""
    async with running("BTCUSDT") as (feed, venue, backlog):
        await feed.change(add=["ETHUSDT"])
        await venue.until({"BTC-USDT", "ETH-USDT"})
        await feed.change(add=["SOLUSDT"], remove=["BTCUSDT"])
        await venue.until({"ETH-USDT", "SOL-USDT"})
        assert venue.opened == 1
        assert [symbol for op, symbol in venue.asked if op == "subscribe"] == ["BTC-USDT", "ETH-USDT", "SOL-USDT"]
        assert feed.symbols == ("ETHUSDT", "SOLUSDT")
        assert states(backlog) == ["connected"]


def listed(symbol: str, contract_size: str) -> ListedInstrument:
    return ListedInstrument(
        symbol, "okx", "", "perpetual", symbol[:3], "USDT", None, None, contract_size, symbol[:3], "trading", 1
    )


async def test_contracts_follow_what_their_venue_says_they_are_worth() -> None:
    """One of unknown size gets its canonical name; one that is worth something else is subscribed to again; without a
    list, or any news, nothing happens."""
    async with running("BTCUSDT", "BTC-USDT-SWAP") as (feed, venue, _):
        await ask_again({"okx": feed}, {"okx": ListingError("okx", "HTTP 503")})
        await ask_again({"okx": feed}, {"okx": [listed("ETHUSDT-PERP", "0.1")]})
        assert feed.symbols == ("BTCUSDT", "BTC-USDT-SWAP")
        for contract_size, subscriptions in (("0.01", 2), ("0.01", 2), ("0.02", 3)):
            await ask_again({"okx": feed}, {"okx": [listed("BTCUSDT-PERP", contract_size)]})
            assert feed.symbols == ("BTCUSDT", "BTCUSDT-PERP")
            await until(lambda n=subscriptions: venue.asked.count(("subscribe", "BTC-USDT-SWAP")) == n)  # type: ignore[misc]
        assert feed.intake.contracts.contract_size == {"ETHUSDT-PERP": "0.1", "BTCUSDT-PERP": "0.02"}
        assert [op for op, symbol in venue.asked if symbol == "BTC-USDT"] == ["subscribe"]
        assert venue.opened == 1


@pytest.mark.parametrize("redundant", [1, 2])
async def test_more_symbols_than_a_connection_takes_open_another(redundant: int) -> None:
    """With as many lines as the others; the feed is connected meanwhile. The last symbol's end closes it."""
    async with running("BTCUSDT", "ETHUSDT", redundant=redundant) as (feed, venue, backlog):
        first, second = {"BTC-USDT", "ETH-USDT"}, {"SOL-USDT"}
        await feed.change(add=["SOLUSDT"])
        assert feed.connected
        await venue.until(*[first] * redundant, *[second] * redundant)
        await feed.change(remove=["BTCUSDT"])
        await feed.change(add=["LTCUSDT", "XRPUSDT"])
        await venue.until(*[{"ETH-USDT", "LTC-USDT"}] * redundant, *[{"SOL-USDT", "XRP-USDT"}] * redundant)
        await feed.change(remove=["ETHUSDT", "LTCUSDT"])
        await venue.until(*[{"SOL-USDT", "XRP-USDT"}] * redundant)
        assert venue.opened == 2 * redundant
        assert states(backlog) == ["connected"]


async def test_symbol_that_is_there_is_asked_for_again_only_if_it_is_removed_too() -> None:
    """To add it once more changes nothing; both together bring a new snapshot."""
    async with running("BTCUSDT") as (feed, venue, _):
        await feed.change(add=["BTCUSDT"], remove=["ETHUSDT"])
        await feed.change(add=["BTCUSDT"], remove=["BTCUSDT"])
        await until(lambda: len(venue.asked) == 3)
        assert venue.asked == [("subscribe", "BTC-USDT"), ("unsubscribe", "BTC-USDT"), ("subscribe", "BTC-USDT")]
        assert feed.symbols == ("BTCUSDT",)


async def test_change_before_the_connection_is_made_is_not_lost() -> None:
    """A feed's connections are opened one after the other."""
    async with running("BTCUSDT", "ETHUSDT") as (feed, venue, _):
        await feed.change(add=["SOLUSDT", "LTCUSDT", "XRPUSDT"])
        await feed.change(add=["ADAUSDT"], remove=["SOLUSDT"])
        await venue.until({"BTC-USDT", "ETH-USDT"}, {"LTC-USDT", "ADA-USDT"}, {"XRP-USDT"})


async def test_feed_may_lose_all_its_symbols_and_get_new_ones() -> None:
    """It runs on without a connection, and is not taken for disconnected."""
    async with running("BTCUSDT") as (feed, venue, backlog):
        await feed.change(remove=["BTCUSDT"])
        await venue.until()
        assert feed.connected
        await feed.change(add=["ETHUSDT"])
        await venue.until({"ETH-USDT"})
        assert states(backlog) == ["connected"]


async def test_feed_that_was_given_up_stays_so() -> None:
    """New symbols are no reason to try again, nor to say that it is connected."""
    backlog, provider = Backlog(1), Small()
    intake = Intake(provider, backlog, {"crypto": range(1)})
    address = f"ws://127.0.0.1:{free_port()}"
    feed = Feed(provider, ["BTCUSDT"], intake, {"OKX_WS_URL": address}, max_attempts=1)
    with pytest.raises(FeedError):
        await asyncio.wait_for(feed.run(), 30)
    await feed.change(add=["ETHUSDT", "SOLUSDT"])
    assert (feed.connected, feed.state) == (False, "gave_up")
    assert states(backlog)[-1] == "gave_up"


# -- a whole ingestor, at the simulator


class Ingestor:
    def __init__(self, processes: Processes, venues: Venues, provider: str, symbols: str) -> None:
        self.port = free_port()
        args = ("ingest", "--provider", provider, "--symbols", symbols, "--port", self.port)
        self.process: Process = processes.mdstream(*args, env=venues.urls)

    def ask(self, path: str, body: object = None, *, content_type: str = "application/json") -> tuple[int, Any]:
        data = None if body is None else json.dumps(body).encode()
        address = f"http://127.0.0.1:{self.port}{path}"
        request = urllib.request.Request(address, data=data, headers={"Content-Type": content_type})
        try:
            with urllib.request.urlopen(request, timeout=10) as answer:
                return answer.status, json.load(answer)
        except urllib.error.HTTPError as error:
            return error.code, json.load(error)
        except OSError:
            return 0, {}

    def speaks(self, *symbols: str) -> bool:
        """Whether these have data."""
        silent = self.ask("/health")[1].get("feeds", {}).get("binance", {}).get("silent_s", {})
        return all(silent.get(symbol, {}).get("trade") is not None for symbol in symbols)


async def test_symbols_are_changed_over_http(processes: Processes, env: dict[str, str], tmp_path: Path) -> None:
    """What cannot be done is refused as a whole, with the reason; a web page cannot do it at all."""
    venues = Venues.start(processes, tmp_path / "made.jsonl", "--rate", 500)
    ingestor = Ingestor(processes, venues, "binance", "BTCUSDT")
    wait_until(lambda: ingestor.speaks("BTCUSDT"), what="BTCUSDT", limit_s=60)
    assert ingestor.ask("/symbols", {"add": ["eth-usdt"], "remove": ["BTCUSDT"]}) == (
        200,
        {"provider": "binance", "symbols": ["ETHUSDT"]},
    )
    wait_until(lambda: ingestor.speaks("ETHUSDT"), what="ETHUSDT", limit_s=60)
    assert ingestor.ask("/symbols") == (200, {"binance": ["ETHUSDT"]})
    for body, content_type, error in (
        ({"add": ["E T H"]}, "application/json", "binance has no symbol of the form 'E T H'"),
        ({"add": ["BTCUSTD"]}, "application/json", "binance does not list BTCUSTD: the nearest are BTCUS"),
        ({"add": ["NO*SUCH"]}, "application/json", "binance does not list NO*SUCH: nothing that trades matches"),
        ({"provider": "okx"}, "application/json", "provider 'okx': expected one of binance"),
        ({"ad": ["X"]}, "application/json", 'expected {"provider":NAME,"add":[..],"remove":[..]}: Object contains'),
        ({"add": ["LTCUSDT"]}, "text/plain", "expected the content type application/json"),
    ):
        status, answer = ingestor.ask("/symbols", body, content_type=content_type)
        assert (status, answer.get("error", "")[: len(error)]) == (400, error), answer
    assert ingestor.ask("/health")[1]["feeds"]["binance"]["connections"] == 1
    assert ingestor.process.stop() == 0


async def test_symbols_follow_a_file_and_a_group(processes: Processes, env: dict[str, str], tmp_path: Path) -> None:
    """An edit is taken within seconds; one that makes no sense changes nothing, and is told."""
    venues = Venues.start(processes, tmp_path / "made.jsonl", "--rate", 500)
    path, toml = tmp_path / "symbols.txt", processes.folder / "mdstream.toml"
    path.write_text("BTCUSDT\n")
    toml.write_text('[symbol_groups]\nmajors = ["ETHUSDT"]\n')
    ingestor = Ingestor(processes, venues, "binance", f"@majors,file:{path}")
    wait_until(lambda: ingestor.speaks("BTCUSDT", "ETHUSDT"), what="both", limit_s=60)
    path.write_text("SOLUSDT # in place of it\n")
    wait_until(lambda: ingestor.ask("/symbols")[1] == {"binance": ["ETHUSDT", "SOLUSDT"]}, what="the edit", limit_s=30)
    toml.write_text("[symbol_groups]\nmajors = 7\n")
    ingestor.process.wait_for("the symbols stay as they are: bad settings")
    toml.write_text('[symbol_groups]\nmajors = ["LTCUSDT", "L T C"]\n')
    wait_until(lambda: ingestor.speaks("SOLUSDT", "LTCUSDT"), what="the new group", limit_s=60)
    assert "left out: binance has no symbol of the form 'L T C'" in ingestor.process.output()
    assert ingestor.ask("/symbols")[1] == {"binance": ["SOLUSDT", "LTCUSDT"]}
    assert ingestor.process.stop() == 0
