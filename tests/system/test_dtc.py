"""DTC over a real socket: a feed's connection against the simulated server, in both encodings."""

from __future__ import annotations

import asyncio
import json
from functools import partial
from pathlib import Path

import pytest
from feed_reader import Reader, check_that_symbols_come_and_go, read_feed, simulated
from processes import free_port, until

from mdstream.errors import FeedError
from mdstream.simulator.actions import Close, Send
from mdstream.simulator.requests import send_json
from mdstream.venues.dtc import messages
from mdstream.venues.dtc.feed import Dtc
from mdstream.venues.dtc.simulated import DtcSession

pytestmark = pytest.mark.system

server = partial(simulated, "dtc")
reading = partial(read_feed, Dtc)
ENCODINGS = ["", "?encoding=json", "?encoding=binary"]


@pytest.mark.parametrize("encoding", ENCODINGS)
async def test_trades_and_quotes_are_those_of_the_market(encoding: str, tmp_path: Path) -> None:
    """Every trade from the first on, in order, with the aggressor and the microsecond; each has an id of its own."""
    symbols, journal = ("AAPL", "BRK.B", "ESH26.CME", "BTCUSDT_PERP_BINANCE.DTC"), tmp_path / "made.jsonl"
    async with server(journal) as market, reading(market.addresses["dtc"] + encoding, *symbols) as reader:
        await until(lambda: all(len(reader.trades(s)) > 50 and len(reader.quotes(s)) > 50 for s in symbols))
        market._production.paused = True
        await asyncio.sleep(0.5)
        session = reader.connection.session
        assert (session.missing, session.rejected, reader.counters.not_understood) == (set(), set(), 0)
        assert session.settled
    rows = [json.loads(line) for line in journal.read_text().splitlines()]
    for symbol in symbols:
        made = [(r["price"], r["size"], r["side"], r["ts_exchange"]) for r in rows if r["symbol"] == symbol]
        assert [(t.price, t.size, t.side, t.ts_exchange) for t in reader.trades(symbol)] == made
    ids = [trade.trade_id for symbol in symbols for trade in reader.trades(symbol)]
    assert len(ids) == len(set(ids))
    kinds = {messages.is_json(record) for record in reader.raw}
    assert kinds == {encoding != "?encoding=binary"}


async def test_a_server_that_speaks_binary_alone_is_read(monkeypatch: pytest.MonkeyPatch) -> None:
    """The answer decides, not what was asked for."""
    answer = DtcSession.answer

    def in_binary(session: DtcSession, text: str, now_ns: int) -> object:
        return answer(session, text.replace("\x08\0\0\0\x02\0\0\0DTC", "\x08\0\0\0\0\0\0\0DTC"), now_ns)

    monkeypatch.setattr(DtcSession, "answer", in_binary)
    async with server() as market, reading(market.addresses["dtc"] + "?encoding=json", "AAPL") as reader:
        await until(lambda: reader.trades("AAPL"))
        assert not any(messages.is_json(record) for record in reader.raw)


@pytest.mark.parametrize("encoding", ENCODINGS[1:])
async def test_what_is_refused_is_named_and_stops_nothing_else(encoding: str, caplog: pytest.LogCaptureFixture) -> None:
    """By symbol; what the server says of itself is told, too."""
    async with (
        server(symbols=("AAPL",)) as market,
        reading(market.addresses["dtc"] + encoding, "FOO", "AAPL") as reader,
    ):
        await until(lambda: reader.connection.session.rejected == {"FOO"})
        await until(lambda: reader.trades("AAPL") and reader.quotes("AAPL"))
        (client,) = market._clients
        client._do([send_json({"Type": 3, "NumDroppedMessages": 7}), send_json({"Type": 100, "Status": 1})])
        await until(lambda: "feed is lost, no data until it is back" in caplog.text)
        assert "Unknown symbol (rejected: FOO)" in caplog.text
        assert "the server has dropped 7 messages" in caplog.text
        assert (reader.connection.session.missing, reader.counters.disconnections) == (set(), 0)


@pytest.mark.parametrize("encoding", ENCODINGS[1:])
async def test_a_wrong_user_is_told_and_the_password_is_not(encoding: str, caplog: pytest.LogCaptureFixture) -> None:
    """The feed is given up: the log names the settings."""
    settings = {"DTC_USERNAME": "wrong", "DTC_PASSWORD": "s3cret"}
    async with server() as market:
        reader = Reader(Dtc(), market.addresses["dtc"] + encoding, ["AAPL"], None, 0.0)
        reader.connection._settings = settings
        reader.connection._dialogue = reader.connection._new_dialogue()
        with pytest.raises(FeedError, match=r"Username or Password is incorrect \(DTC_USERNAME, DTC_PASSWORD\)"):
            await reader.connection.run()
    assert "s3cret" not in caplog.text


async def test_symbols_come_and_go() -> None:
    """A request that ends sends no more, the other goes on."""
    async with server() as market, reading(market.addresses["dtc"], "AAPL", "MSFT") as reader:
        await check_that_symbols_come_and_go(reader)


async def test_a_feed_that_is_back_is_asked_again(monkeypatch: pytest.MonkeyPatch) -> None:
    """If the logon's answer says that it has to be; on the same connection."""
    logon = DtcSession._logon

    def resubscribing(session: DtcSession, request: dict[str, object]) -> object:
        (answer,) = logon(session, request)
        assert isinstance(answer, Send)
        return [send_json({**json.loads(answer.text), "ResubscribeWhenMarketDataFeedAvailable": 1})]

    monkeypatch.setattr(DtcSession, "_logon", resubscribing)
    async with server() as market, reading(market.addresses["dtc"], "AAPL") as reader:
        await until(lambda: reader.trades("AAPL"))
        (client,) = market._clients
        client._do(client._session.unsubscribe(list(client._session.topics)))  # type: ignore[union-attr]
        client._session._numbers.clear()  # type: ignore[union-attr]
        client._do([send_json({"Type": 100, "Status": 1}), send_json({"Type": 100, "Status": 2})])
        count = len(reader.trades("AAPL"))
        await until(lambda: len(reader.trades("AAPL")) > count + 10)
        assert reader.counters.disconnections == 0


async def test_a_second_connection_for_a_symbol_is_refused(caplog: pytest.LogCaptureFixture) -> None:
    """Or each trade would be published twice. When the first one ends the second takes over."""
    async with server() as market, reading(market.addresses["dtc"], "AAPL") as second:
        second.connection._url = market.addresses["dtc"] + "?encoding=json"
        async with reading(market.addresses["dtc"], "AAPL") as first:
            await until(lambda: first.trades("AAPL") or second.trades("AAPL"))
            await until(lambda: "another connection here has asked for AAPL" in caplog.text)
            assert not (first.trades("AAPL") and second.trades("AAPL"))
        await until(lambda: second.trades("AAPL"))


async def test_a_server_that_is_not_there_yet_is_awaited_and_one_that_logs_us_off_is_met_again(
    caplog: pytest.LogCaptureFixture,
) -> None:
    """The reason is told; everything is asked for again."""
    async with reading(f"dtc://127.0.0.1:{free_port()}", "AAPL") as reader:
        await until(lambda: reader.counters.failed_attempts)
        async with server() as market:
            reader.connection._url = market.addresses["dtc"]
            await until(lambda: reader.trades("AAPL"))
            (client,) = market._clients
            client._do([Send('{"Type":5,"Reason":"Server restart"}'), Close(0, "")])
            before = len(reader.trades("AAPL"))
            await until(lambda: reader.ups == 2 and len(reader.trades("AAPL")) > before + 10)
            assert "it logs us off, to come back: Server restart" in caplog.text
            assert reader.counters.replacements == 0
