"""The audit's I/O: each hop that a trade passes, and the chain of hops."""
