"""What is in the Delta table?

The log of the table is read as JSON, its files by ``pyarrow``, in the order in which they were committed.
None of the library's code is used, and no other reader of Delta tables.
"""

from __future__ import annotations

import json
import urllib.parse
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq


@dataclass(slots=True)
class Landed:
    """The rows of a table, in the order of its commits and of their files.

    Attributes:
        rows: Version, number and text of each row.
        versions: How many commits there are.
    """

    rows: list[tuple[int, int, str | None]] = field(default_factory=list)
    versions: int = 0


def read(table: Path) -> Landed:
    """Reads the newest version of a table.

    Raises:
        AssertionError: A commit is missing, or is no JSON: the service has broken its own promise.
    """
    landed = Landed()
    files: dict[str, int] = {}
    for version, actions in commits(table):
        landed.versions += 1
        for action in actions:
            if "add" in action:
                files[urllib.parse.unquote(action["add"]["path"])] = version
            elif "remove" in action:
                files.pop(urllib.parse.unquote(action["remove"]["path"]), None)
    for path, version in sorted(files.items(), key=lambda item: item[1]):
        data = pq.ParquetFile(table / path).read(columns=["id", "content"])
        ids, texts = data.column("id").to_pylist(), data.column("content").to_pylist()
        landed.rows += [(version, row_id, text) for row_id, text in zip(ids, texts, strict=True)]
    return landed


def commits(table: Path) -> Iterator[tuple[int, list[dict[str, Any]]]]:
    """Every commit with its actions, from the first on; the service never removes one."""
    paths = sorted((table / "_delta_log").glob("*.json"))
    for expected, path in enumerate(paths):
        if path.stem != f"{expected:020}":
            raise AssertionError(f"the table has no commit {expected}, it goes on with {path.name}")
        yield expected, [json.loads(line) for line in path.read_text().splitlines() if line]
