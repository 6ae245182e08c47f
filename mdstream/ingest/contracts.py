"""What the contracts of a feed are worth, for venues whose sizes count them: it is put on each of their raw records.

    frame ─ route ─> BTC-USDT-SWAP, trade ─ renamed ─> BTCUSDT-PERP, trade ─ encode ─> record with the header v

A contract whose size is not known keeps the venue's name, and its record has no such header.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

from mdstream.records import ProducerRecord, RawEncoder
from mdstream.venues.feed import BOOK, QUOTE, TRADE, Provider, Route

Encode = Callable[[bytes, bytes, bytes, int], ProducerRecord]


class Contracts:
    """By canonical symbol: what one contract of `provider` is worth."""

    def __init__(self, provider: Provider, contract_size: Mapping[str, str]) -> None:
        self._provider = provider
        self._renamed: dict[Route, Route] = {}
        self._contract_size: dict[bytes, bytes] = {}
        self.contract_size: dict[str, str] = {}
        self.learn(contract_size)

    def learn(self, contract_size: Mapping[str, str]) -> None:
        """Add contracts, or change what they are worth from now on."""
        self.contract_size.update(contract_size)
        for symbol, each in contract_size.items():
            venue_id, key = self._provider.to_venue(symbol).encode(), symbol.encode()
            self._renamed.update({Route(venue_id, kind): Route(key, kind) for kind in (TRADE, QUOTE, BOOK)})
            self._contract_size[key] = each.encode()

    def learn_new(self, contract_size: Mapping[str, str]) -> None:
        """Add contracts; one that is known stays as it is, since its book may hold sizes of it (relist.py)."""
        self.learn({symbol: each for symbol, each in contract_size.items() if symbol not in self.contract_size})

    def route(self, frame: bytes) -> Route:
        """As the provider's, with the canonical symbol of a contract whose size is known."""
        found = self._provider.route(frame)
        return self._renamed.get(found, found)

    def encoder(self, raw: RawEncoder) -> Encode:
        """As `raw.encode`, for frames that were routed here."""
        contract_size_of, plain, encode = self._contract_size.get, raw.encode, raw.encode_contracts

        def encode_by_contract_size(key: bytes, frame: bytes, kind: bytes, received_ns: int) -> ProducerRecord:
            contract_size = contract_size_of(key)
            return (
                plain(key, frame, kind, received_ns)
                if contract_size is None
                else encode(key, frame, kind, received_ns, contract_size)
            )

        return encode_by_contract_size
