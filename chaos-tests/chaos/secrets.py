"""Is a secret in any file that a trial has left?

The secret of the victims is a canary: it is searched for as it is, in UTF-16, in hexadecimal and in base64
at each of its three alignments, in every file below the trial's directory but those of the service. Access
tokens are known by their tag: whatever looks like one is checked with the service's own key.
"""

from __future__ import annotations

import base64
import errno
import hashlib
import hmac
import os
import re
from collections.abc import Iterable, Iterator
from pathlib import Path

from .service import CLIENT_CANARY

_TOKEN_BYTES = 8 + 16 + 1 + 32
_TOKEN = re.compile(rb"[A-Za-z0-9_-]{%d}" % (_TOKEN_BYTES * 4 // 3))


def forms(secret: str) -> list[tuple[str, bytes]]:
    """What a secret may look like in a file: the name of the form, and its bytes."""
    raw = secret.encode()
    found = [
        ("as it is", raw),
        ("as UTF-16", secret.encode("utf-16-le")),
        ("as UTF-16, big-endian", secret.encode("utf-16-be")),
        ("in hexadecimal", raw.hex().encode()),
    ]
    for lead in range(3):
        whole = base64.b64encode(b"\0" * lead + raw)
        # What depends on the bytes before and behind is left out.
        first = (lead * 8 + 5) // 6
        last = (lead + len(raw)) * 8 // 6
        found.append((f"in base64, {lead} behind", whole[first:last]))
    return found


def search(
    directory: Path, leave_out: Iterable[Path] = (), key: bytes | None = None
) -> tuple[list[str], int]:
    """Searches every file below a directory.

    Args:
        directory: Where.
        leave_out: Directories that may know secrets.
        key: The key that the service signs its tokens with.

    Returns:
        What was found, and how many bytes were searched.
    """
    excluded = [path.resolve() for path in leave_out]
    wanted = forms(CLIENT_CANARY)
    found, searched = [], 0
    for path in sorted(directory.rglob("*")):
        if path.is_symlink() or not path.is_file():
            continue
        if any(path.resolve().is_relative_to(root) for root in excluded):
            continue
        for data in _written(path):
            searched += len(data)
            found += [f"R9: the secret is in {path}, {how}" for how, form in wanted if form in data]
            if key is not None:
                found += [
                    f"R9: a token is in {path}" for text in _TOKEN.findall(data) if _is_token(text, key)
                ]
    return found, searched


def _written(path: Path) -> Iterator[bytes]:
    """What is in a file, but for its holes: most of the image of a disk is one."""
    with path.open("rb") as file:
        end = file.seek(0, os.SEEK_END)
        at = 0
        while at < end:
            try:
                at = file.seek(at, os.SEEK_DATA)
            except OSError as error:
                if error.errno != errno.ENXIO:
                    raise
                return
            hole = file.seek(at, os.SEEK_HOLE)
            file.seek(at)
            yield file.read(hole - at)
            at = hole


def _is_token(text: bytes, key: bytes) -> bool:
    try:
        raw = base64.b64decode(text, altchars=b"-_", validate=True)
    except ValueError:
        return False
    body, tag = raw[:-32], raw[-32:]
    return hmac.compare_digest(hmac.new(key, body, hashlib.sha256).digest(), tag)
