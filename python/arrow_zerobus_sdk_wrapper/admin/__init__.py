"""What operators do with logs, as functions: the same operations as those of the command ``zerobus-wal``.

They work beside a live owner, in this process or another one, and on the log that a dead one left. A long
operation ends early on Ctrl-C. Everything raises the exceptions of the package.
"""

from ._export import ExportedFile, ExportReport, export
from ._find import find_logs
from ._quarantine import (
    LeftFile,
    QuarantineDrop,
    QuarantineFile,
    QuarantineList,
    ReasonSummary,
    quarantine_drop,
    quarantine_ls,
    quarantine_show,
)
from ._reconcile import KeyCount, ReconcileReport, reconcile
from ._replay import DryRun, RefusedRow, ReplayReport, ReplaySettings, replay, replay_dry_run
from ._rows import Unreadable

__all__ = [
    "DryRun",
    "ExportReport",
    "ExportedFile",
    "KeyCount",
    "LeftFile",
    "QuarantineDrop",
    "QuarantineFile",
    "QuarantineList",
    "ReasonSummary",
    "ReconcileReport",
    "RefusedRow",
    "ReplayReport",
    "ReplaySettings",
    "Unreadable",
    "export",
    "find_logs",
    "quarantine_drop",
    "quarantine_ls",
    "quarantine_show",
    "reconcile",
    "replay",
    "replay_dry_run",
]
