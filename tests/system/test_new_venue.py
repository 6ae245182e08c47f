"""The worked example of docs/providers.md as processes: its folder is added, and everything knows the venue."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from typing import Any

import pytest
from processes import Processes, free_port, run_mdstream, wait_until
from servers import read_topic
from tern import project_with_tern

pytestmark = pytest.mark.system


def events(env: dict[str, str], topic: str) -> list[dict[str, Any]]:
    name = f"{env['MDSTREAM_TOPIC_PREFIX']}.{topic}"
    return [json.loads(r.value) for r in asyncio.run(read_topic(env["KAFKA_BOOTSTRAP_SERVERS"], name))]


def test_a_new_folder_is_a_venue_from_the_simulator_to_the_canonical_topics(
    env: dict[str, str], tmp_path: Path
) -> None:
    """Simulated, ingested and published: trades in a row without a hole, and quotes, under the venue's name."""
    project = project_with_tern(tmp_path / "project")
    env |= {"PYTHONPATH": str(project)}
    with Processes(tmp_path, env) as processes:
        simulator = processes.mdstream("simulate", "--venues", "tern", "--port", 0, "--rate", 200)
        simulator.wait_for("export TERN_WS_URL=")
        exports = [line.removeprefix("export ") for line in simulator.output().splitlines() if "export " in line]
        assert run_mdstream("topics", "--create", env=env).returncode == 0
        processes.worker("core", port=free_port()).wait_for(" is up: ")
        urls = dict(line.split("=", 1) for line in exports)
        processes.mdstream("ingest", "--provider=tern", "--symbols=BTCUSDT", "--port", free_port(), env=urls)
        wait_until(lambda: len(events(env, "trades")) > 50, what="trades of the new venue", every_s=1.0)
        trades = events(env, "trades")
        quotes = events(env, "quotes")
    assert {(event["provider"], event["symbol"]) for event in [*trades, *quotes]} == {("tern", "BTCUSDT")}
    ids = [int(event["trade_id"]) for event in trades]
    assert ids == list(range(ids[0], ids[0] + len(ids)))
    assert quotes
