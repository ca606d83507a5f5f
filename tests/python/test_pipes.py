"""Whatever lies under a name of ours, nothing waits for the other end of a pipe."""

from __future__ import annotations

import asyncio
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pyarrow as pa
import pytest

from arrow_zerobus_sdk_wrapper import TransmissionError
from arrow_zerobus_sdk_wrapper.emulator import Emulator
from conftest import DEADLINE_SECS, MakeWrapper

pytestmark = pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="there are no named pipes")

SCRIPT = Path(sys.executable).with_name("zerobus-wal")
READING = ("status", "ls", "inspect", "verify")
# Names that no file has now, and that somebody looks for.
OTHERS = (
    "LOG.new",
    "segment-0000000000000000.wal",
    "segment-0000000000156238.wal",
    "spare-0000000000000099",
    "quarantine/00000000000000000099-0000000000.arrow",
    "quarantine/00000000000000000099-0000000000.arrow.new",
    "ledger/snap.00000000000000AA",
)


def ends(arguments: list[str], beside: str) -> int:
    """The exit code of a command, which has to end beside this pipe, and without a panic."""
    try:
        done = subprocess.run(
            [SCRIPT, *arguments], capture_output=True, text=True, timeout=DEADLINE_SECS, check=False
        )
    except subprocess.TimeoutExpired:
        pytest.fail(f"{arguments} does not end beside the pipe {beside}")
    assert done.returncode not in (1, 101) and "panicked" not in done.stderr, (beside, done.stderr)
    return done.returncode


def test_a_pipe_in_the_place_of_any_file_of_a_log_holds_nothing_up(
    emulator: Emulator, online: MakeWrapper, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What reads, and what takes the log over to drain it."""
    with online(validate="off", shutdown_timeout_secs=0) as wrapper:
        bad = pa.record_batch({"id": [1, 2], "name": pa.array([None, "x" * 11_000_000], pa.string())})
        asyncio.run(wrapper.send_batch(bad))
        with pytest.raises(TransmissionError):
            asyncio.run(wrapper.flush())
        emulator.kill()
        asyncio.run(wrapper.send_batch(pa.record_batch({"id": [3]})))
        log = Path(wrapper.status()["directory"])
    emulator.restart()
    monkeypatch.setenv("ZEROBUS_CLIENT_ID", "id")
    monkeypatch.setenv("ZEROBUS_CLIENT_SECRET", "s3cret")
    files = [str(path.relative_to(log)) for path in log.rglob("*") if path.is_file()]
    assert any(name.startswith("quarantine/") for name in files) and len(files) > 8, files
    for number, name in enumerate([*files, *OTHERS]):
        copy = tmp_path / "copies" / str(number) / log.parent.name / log.name
        shutil.copytree(log, copy, ignore=shutil.ignore_patterns("*.sock"))
        (copy / name).unlink(missing_ok=True)
        os.mkfifo(copy / name)
        for verb in READING:
            ends([verb, "--format", "json", str(copy)], name)
        ends(["drain", "--timeout", "20", str(copy)], name)
