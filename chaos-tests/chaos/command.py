"""What does the command `zerobus-wal` say of a log?

It is part of what is tested: whatever lies in a directory, it must end in time, without a panic, with an exit
code of its table.
"""

from __future__ import annotations

import json
import re
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

COMMAND = Path(sys.executable).with_name("zerobus-wal")
DEADLINE_SECS = 30.0
# A bug by its own account, and the end of a Rust program that panics.
_BUGS = (1, 101)
# Of ours; those of a library that reads damaged bytes are caught, and printed all the same.
_PANIC = re.compile(r"panicked at (?!\S*/registry/)")


@dataclass(frozen=True)
class Said:
    """The end of a command.

    Attributes:
        code: Its exit code.
        document: What it printed as JSON, None if nothing.
        messages: What it wrote to its standard error.
    """

    code: int
    document: Any
    messages: str


def zerobus_wal(verb: str, *arguments: str | Path, deadline_secs: float = DEADLINE_SECS) -> Said:
    """Runs a verb with `--format json`.

    Raises:
        AssertionError: It did not end in time, was killed, has panicked, or calls it a bug of its own.
    """
    command = [str(COMMAND), verb, "--format", "json", *map(str, arguments)]
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=deadline_secs)
    except subprocess.TimeoutExpired:
        raise AssertionError(f"R12: {' '.join(command)} has not ended within {deadline_secs} s") from None
    if done.returncode < 0 or done.returncode in _BUGS or _PANIC.search(done.stderr):
        raise AssertionError(f"R13: {' '.join(command)} ended with {done.returncode}: {done.stderr}")
    document = json.loads(done.stdout) if done.stdout.strip() else None
    return Said(done.returncode, document, done.stderr)


def findings(root: Path) -> dict[str, list[str]]:
    """What `verify` finds in each log below a directory, without what is only for information.

    A log that cannot be read at all is in no report, but in a message.
    """
    said = zerobus_wal("verify", root)
    if said.document is None:
        raise AssertionError(f"verify says nothing of {root}: {said.messages}")
    found = {
        log["directory"]: [
            f"{finding['kind']}: {finding['text']}"
            for finding in log["findings"]
            if finding["severity"] != "info"
        ]
        for log in said.document["logs"]
    }
    for line in said.messages.splitlines():
        if line.startswith("warning: the log in "):
            found[line.removeprefix("warning: the log in ").partition(" cannot be read: ")[0]] = [line]
    return found
