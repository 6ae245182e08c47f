"""The core role's machinery: what stands between the agents and the pure stream.

canonical.py restores, processes, checkpoints and releases raw partitions, with its checkpoints in state.py and its
counts in metrics.py; latest.py keeps the newest event of each instrument in Faust tables.
"""
