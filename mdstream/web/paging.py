"""Paging by symbol: `limit` symbols in the order of their names, from the first one after `after`."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple, TypeVar
from urllib.parse import urlencode

LIMIT, MOST = 1_000, 10_000

V = TypeVar("V")


class Window(NamedTuple):
    """Which symbols are requested."""

    after: str = ""
    limit: int = LIMIT

    @classmethod
    def of(cls, query: Mapping[str, str]) -> Window:
        """The window of `?after=SYMBOL&limit=N`. Raises ValueError for an invalid limit."""
        limit, most = query.get("limit", str(LIMIT)), MOST + ("local" in query)
        if not (limit.isascii() and limit.isdigit() and 1 <= int(limit[:9]) <= most):
            raise ValueError(f"limit={limit:.20}: expected a number from 1 to {MOST}")
        return cls(query.get("after", ""), int(limit))

    def of_one_worker(self) -> str:
        """The query to a single worker: one symbol more than is shown, to know whether there are more."""
        return urlencode({"local": 1, "after": self.after, "limit": self.limit + 1})

    def cut(self, found: Mapping[str, V]) -> tuple[dict[str, V], str | None]:
        """The entries in the window, and the `after` of the next one: None if there are no more.

        Also cuts the merged answers of several workers for the same window, as each returned its own first entries.
        """
        names = sorted(name for name in found if name > self.after)
        page = {name: found[name] for name in names[: self.limit]}
        return page, names[self.limit - 1] if len(names) > self.limit else None
