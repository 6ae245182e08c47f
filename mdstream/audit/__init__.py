"""The loss audit: what each hop holds, per instrument and minute, and what got lost, doubled or changed in between.

    journal ──> raw topic ──> canonical topic ──> database          a Ledger each: count and hash per bucket
                     └── buckets that differ ──┘                    read again: a Details each, trade by trade

    trades.py   a trade in the form common to all hops, and the buckets
    seen.py     which ids and numbers were seen, as intervals
    ledger.py   first pass: counts and sums of hashes, whatever the order
    details.py  second pass, of the buckets that differ
    numbering.py, bars.py  a seq or revision with two contents, a hole, a bar that differs from its trades
    recovered.py  trades that repair brought
    standby.py  which source the canonical stream followed: the trades of the others are no loss
    events.py   quotes and books of two prefixes, by count and hash

The first pass keeps no trade; only buckets that differ are compared trade by trade. The I/O is in hops/.
"""
