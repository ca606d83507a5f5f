"""Where do the rows go?

The local Zerobus as a process of its own. It lies outside of the file system and the network namespace that
are faulted; what it acknowledges is synced to the disk, so the Delta table that it leaves is one half of
what the oracle compares.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from arrow_zerobus_sdk_wrapper.emulator import Emulator

from .rows import COLUMNS, TABLE

CLIENT_ID = "victim-of-the-chaos-suite"
# Every trial looks for it in every file that it leaves.
CLIENT_CANARY = "canary-Zx81-secret-of-the-victim"


class Service(Emulator):
    """An emulator with the table of the victims, and the credentials that they have.

    Everything that ``Emulator`` can be given may be given, and its methods are there: ``kill``, ``restart``,
    ``faults``, ``sql``.
    """

    def __init__(self, directory: Path, **options: Any) -> None:
        settings: dict[str, Any] = {
            "tables": {TABLE: COLUMNS},
            "client_id": CLIENT_ID,
            "client_secret": CLIENT_CANARY,
            "commit_interval_ms": 20,
        }
        super().__init__(directory, **(settings | options))
        self.kills = 0

    def kill_and_restart(self) -> None:
        """Ends it as a power cut would, and brings it back with its data."""
        self.kill()
        self.kills += 1
        self.start()

    def heal(self) -> None:
        """Whatever was done to it: it runs, without a fault and with every grant."""
        if self.pid is None:
            self.start()
        self.faults(clear=True)
        for grant in ("SELECT", "MODIFY"):
            self.sql(f"GRANT {grant} ON TABLE {TABLE} TO `{CLIENT_ID}`")

    @property
    def table_directory(self) -> Path:
        """Where the Delta table is."""
        return self.table_path(TABLE)
