"""The pages of a worker or an ingestor, asked over HTTP."""

from __future__ import annotations

import json
import urllib.error
import urllib.request
from typing import Any


def page(port: int, path: str) -> tuple[int, Any]:
    """Status and JSON of a page; (0, None) while nobody answers."""
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}{path}", timeout=10) as answer:
            return answer.status, json.load(answer)
    except urllib.error.HTTPError as error:
        return error.code, json.load(error)
    except OSError:
        return 0, None
