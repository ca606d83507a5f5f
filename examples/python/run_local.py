"""Runs an example against a local Zerobus and says what has landed in its table.

Run it as::

    python run_local.py quickstart.py [ARGUMENTS …]
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from pathlib import Path

import pyarrow as pa
from deltalake import DeltaTable

from arrow_zerobus_sdk_wrapper.emulator import Emulator

TABLE = "main.default.events"
COLUMNS = "id BIGINT, name STRING, value INT"


def main() -> int:
    """Starts the service, runs the example, reads the table."""
    if len(sys.argv) < 2:
        sys.exit(__doc__)
    program = [sys.executable, str(Path(__file__).with_name(sys.argv[1])), *sys.argv[2:]]
    with tempfile.TemporaryDirectory() as directory, Emulator(tables={TABLE: COLUMNS}) as emulator:
        environment = {
            "ZEROBUS_ENDPOINT": emulator.endpoint,
            "ZEROBUS_TABLE_NAME": TABLE,
            "UNITY_CATALOG_URL": emulator.unity_catalog_url,
            "ZEROBUS_CLIENT_ID": emulator.settings["client_id"],
            "ZEROBUS_CLIENT_SECRET": emulator.settings["client_secret"],
            "ARROW_ZEROBUS_WAL_DIR": str(Path(directory) / "wal"),
        }
        exit_code = subprocess.run(program, env=os.environ | environment, check=False).returncode
        rows: pa.Table = DeltaTable(str(emulator.table_path(TABLE))).to_pyarrow_table()
        ids = rows["id"]
        print(f"{len(rows)} rows landed, {len(ids.unique())} different ids")
    return exit_code


if __name__ == "__main__":
    sys.exit(main())
