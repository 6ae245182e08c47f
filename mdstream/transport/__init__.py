"""The batched Faust transport: agents get lists of records, and committed offsets are always safe."""
