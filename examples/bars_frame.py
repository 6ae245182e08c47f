"""Read bars into a pandas frame: the last revision of each, by symbol and time.

python examples/bars_frame.py --interval 1m [--brokers localhost:9092]
"""

from __future__ import annotations

import argparse
import json

import pandas as pd
from confluent_kafka import Consumer, KafkaError, KafkaException


def read_bars(brokers: str, topic: str, interval: str) -> pd.DataFrame:
    """Every bar of the topic up to its end. A late trade makes a new revision of its bar: the highest one counts."""
    consumer = Consumer(
        {
            "bootstrap.servers": brokers,
            "group.id": "bars-frame",
            "auto.offset.reset": "earliest",
            "enable.auto.commit": False,
            "enable.partition.eof": True,
        }
    )
    consumer.subscribe([topic])
    bars: dict[tuple[str, int], dict[str, object]] = {}
    ended: set[int] = set()
    try:
        while not ended or len(ended) < len(consumer.assignment()):
            message = consumer.poll(1.0)
            if message is None:
                continue
            if message.error():
                if message.error().code() != KafkaError._PARTITION_EOF:
                    raise KafkaException(message.error())
                ended.add(message.partition())
                continue
            bar = json.loads(message.value())
            key = bar["symbol"], bar["ts_open"]
            if bar["interval"] == interval and bar["revision"] >= bars.get(key, bar)["revision"]:
                bars[key] = bar
    finally:
        consumer.close()
    frame = pd.DataFrame(
        bars.values(), columns=["symbol", "ts_open", "open", "high", "low", "close", "volume", "trades"]
    )
    frame["ts_open"] = pd.to_datetime(frame["ts_open"], unit="ns", utc=True)
    return frame.set_index(["symbol", "ts_open"]).sort_index()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--brokers", default="localhost:9092")
    parser.add_argument("--topic", default="md.bars")
    parser.add_argument("--interval", default="1m")
    args = parser.parse_args()
    frame = read_bars(args.brokers, args.topic, args.interval)
    print(frame.to_string(max_rows=40))
    print(f"{len(frame)} bars of {frame.index.get_level_values('symbol').nunique()} symbols")


if __name__ == "__main__":
    main()
