"""The command ``zerobus-wal``, also as ``python -m arrow_zerobus_sdk_wrapper``."""

from __future__ import annotations

import signal
import sys

from ._core import run_cli


def main() -> int:
    """Runs the command with the arguments of this process and returns its exit code."""
    # Python only notes a signal and acts on it between two of its own instructions; there are none
    # while the command runs.
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    return run_cli(["zerobus-wal", *sys.argv[1:]])


if __name__ == "__main__":
    sys.exit(main())
