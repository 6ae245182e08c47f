"""Show the latest price of every instrument, asked over HTTP from any core worker.

python examples/latest_prices.py [http://localhost:6066]
"""

from __future__ import annotations

import json
import sys
from urllib.parse import urlencode
from urllib.request import urlopen


def main() -> None:
    url = sys.argv[1] if len(sys.argv) > 1 else "http://localhost:6066"
    after: str | None = ""
    while after is not None:
        with urlopen(f"{url}/latest/?{urlencode({'after': after, 'limit': 500})}", timeout=10) as answer:
            page = json.load(answer)
        for symbol, latest in page["symbols"].items():
            trade, quote = latest["trade"] or {}, latest["quote"] or {}
            print(f"{symbol:<12} last {trade.get('price')}  bid {quote.get('bid')}  ask {quote.get('ask')}")
        for worker in page["unreachable"]:
            print(f"no answer from {worker}", file=sys.stderr)
        after = page["next"]


if __name__ == "__main__":
    main()
