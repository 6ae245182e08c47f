"""A page of what is kept by symbol: `limit` of them in the order of their names, from the one behind `after` on."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple, TypeVar
from urllib.parse import urlencode

LIMIT, MOST = 1_000, 10_000

V = TypeVar("V")


class Window(NamedTuple):
    """Which symbols are wanted."""

    after: str = ""
    limit: int = LIMIT

    @classmethod
    def of(cls, query: Mapping[str, str]) -> Window:
        """What `?after=SYMBOL&limit=N` asks for. Raises ValueError for a limit that is none."""
        limit, most = query.get("limit", str(LIMIT)), MOST + ("local" in query)
        if not (limit.isascii() and limit.isdigit() and 1 <= int(limit[:9]) <= most):
            raise ValueError(f"limit={limit:.20}: expected a number from 1 to {MOST}")
        return cls(query.get("after", ""), int(limit))

    def of_one_worker(self) -> str:
        """The query for a single worker: one more than is shown tells whether there are more."""
        return urlencode({"local": 1, "after": self.after, "limit": self.limit + 1})

    def cut(self, found: Mapping[str, V]) -> tuple[dict[str, V], str | None]:
        """Those in the window, and the `after` of the next one: None where there are no more.

        Also of what several workers gave for the same window: each gave the first of its own.
        """
        names = sorted(name for name in found if name > self.after)
        page = {name: found[name] for name in names[: self.limit]}
        return page, names[self.limit - 1] if len(names) > self.limit else None
