"""Which rows do victims send, and how are they compared?

A row is a number and a text that follows from it, so that a row by itself shows whether it was altered. A
batch is a run of consecutive numbers; its hash is taken by the victim of what it sends, and by the oracle
of what it finds.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable

TABLE = "chaos.default.events"
COLUMNS = "id BIGINT NOT NULL, content STRING NOT NULL"

_MIX = 0x9E3779B97F4A7C15


def content(row_id: int) -> str:
    """The text of a row; the Rust victim makes the same."""
    return f"{row_id * _MIX % 2**64:016x}-{'x' * (row_id % 97)}"


def canonical(row_id: int, text: str) -> bytes:
    """The bytes of a row that are hashed: number, length of the text, text, all little-endian."""
    encoded = text.encode()
    return row_id.to_bytes(8, "little", signed=True) + len(encoded).to_bytes(4, "little") + encoded


def digest(rows: Iterable[tuple[int, str]]) -> str:
    """SHA-256 of rows in their order, in hexadecimal."""
    hashed = hashlib.sha256()
    for row_id, text in rows:
        hashed.update(canonical(row_id, text))
    return hashed.hexdigest()
