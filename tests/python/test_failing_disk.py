"""Goal: a disk that fails under a live wrapper costs errors or duplicates, never a row, never the delivery.

Method: a process of its own runs the wheel under the interceptor of the chaos suite, which answers system
calls with errors in the place of the kernel. Then everything is well again, and what was sent is compared
with the table.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from deltalake import DeltaTable

from arrow_zerobus_sdk_wrapper.emulator import Emulator
from conftest import COLUMNS, PYTHON, TABLE, until

sys.path.insert(0, str(Path(__file__).parents[2] / "chaos-tests"))

from chaos.faults.intercept import SYNCS, Action, Intercept, Rule

# Where `CI` is set it is not skipped, and fails for want of one.
pytestmark = pytest.mark.skipif(
    shutil.which("cc") is None and "CI" not in os.environ, reason="no cc; install a C compiler"
)

SENDER = """
import json, sys, time
import pyarrow as pa
from arrow_zerobus_sdk_wrapper import SyncZerobusWrapper

with SyncZerobusWrapper(**json.loads(sys.argv[1]), shutdown_timeout_secs=30) as wrapper:
    print("open", flush=True)
    for first in range(0, 10**9, 10):
        line = sys.stdin.readline()
        if not line:
            break
        ids = pa.array(range(first, first + 10), pa.int64())
        wrapper.send_batch(pa.record_batch({"id": ids, "name": ids.cast(pa.string())}))
        if line.strip() == "flush":
            wrapper.flush(timeout=30)
        print(wrapper.status()["settling_failure"], flush=True)
"""


def test_delivery_outlives_a_ledger_whose_syncs_fail_for_a_while(tmp_path: Path) -> None:
    intercept = Intercept(tmp_path / "intercept", tmp_path / "wal")
    sent = 0
    with Emulator(tmp_path / "service", tables={TABLE: COLUMNS}) as emulator:
        settings = {**emulator.settings, "table_name": TABLE, "wal_dir": str(tmp_path / "wal")}
        command = [*intercept.prefix(), *PYTHON, "-c", SENDER, json.dumps(settings)]
        with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:

            def send(word: str = "send") -> str:
                """Has a batch sent; why settling does not move on."""
                nonlocal sent
                assert process.stdin is not None
                assert process.stdout is not None
                process.stdin.write(word + "\n")
                process.stdin.flush()
                sent += 10
                told = process.stdout.readline().strip()
                assert told, f"the process has ended with {process.wait()}"
                return told

            assert process.stdout is not None
            assert process.stdout.readline() == "open\n"
            assert send("flush") == "None"
            intercept.set_rules(Rule(SYNCS, Action.FAIL, part="/ledger/"))
            until(lambda: "Input/output error" in send(), "the failure of the ledger is told")
            failures = intercept.hits()
            until(lambda: "Input/output error" in send() and intercept.hits() > failures, "another try")
            intercept.heal()
            until(lambda: send("flush") == "None", "settling moves on")
            assert process.stdin is not None
            process.stdin.close()
            assert process.wait(60) == 0
        landed = DeltaTable(emulator.table_path(TABLE)).to_pyarrow_table().column("id").to_pylist()
    assert intercept.trouble == 0
    assert set(landed) == set(range(sent))
