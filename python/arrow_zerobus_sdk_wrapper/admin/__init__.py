"""What operators do with logs, as functions: the same operations as those of the command ``zerobus-wal``.

They work beside a live owner, in this process or another one, and on the log that a dead one left. A long
operation ends early on Ctrl-C. Everything raises the exceptions of the package.
"""

from ._find import find_logs

__all__ = [
    "find_logs",
]
