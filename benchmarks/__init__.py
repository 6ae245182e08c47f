"""Benchmarks of mdstream against alternatives for the same work: `python -m benchmarks --help`, docs/benchmarks.md."""

import sys
from pathlib import Path

sys.path.append(str(Path(__file__).resolve().parents[1] / "tests"))  # for processes.py and servers.py, shared with them
