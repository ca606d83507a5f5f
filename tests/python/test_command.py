"""The command of the wheel."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from deltalake import DeltaTable

from arrow_zerobus_sdk_wrapper import ZerobusWrapper
from arrow_zerobus_sdk_wrapper.emulator import Emulator
from conftest import COLUMNS, DEADLINE_SECS, TABLE, MakeWrapper, make_batch

SCRIPT = Path(sys.executable).with_name("zerobus-wal")


@pytest.mark.parametrize("command", [[str(SCRIPT)], [sys.executable, "-m", "arrow_zerobus_sdk_wrapper"]])
def test_the_command_is_installed_as_script_and_as_module(command: list[str]) -> None:
    done = subprocess.run(
        [*command, "--help"], capture_output=True, text=True, timeout=DEADLINE_SECS, check=True
    )
    for verb in ("status", "drain", "emulator"):
        assert verb in done.stdout


def test_wrong_usage_has_exit_code_2() -> None:
    done = subprocess.run([SCRIPT, "no-such-verb"], capture_output=True, text=True, timeout=DEADLINE_SECS)
    assert done.returncode == 2
    assert "no-such-verb" in done.stderr


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_ends_the_command(tmp_path: Path, number: signal.Signals) -> None:
    command = [str(SCRIPT), "emulator", "--data-dir", str(tmp_path)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout is not None
            assert '"endpoint"' in process.stdout.readline()
            process.send_signal(number)
            process.communicate(timeout=DEADLINE_SECS)
        finally:
            process.kill()
    assert process.returncode in (0, -number)


def command(*arguments: str | Path, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [SCRIPT, *arguments],
        capture_output=True,
        text=True,
        timeout=60,
        env={**os.environ, **environment},
    )


def status(directory: Path) -> dict[str, Any]:
    done = command("status", directory, "--format", "json")
    assert done.returncode == 0, done.stderr
    report = json.loads(done.stdout)
    assert report["version"] == 1
    (log,) = report["logs"]
    assert isinstance(log, dict)
    return log


def test_a_live_log_tells_its_status_with_its_owner(offline: MakeWrapper, tmp_path: Path) -> None:
    wrapper = offline()
    asyncio.run(wrapper.send_batch(make_batch()))
    log = status(tmp_path / "wal")
    assert log["owner_pid"] == os.getpid()
    assert log["rows"] == {"stored": 3, "delivered": 0, "quarantined": 0, "dropped": 0, "waiting": 3}
    table = command("status", tmp_path / "wal").stdout
    assert TABLE in table and str(os.getpid()) in table
    drained = command("drain", tmp_path / "wal")
    assert drained.returncode == 23, "a live owner delivers its log itself"
    assert f"process {os.getpid()}" in drained.stderr


def test_what_a_dead_program_left_is_shown_and_drained(
    emulator: Emulator, online: MakeWrapper, tmp_path: Path
) -> None:
    emulator.kill()
    with online(shutdown_timeout_secs=0) as wrapper:
        asyncio.run(wrapper.send_batch(make_batch()))
    wal_dir = tmp_path / "wal"
    log = status(wal_dir)
    assert (log["owner_pid"], log["lane"], log["rows"]["waiting"]) == (None, None, 3)
    assert "zerobus-wal drain" in command("status", wal_dir).stdout

    away = ("drain", wal_dir, "--timeout", "1")
    refused = command(*away, ZEROBUS_CLIENT_ID="id", ZEROBUS_CLIENT_SECRET="s3cret")
    assert refused.returncode == 16, "the service is down"
    assert "run this again" in refused.stderr and "s3cret" not in refused.stderr
    assert status(wal_dir)["rows"]["waiting"] == 3

    emulator.restart()
    wrong = command("drain", wal_dir, ZEROBUS_CLIENT_ID="id", ZEROBUS_CLIENT_SECRET="not-it")
    assert wrong.returncode == 10, wrong.stderr
    done = command("drain", wal_dir, ZEROBUS_CLIENT_ID="id", ZEROBUS_CLIENT_SECRET="s3cret")
    assert done.returncode == 0, done.stderr
    assert "3 rows delivered" in done.stdout
    assert status(wal_dir)["rows"] == {
        "stored": 3,
        "delivered": 3,
        "quarantined": 0,
        "dropped": 0,
        "waiting": 0,
    }
    assert DeltaTable(str(emulator.table_path(TABLE))).to_pyarrow_table().num_rows == 3
    assert "nothing waits" in command("drain", wal_dir).stdout


def test_a_directory_without_a_log_is_named(tmp_path: Path) -> None:
    done = command("status", tmp_path)
    assert done.returncode == 2
    assert str(tmp_path) in done.stderr
    missing = command("status", tmp_path / "missing")
    assert missing.returncode != 0
    assert str(tmp_path / "missing") in missing.stderr


def test_a_reader_that_goes_away_is_no_error(offline: MakeWrapper, tmp_path: Path) -> None:
    offline()
    shell = f"{SCRIPT} status {tmp_path / 'wal'} --format json | true; exit ${{PIPESTATUS[0]}}"
    done = subprocess.run(["bash", "-c", shell], capture_output=True, text=True, timeout=60)
    assert (done.returncode, done.stderr) == (0, "")


def test_drain_delivers_as_it_is_told(tmp_path: Path) -> None:
    wal_dir = tmp_path / "wal"
    login = {"ZEROBUS_CLIENT_ID": "id", "ZEROBUS_CLIENT_SECRET": "s3cret"}
    with Emulator(
        data_dir=tmp_path / "tables", tables={TABLE: COLUMNS}, persistent_streams=False
    ) as emulator:
        with ZerobusWrapper(
            table_name=TABLE, wal_dir=wal_dir, shutdown_timeout_secs=0, **emulator.settings
        ) as wrapper:
            emulator.kill()
            asyncio.run(wrapper.send_batch(make_batch()))
        emulator.restart()
        refused = command("drain", wal_dir, "--delivery", "exactly_once", "--timeout", "20", **login)
        assert refused.returncode != 0
        assert "persistent" in refused.stderr.lower(), "an older service has no such streams"
        assert status(wal_dir)["rows"]["waiting"] == 3
        done = command("drain", wal_dir, "--delivery", "at_least_once", **login)
        assert done.returncode == 0, done.stderr
        assert DeltaTable(str(emulator.table_path(TABLE))).count() == 3
