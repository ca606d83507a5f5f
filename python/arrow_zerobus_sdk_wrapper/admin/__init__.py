"""What operators do with logs, as functions: the same operations as those of the command ``zerobus-wal``.

They work beside a live owner, in this process or another one, and on the log that a dead one left. A long
operation ends early on Ctrl-C. Everything raises the exceptions of the package.
"""

from ._adopting import Orphan, adopt
from ._config import Setting, config_check, config_show
from ._doctor import Examination, Finding, doctor
from ._export import ExportedFile, ExportReport, export
from ._find import find_logs
from ._freeing import Reclaim, SegmentFate, reclaim
from ._inspect import inspect_frame, inspect_ledger, inspect_schema, inspect_segment
from ._inspected import (
    Bent,
    Column,
    DroppedStretch,
    Frame,
    FrameReport,
    Ledger,
    PersistentStream,
    Piece,
    Quarantined,
    Run,
    Schemas,
    Segment,
    SegmentFooter,
    SegmentHeader,
    Settled,
    SettledStretch,
    StoredSchema,
    Table,
    TableColumn,
)
from ._log_status import AdoptionStatus, Counts, LaneStatus, LogStatus, QuarantineStatus, TableStatus
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
from ._status import CheckReport, ListedLog, Violation, check, ls, status
from ._verify import VerifyFinding, VerifyReport, verify

__all__ = [
    "AdoptionStatus",
    "Bent",
    "CheckReport",
    "Column",
    "Counts",
    "Destination",
    "DroppedStretch",
    "DryRun",
    "Examination",
    "ExportReport",
    "ExportedFile",
    "Finding",
    "Frame",
    "FrameReport",
    "KeyCount",
    "LaneStatus",
    "Ledger",
    "LeftFile",
    "ListedLog",
    "LogStatus",
    "Orphan",
    "Pause",
    "PauseChange",
    "PersistentStream",
    "Piece",
    "QuarantineDrop",
    "QuarantineFile",
    "QuarantineList",
    "QuarantineStatus",
    "Quarantined",
    "ReasonSummary",
    "Reclaim",
    "ReconcileReport",
    "RefusedRow",
    "Remap",
    "Repair",
    "RepairStep",
    "ReplayReport",
    "ReplaySettings",
    "Run",
    "Schemas",
    "Segment",
    "SegmentFate",
    "SegmentFooter",
    "SegmentHeader",
    "Setting",
    "Settled",
    "SettledStretch",
    "StoredSchema",
    "Table",
    "TableColumn",
    "TableStatus",
    "Unreadable",
    "VerifyFinding",
    "VerifyReport",
    "Violation",
    "adopt",
    "check",
    "config_check",
    "config_show",
    "doctor",
    "export",
    "find_logs",
    "inspect_frame",
    "inspect_ledger",
    "inspect_schema",
    "inspect_segment",
    "ls",
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
    "status",
    "verify",
]
