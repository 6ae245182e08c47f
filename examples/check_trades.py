"""Read trades with confluent-kafka and check their numbers: each once, repeats skipped, losses reported.

    python examples/check_trades.py                           all trades so far, then new ones, until Ctrl-C
    python examples/check_trades.py --brokers kafka:9092 --until-end

`seq` rises by one per symbol. A number seen before is a repeat of the same trade (a worker was restarted), and a number
left out is a loss (the topic's retention passed this reader).
"""

from __future__ import annotations

import argparse
import json

from confluent_kafka import Consumer, KafkaError, KafkaException


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--brokers", default="localhost:9092")
    parser.add_argument("--topic", default="md.trades")
    parser.add_argument("--until-end", action="store_true", help="stop at the end of the topic")
    args = parser.parse_args()

    consumer = Consumer(
        {
            "bootstrap.servers": args.brokers,
            "group.id": "check-trades",
            "auto.offset.reset": "earliest",
            "enable.auto.commit": False,
            "enable.partition.eof": True,
        }
    )
    consumer.subscribe([args.topic])
    last: dict[str, int] = {}
    trades = repeats = lost = 0
    ended: set[int] = set()
    try:
        while not args.until_end or not ended or len(ended) < len(consumer.assignment()):
            message = consumer.poll(1.0)
            if message is None:
                continue
            if message.error():
                if message.error().code() != KafkaError._PARTITION_EOF:
                    raise KafkaException(message.error())
                ended.add(message.partition())
                continue
            trade = json.loads(message.value())
            symbol, seq = trade["symbol"], trade["seq"]
            expected = last.get(symbol, seq - 1) + 1
            if seq < expected:
                repeats += 1
                continue
            if seq > expected:
                lost += seq - expected
                print(f"{symbol}: {seq - expected} trades lost before seq {seq}")
            last[symbol] = seq
            trades += 1
            if not args.until_end:
                print(f"{symbol} {trade['price']} x {trade['size']} {trade['side']} ({trade['provider']})")
    except KeyboardInterrupt:
        pass
    finally:
        consumer.close()
    print(f"{trades} trades of {len(last)} symbols, {repeats} repeats skipped, {lost} lost")


if __name__ == "__main__":
    main()
