"""Where the audit reads: each hop that a trade passes, and the chain of them."""
