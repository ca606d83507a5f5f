"""What do the pages deploy, and against what does it run?

A program that stores rows until it is told to end, with the settings that the environment has, and a local
Zerobus on the loopback of wherever it runs.
"""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from deltalake import DeltaTable

from conftest import TABLE
from docs_setups import CLIENT

if TYPE_CHECKING:
    from types import TracebackType
    from typing import Self

# The same in each namespace: nobody else is there.
GRPC_PORT, HTTP_PORT = 41231, 39817
# What the environment files of the pages hold for it; a program ends soon while it is away.
ENVIRONMENT = {
    "ARROW_ZEROBUS_ENDPOINT": f"http://127.0.0.1:{GRPC_PORT}",
    "ARROW_ZEROBUS_UNITY_CATALOG_URL": f"http://127.0.0.1:{HTTP_PORT}",
    "ARROW_ZEROBUS_TABLE_NAME": TABLE,
    "ARROW_ZEROBUS_CLIENT_ID": CLIENT["client_id"],
    "ARROW_ZEROBUS_SHUTDOWN_TIMEOUT_SECS": "1",
}
# The program that the pages deploy: rows with the host and the time of its start, and numbers from 0; a clean
# end, and last words.
PROGRAM = """\
import signal, socket, threading, time
import pyarrow as pa
from arrow_zerobus_sdk_wrapper import SyncZerobusWrapper

stop = threading.Event()
signal.signal(signal.SIGTERM, lambda *_: stop.set())
life, number = f"{socket.gethostname()} {time.time_ns()}", 0
with SyncZerobusWrapper.from_env() as wrapper:
    while not stop.wait(0.02):
        wrapper.send_batch(pa.record_batch({"id": [number], "name": [life]}))
        number += 1
print("ended", life, number, flush=True)
"""


class Zerobus:
    """A local Zerobus on the loopback of a process with a network of its own; use it as a context manager.

    Args:
        pid: The process.
        data_dir: Where its tables are.
    """

    def __init__(self, pid: int, data_dir: Path) -> None:
        self._pid = pid
        self._data_dir = data_dir
        self._process: subprocess.Popen[str] | None = None

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self, _type: type[BaseException] | None, _error: BaseException | None, _trace: TracebackType | None
    ) -> None:
        self.kill()

    def start(self) -> None:
        """Starts it, and waits until it takes connections."""
        self._process = subprocess.Popen(
            [
                *("nsenter", f"--net=/proc/{self._pid}/ns/net"),
                *(Path(sys.executable).with_name("zerobus-wal"), "emulator", "--exit-with-parent"),
                *("--data-dir", self._data_dir, "--table", f"{TABLE}=id BIGINT, name STRING"),
                *("--port", str(GRPC_PORT), "--http-port", str(HTTP_PORT)),
                *("--client-id", CLIENT["client_id"]),
            ],
            env=os.environ | {"ZEROBUS_EMULATOR_CLIENT_SECRET": CLIENT["client_secret"]},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        assert self._process.stdout is not None
        assert self._process.stdout.readline().startswith("{")

    def lives(self) -> list[list[int]]:
        """The numbers of the rows that are in the table, of each life of the program in order."""
        path = self._data_dir.joinpath(*TABLE.split("."))
        if not path.is_dir():
            return []
        rows = DeltaTable(str(path)).to_pyarrow_table()
        found: dict[str, set[int]] = {}
        for life, number in zip(rows["name"].to_pylist(), rows["id"].to_pylist(), strict=True):
            found.setdefault(life, set()).add(number)
        return [sorted(found[life]) for life in sorted(found, key=lambda life: int(life.split()[1]))]

    def kill(self) -> None:
        """Kills it with SIGKILL, if it runs."""
        if self._process is not None:
            self._process.kill()
            self._process.communicate()
