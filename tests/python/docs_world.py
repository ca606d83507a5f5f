"""Where the blocks of the pages are run: a directory, an environment, and a local Zerobus.

Set-ups, by the name that the mark of a block gives:

``empty``
    An empty directory. The default of ``python`` blocks.
``log``
    A local Zerobus that runs, its address and credentials in the environment, and in ``wal`` a log with three
    rows that a program left there. The default of ``console`` and ``bash`` blocks.
``half``
    As ``log``, but in the log of the dead program are four frames of 250 rows, of which two are delivered.
``owner``
    As ``log``, but the owner of the log lives, and its service is away.
``quarantine``
    As ``log``, with a row in the quarantine of that log besides.
``settings``
    For ``python``: a local Zerobus, and the names ``settings`` (a dict of arguments), ``TABLE``, ``batch``,
    ``pa``, and what the package exports.
``wrapper``
    As ``settings``, with an open ``wrapper``, and in its quarantine a row that could not be delivered.
``emulator``
    As ``settings``, with ``emulator``, which belongs to the block.
"""

from __future__ import annotations

import ast
import asyncio
import contextlib
import os
import re
import subprocess
import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pyarrow as pa

from arrow_zerobus_sdk_wrapper import SyncZerobusWrapper, TransmissionError
from arrow_zerobus_sdk_wrapper.emulator import Emulator
from conftest import COLUMNS, TABLE, make_batch, offline_settings, until

SETUPS = {"empty", "log", "half", "owner", "quarantine", "settings", "wrapper", "emulator"}
# The ports of the local Zerobus on the pages, and the directory in which programs of the pages run.
GRPC_PORT, HTTP_PORT, HOME = "41231", "39817", "/data"
TIMEOUT_SECS = 60
_PREAMBLE = """\
import pyarrow as pa
from arrow_zerobus_sdk_wrapper import *
from arrow_zerobus_sdk_wrapper.emulator import Emulator
TABLE = {table!r}
settings = {settings!r}
batch = pa.record_batch({{"id": [1, 2, 3], "name": ["a", "b", None]}})
"""
_WRAPPER = """\
import time
wrapper = SyncZerobusWrapper(**settings)
deadline = time.monotonic() + 60
while wrapper.status()["table_schema"]["columns"] is None and time.monotonic() < deadline:
    time.sleep(0.01)
wrapper.send_batch(pa.record_batch({"id": pa.array([7, None], pa.int64()), "name": ["a", "b"]}))
try:
    wrapper.flush()
except TransmissionError:
    pass
wrapper.shutdown()
wrapper = ZerobusWrapper(**settings)
"""
_EMULATOR = """\
emulator = Emulator(tables={TABLE: "id BIGINT, name STRING"})
emulator.start()
"""


def sensors(first: int) -> pa.RecordBatch:
    """A batch of 250 rows of the test table."""
    ids = range(first, first + 250)
    return pa.record_batch({"id": pa.array(ids, pa.int64()), "name": [f"sensor {i % 7}" for i in ids]})


@dataclass
class World:
    """A set-up, made in a directory."""

    directory: Path
    setup: str
    environment: dict[str, str] = field(default_factory=dict)
    replaced: dict[str, str] = field(default_factory=dict)
    settings: dict[str, Any] = field(default_factory=dict)
    stack: contextlib.ExitStack = field(default_factory=contextlib.ExitStack)

    def __post_init__(self) -> None:
        assert self.setup in SETUPS, f"there is no set-up {self.setup!r}, only {sorted(SETUPS)}"
        scripts = str(Path(sys.executable).parent)
        home = str(self.directory)
        self.environment = {
            "HOME": home,
            "LANG": "C.UTF-8",
            "NO_COLOR": "1",
            "PATH": f"{scripts}{os.pathsep}{os.environ['PATH']}",
        }
        self.replaced = {home: HOME}
        if self.setup not in ("empty", "emulator"):
            self._serve()
        if self.setup in ("log", "half", "quarantine"):
            self._leave_a_log()
        if self.setup == "owner":
            owner = SyncZerobusWrapper(**offline_settings(self.directory))
            self.stack.enter_context(owner)
            owner.send_batch(make_batch())

    def _serve(self) -> None:
        is_narrow = self.setup in ("quarantine", "wrapper")
        columns = COLUMNS.replace("BIGINT", "BIGINT NOT NULL") if is_narrow else COLUMNS
        tables = self.directory / "tables"
        emulator = Emulator(data_dir=tables, tables={TABLE: columns}, client_id="id", client_secret="s3cret")
        self.emulator = self.stack.enter_context(emulator)
        self.settings = {"table_name": TABLE, "wal_dir": str(self.directory / "wal"), **emulator.settings}
        self.environment |= {
            "ZEROBUS_ENDPOINT": emulator.endpoint,
            "ZEROBUS_TABLE_NAME": TABLE,
            "UNITY_CATALOG_URL": emulator.unity_catalog_url,
            "ZEROBUS_CLIENT_ID": "id",
            "ZEROBUS_CLIENT_SECRET": "s3cret",
        }

    def _leave_a_log(self) -> None:
        # Where the command looks when nobody says where.
        default = self.directory / ".local" / "state"
        default.mkdir(parents=True)
        (default / "arrow-zerobus").symlink_to(self.directory / "wal")
        if self.setup == "quarantine":
            with SyncZerobusWrapper(**self.settings) as wrapper:
                until(lambda: wrapper.status()["table_schema"]["columns"] is not None, "the columns")
                wrapper.send_batch(pa.record_batch({"id": pa.array([None], pa.int64()), "name": ["a"]}))
                with contextlib.suppress(TransmissionError):
                    wrapper.flush()
        with SyncZerobusWrapper(**self.settings, shutdown_timeout_secs=0) as wrapper:
            if self.setup == "half":
                for first in (0, 250):
                    wrapper.send_batch(sensors(first))
                wrapper.flush()
            self.emulator.kill()
            for batch in [sensors(500), sensors(750)] if self.setup == "half" else [make_batch()]:
                wrapper.send_batch(batch)
        self.emulator.restart()

    def typed(self, command: str) -> str:
        """The command with the directory and the ports of this run instead of those of the pages."""
        command = re.sub(rf"(?<![\w.]){HOME}/", f"{self.directory}/", command)
        if self.settings:
            for shown, url in (
                (GRPC_PORT, self.emulator.endpoint),
                (HTTP_PORT, self.emulator.unity_catalog_url),
            ):
                command = command.replace(f":{shown}", ":" + url.rpartition(":")[2])
        return command

    def run(self, arguments: list[str], *, is_merged: bool = False) -> subprocess.CompletedProcess[str]:
        """Runs a program here."""
        return subprocess.run(
            arguments,
            cwd=self.directory,
            env=self.environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT if is_merged else subprocess.PIPE,
            text=True,
            timeout=TIMEOUT_SECS,
        )

    def run_python(self, body: str) -> subprocess.CompletedProcess[str]:
        """Runs a block of Python with the names of this set-up; it may await outside of a function."""
        preamble = ""
        if self.setup in ("settings", "wrapper"):
            preamble = _PREAMBLE.format(table=TABLE, settings=self.settings)
        elif self.setup == "emulator":
            preamble = _PREAMBLE.format(table=TABLE, settings={}) + _EMULATOR
        preamble += _WRAPPER if self.setup == "wrapper" else ""
        # Not in the directory of the block, whose files it might look at.
        program = self.directory.with_suffix(".py")
        program.write_text(preamble + body)
        return self.run([sys.executable, "-W", "error", __file__, str(program)])

    def close(self) -> None:
        """Ends what was started for it."""
        self.stack.close()


def main(program: Path) -> None:
    """Runs a program that may await outside of a function, as notebooks let it."""
    flags = ast.PyCF_ALLOW_TOP_LEVEL_AWAIT
    code = compile(program.read_text(), program, "exec", flags=flags)
    names: dict[str, Any] = {"__name__": "__main__"}
    outcome = eval(code, names)  # noqa: S307 - the program is a page of ours
    if asyncio.iscoroutine(outcome):
        asyncio.run(outcome)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
