"""The average price of an instrument's trades so far, weighted by size: python examples/vwap.py BTCUSDT"""

import sys

from mdstream import client

size = turnover = 0.0
for trade in client.trades(sys.argv[1], start="earliest", follow=False):
    if trade.correction is None:  # a correction is no trade (docs/events.md)
        size += trade.size
        turnover += trade.price * trade.size
print(f"{turnover / size:.2f} over {size:g}" if size else "no trades")
