"""Everything on one machine, as processes: services, simulated venues, ingestors, core worker, repair and sinks."""
