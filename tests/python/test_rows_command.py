"""``zerobus-wal export``, ``quarantine``, ``replay`` and ``reconcile``, as they are typed."""

from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path
from typing import Any

import pytest

from arrow_zerobus_sdk_wrapper.emulator import Emulator
from conftest import TABLE
from test_admin_rows import COPY, batch, service, stored, waiting
from test_command import SCRIPT, command

__all__ = ["service"]


def told(*arguments: str | Path, **environment: str) -> Any:
    """What a verb prints as JSON, which is an object with a version."""
    done = command(*arguments, "--format", "json", **environment)
    assert done.returncode == 0, done.stderr
    told = json.loads(done.stdout)
    assert told["version"] == 1
    return told


def test_rows_go_to_files_and_to_the_standard_output(tmp_path: Path) -> None:
    directory = waiting(tmp_path, batch(0, 5), batch(5, 5))
    output = tmp_path / "rows.parquet"
    report = told("export", directory, "--output", output)
    assert report["files"][0]["path"] == str(output)
    assert (report["rows"], report["rows_by_state"]) == (10, {"waiting": 10})
    again = command("export", directory, "--output", output)
    assert again.returncode == 2
    assert "--force" in again.stderr

    lines = command("export", directory, "--lsn", "2", "--with-position", "--to", "jsonl", "--output", "-")
    rows = [json.loads(line) for line in lines.stdout.splitlines()]
    assert [(row["id"], row["_zerobus_lsn"], row["_zerobus_row"]) for row in rows] == [
        (id, 2, id - 5) for id in range(5, 10)
    ]
    assert "5 rows" in lines.stderr
    for wrong in (("--lsn", "9-5"), ("--state", "lost"), ("--since", "soon"), ("--to", "xml")):
        refused = command("export", directory, *wrong, "--output", tmp_path / "x")
        assert refused.returncode == 2, refused
        assert wrong[1] in refused.stderr


def test_a_reader_that_has_enough_is_no_error(tmp_path: Path) -> None:
    directory = waiting(tmp_path, *(batch(1000 * number, 1000) for number in range(50)))
    arguments = [str(SCRIPT), "export", str(directory), "--to", "jsonl", "--output", "-"]
    with subprocess.Popen(arguments, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        assert process.stdout is not None
        process.stdout.readline()
        process.stdout.close()
        assert process.stderr is not None
        said = process.stderr.read()
    assert (process.returncode, said) == (0, b"")


def test_quarantine_is_listed_shown_sent_again_and_dropped(service: Emulator, tmp_path: Path) -> None:
    directory = stored(service, tmp_path, batch(0, 100, 3, 7))
    listed = told("quarantine", "ls", directory)
    assert listed["reasons"] == {"conversion": {"files": 1, "rows": 2}}
    shown = told("quarantine", "show", directory, "--limit", "1")
    assert (shown["rows"][0]["values"]["id"], shown["has_more"]) == (3, True)
    assert "conversion" in command("quarantine", "ls", directory).stdout
    report = told("quarantine", "export", directory, "--to", "csv", "--output", tmp_path / "bad.csv")
    assert report["rows_by_state"] == {"quarantined": 2}

    access = {"ZEROBUS_CLIENT_ID": "id", "ZEROBUS_CLIENT_SECRET": "s3cret"}
    dry = told("quarantine", "replay", directory, "--dry-run", **access)
    assert [(row["lsn"], row["row"]) for row in dry["refused"]] == [(1, 3), (1, 7)]
    refused = command("quarantine", "replay", directory, **access)
    assert refused.returncode == 13
    assert "2 rows were refused again" in refused.stderr
    again = command("replay", directory, "--format", "json", **access)
    assert again.returncode == 13
    assert "--again" in again.stderr
    report = json.loads(again.stdout)
    assert (report["outcome"], report["quarantined_rows"]) == ("already_done", 2)
    assert told("quarantine", "ls", directory.parent)["rows"] == 2

    assert command("quarantine", "drop", directory).returncode == 2
    assert told("quarantine", "drop", directory, "--all")["executed"] is False
    gone = told("quarantine", "drop", directory, "--reason", "conversion", "--execute")
    assert (gone["executed"], gone["rows"]) == (True, 2)
    assert told("quarantine", "ls", directory)["files"] == []
    status = command("status", directory, "--format", "json")
    assert json.loads(status.stdout)["logs"][0]["rows"]["quarantined"] == 2


def test_a_replay_that_may_double_rows_needs_a_word_more(service: Emulator, tmp_path: Path) -> None:
    directory = stored(service, tmp_path, batch(0, 100))
    access = {"ZEROBUS_CLIENT_ID": "id", "ZEROBUS_CLIENT_SECRET": "s3cret"}
    planned = command("replay", directory, "--state", "delivered", **access)
    assert planned.returncode == 2
    assert "once more" in planned.stdout
    assert "--execute" in planned.stderr
    to = ("--to-table", COPY, "--to-endpoint", service.endpoint, "--rate", "1000")
    done = told("replay", directory, "--state", "delivered", *to, **access)
    assert (done["outcome"], done["delivered_rows"], done["duplicates"]) == ("done", 100, [])

    table = service.table_path(TABLE)
    assert told("reconcile", directory, "--delta", table, "--key", "id")["missing_rows"] == 0
    counts = tmp_path / "counts.csv"
    counts.write_text("count(1)\n98\n")
    missing = command("reconcile", directory, "--counts", counts)
    assert missing.returncode == 13
    assert "2 rows were delivered and not found in" in missing.stderr


@pytest.mark.parametrize("verb", ["export", "quarantine", "replay", "reconcile"])
def test_help_says_what_each_option_takes(verb: str) -> None:
    done = command(verb, "--help", COLUMNS="200")
    assert done.returncode == 0
    assert os.linesep in done.stdout
    assert "Options" in done.stdout
