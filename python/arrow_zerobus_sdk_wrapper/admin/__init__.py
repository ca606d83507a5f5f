"""What operators do with logs, as functions: the same operations as those of the command ``zerobus-wal``.

They work beside a live owner, in this process or another one, and on the log that a dead one left. A long
operation ends early on Ctrl-C. Everything raises the exceptions of the package.
"""

from ._adopting import Orphan, adopt
from ._doctor import Examination, Finding, doctor
from ._find import find_logs
from ._freeing import Reclaim, SegmentFate, reclaim
from ._pausing import Pause, PauseChange, pause, resume
from ._remap import Destination, Remap, remap
from ._repair import Repair, RepairStep, repair

__all__ = [
    "Destination",
    "Examination",
    "Finding",
    "Orphan",
    "Pause",
    "PauseChange",
    "Reclaim",
    "Remap",
    "Repair",
    "RepairStep",
    "SegmentFate",
    "adopt",
    "doctor",
    "find_logs",
    "pause",
    "reclaim",
    "remap",
    "repair",
    "resume",
]
