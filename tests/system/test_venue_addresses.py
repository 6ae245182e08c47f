"""Where the ingestor and the repair look for a venue: where .env says, and without a word of the secrets there."""

from __future__ import annotations

from pathlib import Path

import pytest
from processes import Processes, free_port, run_mdstream

pytestmark = pytest.mark.system

SECRETS = ("secret-1", "secret-2")


def test_ingestor_dials_the_address_in_the_file(env: dict[str, str], tmp_path: Path) -> None:
    """The simulator's addresses in .env must never end at the real venue."""
    port = free_port()
    (tmp_path / ".env").write_text(f"OKX_WS_URL=ws://user:secret-1@127.0.0.1:{port}/ws?apikey=secret-2\n")
    args = ("--provider", "okx", "--symbols", "BTCUSDT", "--max-attempts", 1, "--port", free_port())
    done = run_mdstream("ingest", *args, env=env, cwd=tmp_path)
    assert done.returncode == 1, done.stderr
    assert f"ws://127.0.0.1:{port}/ws?apikey=*** cannot be reached" in done.stderr
    assert not any(secret in done.stderr + done.stdout for secret in SECRETS)


def test_repair_asks_the_address_in_the_file(processes: Processes, tmp_path: Path) -> None:
    """As the ingestor does; it says at the start whom it will ask."""
    (tmp_path / ".env").write_text("OKX_API_BASE_URL=http://user:secret-1@127.0.0.1:1/okx\n")
    process = processes.mdstream("repair", "--provider", "okx", "--port", free_port())
    process.wait_for("okx: http://127.0.0.1:1/okx")
    process.wait_for("/health shows the state")
    assert process.stop() == 0
    assert not any(secret in process.output() for secret in SECRETS)
