"""topics.py: the map that everybody reads, and the promises made to consumers."""

from __future__ import annotations

import pytest

from mdstream.config import load
from mdstream.errors import SettingsError
from mdstream.tools.topics import kept
from topics import DAY_MS, HOUR_MS, MAX_BATCH_BYTES, MAX_FRAME_BYTES, Topics

TOPICS = Topics(load(topic_prefix="md", partitions=8, markets="crypto,equities"))


def test_names_are_those_that_were_promised() -> None:
    """Consumers in other languages have these names in their configuration."""
    assert {topic.name for topic in TOPICS} == {
        "md.raw.crypto",
        "md.raw.equities",
        "md.trades",
        "md.quotes",
        "md.books",
        "md.bars",
        "md.status",
        "md.gaps",
        "md.instruments",
        "md.state",
        "md.dead",
    }


def test_names_begin_with_the_prefix_of_the_settings() -> None:
    """Several deployments may share a broker."""
    topics = Topics(load(topic_prefix="lab", markets="fx"))
    assert all(topic.name.startswith("lab.") for topic in topics)
    assert list(topics.raw) == ["fx"]


def test_all_topics_share_one_partition_count() -> None:
    """Partition p of a raw topic maps to partition p of every canonical topic."""
    assert {topic.partitions for topic in Topics(load(partitions=5))} == {5}


def test_state_and_instruments_are_compacted() -> None:
    """Every other topic is a log that is kept for a time."""
    assert [topic.name for topic in TOPICS if topic.compacted] == ["md.instruments", "md.state"]
    assert TOPICS.state.config["cleanup.policy"] == "compact"


def test_logs_are_kept_by_the_time_of_writing() -> None:
    """A replayed capture is old by its own time stamps: kept by those, the broker would delete it within minutes."""
    for topic in TOPICS:
        if not topic.compacted:
            assert topic.config["cleanup.policy"] == "delete"
            assert topic.config["message.timestamp.type"] == "LogAppendTime"
            assert topic.config["retention.ms"] == str(topic.retention_ms)


def test_topics_that_carry_frames_take_the_largest_one() -> None:
    """A raw frame, its dead letter and a checkpoint may be larger than Kafka's default of 1 MiB."""
    for topic in (*TOPICS.raw.values(), TOPICS.dead, TOPICS.state):
        assert int(topic.config["max.message.bytes"]) == MAX_BATCH_BYTES > MAX_FRAME_BYTES


def test_raw_topic_of_an_unknown_market_is_refused() -> None:
    """It names the setting, and what it holds."""
    with pytest.raises(SettingsError, match="no market weather in MDSTREAM_MARKETS=crypto,equities: add it there"):
        TOPICS.raw_of("weather")


@pytest.mark.parametrize(
    ("retention_ms", "text"),
    [(None, "compacted"), (DAY_MS, "1 day"), (3 * DAY_MS, "3 days"), (HOUR_MS, "1 hour"), (90 * 60_000, "1.5 hours")],
)
def test_retention_is_shown_in_days_or_hours(retention_ms: int | None, text: str) -> None:
    """What `mdstream topics` prints."""
    assert kept(retention_ms) == text
