"""Captured frames as the raw records that an ingestor would write. Pure."""

from __future__ import annotations

from collections.abc import Iterator

from mdstream.records import REPLAY, ProducerRecord, RawEncoder
from mdstream.replay.capture import Frame
from mdstream.venues.providers import PROVIDERS


class RawRecords:
    """Of one provider."""

    def __init__(self, provider: str) -> None:
        self.provider, self._raw = PROVIDERS[provider](), RawEncoder(provider, REPLAY)

    def of(self, frame: Frame, recv_ns: int) -> Iterator[tuple[bytes, ProducerRecord]]:
        """Key and record of each part of a frame, received at `recv_ns`."""
        provider, raw = self.provider, self._raw
        for part in provider.split(frame.frame):
            key, kind = provider.route(part)
            if frame.contract_size:
                key = provider.from_venue(key.decode()).encode()
                yield key, raw.encode_contracts(key, part, kind, recv_ns, frame.contract_size.encode())
            else:
                yield key, raw.encode(key, part, kind, recv_ns)
