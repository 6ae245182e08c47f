"""Tests for mdstream.api.queries: in which form a page is answered."""

from __future__ import annotations

import pytest

from mdstream.api.queries import ARROW, CSV, JSON, accepted


@pytest.mark.parametrize(
    ("header", "form"),
    [
        ("", JSON),
        ("*/*", JSON),
        ("text/html, */*;q=0.8", JSON),
        ("application/*", JSON),
        ("text/*", CSV),
        ("Text/CSV; header=present", CSV),
        ("text/csv, */*", CSV),
        ("text/csv, application/json", CSV),
        ("application/json;q=0.1, text/csv;q=0.9", CSV),
        ("text/csv;q=0.5, */*;q=0.1", CSV),
        ("text/csv;q=0, application/json", JSON),
        (f"{ARROW};q=0.001, {CSV}; q=0.0", ARROW),
        (f"{JSON};Q=0, {CSV};q=0, */*", ARROW),
        ("application/json;q=0, */*;q=0", None),
        ("*/*;q=0", None),
        ("image/png, ,", None),
    ],
)
def test_a_page_has_the_form_that_the_client_likes_best(header: str, form: str | None) -> None:
    """What it gives the quality 0 it does not take."""
    assert accepted(header) == form
