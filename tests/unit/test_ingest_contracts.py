"""What the contracts of a feed are worth is on each of their raw records, and decides their key."""

from __future__ import annotations

from mdstream.ingest.contracts import Contracts
from mdstream.records import WS, RawEncoder
from mdstream.venues.feed import BOOK, OTHER, QUOTE, TRADE, Route
from mdstream.venues.providers import provider

OKX = provider("okx")
RAW = RawEncoder("okx", WS, 7)


def frame(venue_id: str, channel: str = "trades") -> bytes:
    return b'{"arg":{"channel":"%s","instId":"%s"},"data":[]}' % (channel.encode(), venue_id.encode())


def test_a_contract_of_known_worth_has_its_canonical_key() -> None:
    """Whatever kind of frame; what it is worth comes last of the headers, and the others are as ever."""
    contracts = Contracts(OKX, {"BTCUSDT-PERP": "0.01"})
    for channel, kind in (("trades", TRADE), ("bbo-tbt", QUOTE), ("books", BOOK)):
        found = contracts.route(frame("BTC-USDT-SWAP", channel))
        assert found == Route(b"BTCUSDT-PERP", kind)
        record = contracts.encoder(RAW)(*found[:1], b"x", kind, 9)
        plain = RAW.encode(b"BTCUSDT-PERP", b"x", kind, 9)
        assert record == (*plain[:3], [*plain[3], ("v", b"0.01")])


def test_all_else_is_as_the_provider_has_it() -> None:
    """Pairs, inverse contracts, contracts of unknown size, answers: no header, and the key of the frame itself."""
    contracts = Contracts(OKX, {"BTCUSDT-PERP": "0.01"})
    encode = contracts.encoder(RAW)
    for text in (frame("BTC-USDT"), frame("BTC-USD-SWAP"), frame("ETH-USDT-SWAP"), b"pong", b""):
        found = contracts.route(text)
        assert found == OKX.route(text)
        assert encode(*found[:1], text, found.kind, 9) == RAW.encode(*found[:1], text, found.kind, 9)
    assert contracts.route(b"pong").kind == OTHER


def test_what_is_learned_holds_for_connections_that_are_open() -> None:
    """A contract is added while its feed runs, or the venue changes what one is worth."""
    contracts = Contracts(OKX, {})
    encode = contracts.encoder(RAW)
    contracts.learn({"ETHUSDT-20261225": "0.1"})
    assert contracts.route(frame("ETH-USDT-261225")).key == b"ETHUSDT-20261225"
    contracts.learn({"ETHUSDT-20261225": "0.2"})
    assert encode(b"ETHUSDT-20261225", b"x", TRADE, 9)[3][-1] == ("v", b"0.2")


def test_what_is_known_is_not_replaced_by_what_is_new() -> None:
    """Its book may hold sizes of the former worth."""
    contracts = Contracts(OKX, {"ETHUSDT-20261225": "0.1"})
    contracts.learn_new({"ETHUSDT-20261225": "0.2", "BTCUSDT-PERP": "0.01"})
    assert contracts.contract_size == {"ETHUSDT-20261225": "0.1", "BTCUSDT-PERP": "0.01"}
