"""The batched Faust transport: agents take lists of records, and offsets are kept right."""
