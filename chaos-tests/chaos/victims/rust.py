"""The victim that uses the Rust crate: ``target/debug/victim``, which the tests of the workspace build.

``CHAOS_VICTIM`` names another one.
"""

from __future__ import annotations

import os
from pathlib import Path

ROOT = Path(__file__).parents[3]


def binary() -> Path:
    """The program.

    Raises:
        FileNotFoundError: It is not built; the text says how.
    """
    target = Path(os.environ.get("CARGO_TARGET_DIR", ROOT / "target"))
    program = Path(os.environ.get("CHAOS_VICTIM", target / "debug" / "victim"))
    if not program.is_file():
        raise FileNotFoundError(f"{program} is missing; build it with: make victims")
    return program
