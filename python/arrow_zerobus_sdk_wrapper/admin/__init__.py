"""What operators do with logs, as functions: the same operations as those of the command ``zerobus-wal``.

They work beside a live owner, in this process or another one, and on the log that a dead one left. A long
operation ends early on Ctrl-C. Everything raises the exceptions of the package.
"""

from ._config import Setting, config_check, config_show
from ._find import find_logs
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
from ._status import CheckReport, ListedLog, Violation, check, ls, status
from ._verify import VerifyFinding, VerifyReport, verify

__all__ = [
    "Bent",
    "CheckReport",
    "Column",
    "DroppedStretch",
    "Frame",
    "FrameReport",
    "Ledger",
    "ListedLog",
    "PersistentStream",
    "Piece",
    "Quarantined",
    "Run",
    "Schemas",
    "Segment",
    "SegmentFooter",
    "SegmentHeader",
    "Setting",
    "Settled",
    "SettledStretch",
    "StoredSchema",
    "Table",
    "TableColumn",
    "VerifyFinding",
    "VerifyReport",
    "Violation",
    "check",
    "config_check",
    "config_show",
    "find_logs",
    "inspect_frame",
    "inspect_ledger",
    "inspect_schema",
    "inspect_segment",
    "ls",
    "status",
    "verify",
]
