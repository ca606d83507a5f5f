"""What the command prints as JSON, compared with files: the shapes are a contract.

``UPDATE_SNAPSHOTS=1`` writes the files anew; what changes there changes what programs read.
"""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

SNAPSHOTS = Path(__file__).with_name("snapshots")
# What is another one in each run, and what stands for it.
VOLATILE = {
    "epoch": "<epoch>",
    "owner_pid": 1,
    "free_bytes": 1,
    "log_bytes": 1,
    "retained_bytes": 1,
}


def stable(value: Any, roots: dict[str, str], name: str = "") -> Any:
    """The same JSON, with what is another one in each run replaced.

    Args:
        value: The JSON.
        roots: Directories, and what stands for each.
        name: The member that it is.
    """
    if isinstance(value, dict):
        return {key: stable(item, roots, key) for key, item in value.items()}
    if isinstance(value, list):
        return [stable(item, roots, name) for item in value]
    if value is None:
        return None
    if name in VOLATILE:
        return VOLATILE[name]
    if name.endswith("unix_micros"):
        return 1_795_000_000_000_000
    if name.endswith("_secs") and isinstance(value, float):
        return 1.5
    if isinstance(value, str):
        for root, shown in roots.items():
            value = value.replace(root, shown)
    return value


def check_snapshot(name: str, value: Any, roots: dict[str, str]) -> None:
    """Compares JSON with the file of this name.

    Args:
        name: The name of the file, without its ending.
        value: The JSON.
        roots: Directories, and what stands for each.
    """
    path = SNAPSHOTS / f"{name}.json"
    text = json.dumps(stable(value, roots), indent=2, ensure_ascii=False) + "\n"
    if os.environ.get("UPDATE_SNAPSHOTS") == "1":
        SNAPSHOTS.mkdir(exist_ok=True)
        path.write_text(text)
    assert path.exists(), f"{path} is missing: UPDATE_SNAPSHOTS=1 writes it"
    assert text == path.read_text(), f"{path} differs: UPDATE_SNAPSHOTS=1 writes it anew"
