"""The command of the wheel."""

from __future__ import annotations

import signal
import subprocess
import sys
from pathlib import Path

import pytest

from conftest import DEADLINE_SECS

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
