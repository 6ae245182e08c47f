"""Everything on one machine: broker, simulated venues, ingestors, a core worker and the files role, as processes."""
