"""What operators do with logs, as functions: the same operations as those of the command ``zerobus-wal``.

They work beside a live owner, in this process or another one, and on the log that a dead one left. A long
operation ends early on Ctrl-C. Everything raises the exceptions of the package.
"""

from ._adopting import Orphan, adopt
from ._doctor import Examination, Finding, doctor
from ._export import ExportedFile, ExportReport, export
from ._find import find_logs
from ._freeing import Reclaim, SegmentFate, reclaim
from ._pausing import Pause, PauseChange, pause, resume
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
from ._remap import Destination, Remap, remap
from ._repair import Repair, RepairStep, repair
from ._replay import DryRun, RefusedRow, ReplayReport, ReplaySettings, replay, replay_dry_run
from ._rows import Unreadable

__all__ = [
    "Destination",
    "DryRun",
    "Examination",
    "ExportReport",
    "ExportedFile",
    "Finding",
    "KeyCount",
    "LeftFile",
    "Orphan",
    "Pause",
    "PauseChange",
    "QuarantineDrop",
    "QuarantineFile",
    "QuarantineList",
    "ReasonSummary",
    "Reclaim",
    "ReconcileReport",
    "RefusedRow",
    "Remap",
    "Repair",
    "RepairStep",
    "ReplayReport",
    "ReplaySettings",
    "SegmentFate",
    "Unreadable",
    "adopt",
    "doctor",
    "export",
    "find_logs",
    "pause",
    "quarantine_drop",
    "quarantine_ls",
    "quarantine_show",
    "reclaim",
    "reconcile",
    "remap",
    "repair",
    "replay",
    "replay_dry_run",
    "resume",
]
