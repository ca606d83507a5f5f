"""Which file operations of a process fail, and how?

`Intercept` is the Python side of `intercept/`: it writes the rules into a file that both map, and reads what
happened. A process is put under it by its command: `[*intercept.prefix(), program, ...]`. Rules can change
while the process runs, counters go on over restarts.
"""

import errno
import mmap
import struct
from dataclasses import dataclass
from enum import IntEnum
from pathlib import Path
from typing import Any

from .compile import compiled

FOREVER = 2**64 - 1
"""As the last operation that a rule hits: it hits all from its first one."""
EVERYTHING = 2**64 - 1
"""As the bytes of an operation that are done before it fails: the whole operation."""

_PATH_BYTES, _PART_BYTES, _RULES, _FAILED_FILES = 1024, 64, 8, 64
_HEAD = struct.Struct(f"={_PATH_BYTES}s{_PART_BYTES}sQQ16QQQ{16 * _FAILED_FILES}xQ{_PATH_BYTES}sQ")
_RULE = struct.Struct(f"=QQQQqQQQQ{_PART_BYTES}s")


class Operation(IntEnum):
    """What a process does with files."""

    WRITE = 0
    DURABLE_WRITE = 1
    SYNC = 2
    SYNC_DIRECTORY = 3
    SYNC_RANGE = 4
    CREATE = 5
    OPEN = 6
    RENAME = 7
    UNLINK = 8
    TRUNCATE = 9
    ALLOCATE = 10
    MAKE_DIRECTORY = 11
    READ = 12


WRITES = (Operation.WRITE, Operation.DURABLE_WRITE)
SYNCS = (Operation.DURABLE_WRITE, Operation.SYNC, Operation.SYNC_DIRECTORY)
"""Everything after which the process takes something for durable."""
CHANGES = tuple(operation for operation in Operation if operation not in (Operation.OPEN, Operation.READ))


class Action(IntEnum):
    """What becomes of an operation that a rule hits."""

    FAIL = 0
    SHORTEN = 1
    KILL = 2
    DELAY = 3


@dataclass(frozen=True)
class Rule:
    """Some operations, and what becomes of them.

    Attributes:
        operations: Which kinds.
        action: What happens instead: an error, a part of a write, the death of the process, a wait.
        first: The first operation that is hit, of those that match, counted from 1.
        last: The last one; `FOREVER` for all that follow.
        part: Only files with this in their path.
        error: The errno of `Action.FAIL`.
        bytes: How much is done before the error or the death; of a short write, what is written. `EVERYTHING`
            does it all.
        delay_ms: How long `Action.DELAY` holds an operation up, in milliseconds.
    """

    operations: tuple[Operation, ...]
    action: Action
    first: int = 1
    last: int = FOREVER
    part: str = ""
    error: int = errno.EIO
    bytes: int = 0
    delay_ms: float = 0.0


class Intercept:
    """A process's file operations below one directory.

    Args:
        control: Where the shared file is made; outside the directory.
        directory: Only what lies below it is counted and hit.
        operations: What is looked at in a process that is started with `prefix`; the rest costs nothing and
            cannot be hit.
        guarded: Of the files with this in their path, writes and syncs after a failure are counted as
            `touched`.
    """

    def __init__(
        self,
        control: Path,
        directory: Path,
        operations: tuple[Operation, ...] = CHANGES,
        guarded: str = "/segment-",
    ) -> None:
        """Makes the file, without rules."""
        self._path = control
        self._rules: tuple[Rule, ...] = ()
        with control.open("w+b") as file:
            file.truncate(_HEAD.size + _RULES * _RULE.size)
            self._shared = mmap.mmap(file.fileno(), _HEAD.size + _RULES * _RULE.size)
        mask = sum(1 << operation for operation in operations)
        head = _HEAD.pack(
            str(directory.resolve()).encode(), guarded.encode(), mask, 0, *[0] * 16, 0, 0, 0, b"", 0
        )
        self._shared[: _HEAD.size] = head

    def prefix(self) -> list[str]:
        """What stands before the command of a process that is to be hit. It keeps its process id."""
        return [str(compiled("intercept")), str(self._path)]

    def set_rules(self, *rules: Rule) -> None:
        """Puts these rules in the place of the ones before; the first one that matches decides."""
        if len(rules) > _RULES:
            raise ValueError(f"{len(rules)} rules; at most {_RULES} fit")
        # None while they change.
        count_at = _PATH_BYTES + _PART_BYTES + 8
        self._shared[count_at : count_at + 8] = bytes(8)
        for index, rule in enumerate(rules):
            packed = _RULE.pack(
                sum(1 << operation for operation in rule.operations),
                rule.first,
                rule.last,
                rule.action,
                rule.error,
                rule.bytes,
                int(rule.delay_ms * 1000),
                0,
                0,
                rule.part.encode(),
            )
            at = _HEAD.size + index * _RULE.size
            self._shared[at : at + _RULE.size] = packed
        self._rules = rules
        self._shared[count_at : count_at + 8] = struct.pack("=Q", len(rules))

    def forget_failed_files(self) -> None:
        """What has failed may be touched: a new process syncs what it finds, and believes none of it."""
        at = struct.calcsize(f"={_PATH_BYTES}s{_PART_BYTES}sQQ16QQ")
        self._shared[at : at + 8] = bytes(8)

    def heal(self) -> None:
        """Takes all rules away."""
        self.set_rules()

    def seen(self, rule: int = 0) -> int:
        """How many operations have matched a rule."""
        return self._rule_counter(rule, 7)

    def hits(self, rule: int = 0) -> int:
        """How many operations a rule has hit."""
        return self._rule_counter(rule, 8)

    def count(self, operation: Operation) -> int:
        """How many operations of a kind there were."""
        return int(self._head()[4 + operation])

    @property
    def failed_files(self) -> int:
        """On how many guarded files a write or a sync has failed."""
        return int(self._head()[20])

    @property
    def touched(self) -> int:
        """How many writes and syncs came to a guarded file after one had failed there."""
        return int(self._head()[22])

    @property
    def touched_path(self) -> str:
        """The first file that was touched so."""
        path = self._head()[23]
        assert isinstance(path, bytes)
        return path.split(b"\0", 1)[0].decode()

    @property
    def trouble(self) -> int:
        """What the supervisor could not do. If there is any, the test has shown nothing."""
        return int(self._head()[24])

    def _head(self) -> tuple[Any, ...]:
        return _HEAD.unpack(self._shared[: _HEAD.size])

    def _rule_counter(self, rule: int, field: int) -> int:
        if rule >= len(self._rules):
            raise IndexError(f"there is no rule {rule}, there are {len(self._rules)}")
        at = _HEAD.size + rule * _RULE.size
        return int(_RULE.unpack(self._shared[at : at + _RULE.size])[field])
