"""How fast mdstream is beside what else does the same work: `python -m benchmarks --help`, docs/benchmarks.md."""
