"""mdstream/web: pages that run their own script alone, and answers that stay small with many instruments."""

from __future__ import annotations

import base64
import hashlib
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mdstream.web.pages import page, policy
from mdstream.web.paging import LIMIT, MOST, Window

names = st.sets(st.text("ABC", min_size=1, max_size=4), max_size=30)


@pytest.mark.parametrize("name", ["latest", "feeds", "senpai"])
def test_page_allows_its_own_script_and_style_alone(name: str) -> None:
    """A symbol that a venue invents must not run as script, whatever the page does with it."""
    found = page(name)
    message = found.headers["Content-Security-Policy"]
    assert message.startswith("default-src 'none'; ")
    assert "unsafe" not in message
    for tag in ("script", "style"):
        (content,) = re.findall(rf"<{tag}>(.*?)</{tag}>", found.text, re.DOTALL)
        digest = base64.b64encode(hashlib.sha256(content.encode()).digest()).decode()
        assert f"{tag}-src 'sha256-{digest}';" in message
    assert not re.search(r"<[^>]*\s(on\w+|style)=", found.text), "the policy forbids these, and nobody would see why"


def test_page_that_loads_scripts_allows_ours_alone() -> None:
    """And those that are in it, none that is injected."""
    message = page("chart").headers["Content-Security-Policy"]
    assert "script-src 'self'; style-src 'sha256-" in message
    assert "'self'" in policy('<script src="a.js"></script><script>1</script>').partition("script-src 'sha256-")[2]


def test_page_without_a_script_allows_none() -> None:
    """Nothing is allowed that is not there."""
    assert "script-src 'none'; style-src 'none'" in policy("<p>hello</p>")


@given(names, st.integers(1, 8))
def test_windows_one_after_the_other_show_everything_once(found: set[str], limit: int) -> None:
    """`next` is the `after` of the following one, and null in the last."""
    shown: list[str] = []
    after: str | None = ""
    while after is not None:
        part, after = Window(after, limit).cut(dict.fromkeys(found))
        assert len(part) <= limit
        shown += part
    assert shown == sorted(found)


@given(st.lists(names, min_size=1, max_size=3), st.integers(1, 8), st.text("ABC", max_size=3))
def test_windows_of_several_workers_are_the_window_of_all(workers: list[set[str]], limit: int, after: str) -> None:
    """Each is asked for one more than is shown, which suffices to know what is next."""
    window = Window(after, limit)
    parts = [Window(after, limit + 1).cut(dict.fromkeys(each))[0] for each in workers]
    merged = {name: None for part in parts for name in part}
    assert window.cut(merged) == window.cut(dict.fromkeys(set.union(*workers)))


@pytest.mark.parametrize("limit", ["0", "-1", "x", "", "1e3", "²", str(MOST + 1), "9" * 400])
def test_a_limit_that_is_none_is_refused(limit: str) -> None:
    """With the range that is allowed."""
    with pytest.raises(ValueError, match=f"expected a number from 1 to {MOST}"):
        Window.of({"limit": limit})


def test_without_a_limit_a_thousand_are_shown() -> None:
    """An answer of some hundred kilobytes; who wants more asks for more."""
    assert Window.of({}) == Window("", LIMIT)
    assert Window.of({"limit": str(MOST), "after": "ÉTÉ"}) == Window("ÉTÉ", MOST)
