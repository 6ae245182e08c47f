"""What the demo shows of what is stored."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from pathlib import Path

from processes import free_port

from mdstream.demo.stored import Stored, stored
from mdstream.sinks.sqlite import FILE_NAME


def test_trades_are_counted_in_any_folder_and_roles_that_do_not_answer_are_unknown(tmp_path: Path) -> None:
    folder = tmp_path / "100% #1?"
    folder.mkdir()
    with closing(sqlite3.connect(folder / FILE_NAME)) as connection:
        connection.execute("CREATE TABLE trades (symbol TEXT)")
        connection.execute("INSERT INTO trades VALUES ('BTCUSDT'), ('ETHUSDT')")
        connection.commit()
    ports = {"timescale": free_port(), "nats": free_port()}
    assert stored(folder, ports) == Stored(2, None, None)
