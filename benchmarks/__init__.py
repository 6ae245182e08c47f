"""Benchmarks of mdstream against alternatives for the same work: `python -m benchmarks --help`, docs/benchmarks.md."""
