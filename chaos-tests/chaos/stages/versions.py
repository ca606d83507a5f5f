"""Logs of every released format are drained, and one of a format that nobody knows is refused untouched.

Method: the golden logs of ``tests/fixtures/format-N`` are drained by the wheel of today into a table,
which is compared with what the reader on the page of the format finds in them, a reader that is older
than any change to come. The same reader reads a log that a victim has written just now, and finds what
was acknowledged. Then the version in a segment and the one in ``LOG`` are made one higher, with right
checksums: opening is refused with the documented error, and every byte of the directory is as it was.
"""

from __future__ import annotations

import hashlib
import json
import re
import shutil
import struct
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pyarrow as pa
import pyarrow.parquet as pq

from arrow_zerobus_sdk_wrapper import CorruptionError, SyncZerobusWrapper

from .. import delta_reader
from ..rows import COLUMNS, TABLE
from ..stage import Stage
from ..way import directory_of, steady

if TYPE_CHECKING:
    from ..service import Service
    from ..trial import Trial

_ROOT = Path(__file__).parents[3]
_PAGE = _ROOT / "docs/internals/file-format.md"
_FIXTURES = _ROOT / "tests/fixtures"
_GOLDEN_COLUMNS = "id BIGINT NOT NULL, name STRING"
_DRAIN_SECS = 60.0
_HEADER_BYTES = 4096
_VERSION_AT = 8

Reader = Callable[[Path], Iterator[tuple[int, pa.RecordBatch]]]
Row = tuple[Any, ...]


def documented_reader() -> Reader:
    """The reader that stands on the page of the format."""
    code = re.search(r"```python\n(import pathlib.*?)\nfor path in", _PAGE.read_text(), re.DOTALL)
    if code is None:
        raise AssertionError(f"{_PAGE} has no reader any more")
    names: dict[str, Any] = {}
    exec(code[1], names)  # noqa: S102 - it is our own page
    reader: Reader = names["batches"]
    return reader


def rows_of(directory: Path, read: Reader) -> list[Row]:
    """All rows of a log, as the documented reader finds them."""
    batches = [batch for path in sorted(directory.glob("segment-*.wal")) for _, batch in read(path)]
    return [tuple(row.values()) for batch in batches for row in batch.to_pylist()]


def landed(table: Path) -> list[Row]:
    """All rows of a table, in the order of its commits."""
    rows: list[Row] = []
    for _, actions in delta_reader.commits(table):
        for action in actions:
            if "add" in action:
                data = pq.ParquetFile(table / action["add"]["path"]).read()
                rows += [tuple(row.values()) for row in data.to_pylist()]
    return rows


def drain_golden(trial: Trial, service: Service, golden: Path, read: Reader) -> None:
    """A released log is drained into its table, row by row as it was written."""
    table = json.loads((golden / "LOG").read_text())["table"]
    wal_dir = trial.directory / golden.name
    shutil.copytree(golden, wal_dir / table / "writer-001")
    wrapper = SyncZerobusWrapper(table_name=table, wal_dir=wal_dir, **service.settings)
    wrapper.flush(timeout=_DRAIN_SECS)
    status = wrapper.status()
    wrapper.shutdown()
    wanted, found = rows_of(golden, read), landed(service.table_path(table))
    if not wanted or found != wanted:
        raise AssertionError(
            f"{golden.name} holds {len(wanted)} rows; {len(found)} landed, or not as they were"
        )
    if status["rows"]["waiting"] or status["damage"]:
        raise AssertionError(f"{golden.name} is not drained as a whole log: {status}")
    trial.count("released formats drained")
    trial.count("faults")
    trial.count("rows of released formats compared", len(wanted))


def read_today(trial: Trial, directory: Path, read: Reader) -> None:
    """The documented reader finds in a log of today what was acknowledged and waits in it."""
    found = {row_id for row_id, _ in rows_of(directory, read)}
    acknowledged = [batch for batch in trial.oracle.batches if batch.ack_ns is not None]
    missing = [row_id for batch in acknowledged for row_id in batch.ids if row_id not in found]
    if not acknowledged or missing:
        raise AssertionError(
            f"the documented reader does not find {len(missing)} rows in {directory}: {missing[:5]}"
        )
    trial.count("rows of today read by the documented reader", len(found))


def fingerprints(directory: Path) -> dict[str, str]:
    """Every file of a log with its hash, but the lock, in which whoever takes it writes his name."""
    return {
        str(path.relative_to(directory)): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(directory.rglob("*"))
        if path.is_file() and path.name != "LOCK"
    }


def of_the_future_segment(directory: Path) -> None:
    """The newest segment has a header of the next version, with the right checksum."""
    path = max(directory.glob("segment-*.wal"))
    data = bytearray(path.read_bytes())
    (version,) = struct.unpack_from("<I", data, _VERSION_AT)
    struct.pack_into("<I", data, _VERSION_AT, version + 1)
    struct.pack_into("<I", data, _HEADER_BYTES - 4, zlib.crc32(data[: _HEADER_BYTES - 4]))
    path.write_bytes(data)


def of_the_future_log(directory: Path) -> None:
    """``LOG`` says the next version."""
    path = directory / "LOG"
    identity = json.loads(path.read_text())
    path.write_text(json.dumps({**identity, "format": identity["format"] + 1}))


def refuse_future(trial: Trial, service: Service, directory: Path) -> None:
    """Opening a log of the future is refused, and changes nothing."""
    for spoil in (of_the_future_segment, of_the_future_log):
        wal_dir = trial.directory / spoil.__name__
        copy = wal_dir / directory.parent.name / directory.name
        shutil.copytree(directory, copy, ignore=shutil.ignore_patterns("*.sock"))
        spoil(copy)
        before = fingerprints(copy)
        try:
            wrapper = SyncZerobusWrapper(table_name=TABLE, wal_dir=wal_dir, **service.settings)
        except CorruptionError as error:
            if "version" not in str(error):
                raise AssertionError(f"the refusal does not name the version: {error}") from error
        else:
            wrapper.shutdown()
            raise AssertionError(f"a log of the future was opened: {spoil.__name__}")
        after = fingerprints(copy)
        if before != after:
            changed = sorted({*before.items()} ^ {*after.items()})
            raise AssertionError(f"a log that was refused is not as it was: {changed}")
        trial.count("logs of the future refused")
        trial.count("faults")


def run(trial: Trial) -> None:
    """All released formats, then today's, then the next one."""
    read = documented_reader()
    fixtures = sorted(_FIXTURES.glob("format-*"))
    tables = {json.loads((golden / "LOG").read_text())["table"]: _GOLDEN_COLUMNS for golden in fixtures}
    service = trial.service(tables={TABLE: COLUMNS, **tables})
    for golden in fixtures:
        drain_golden(trial, service, golden, read)
    # Nothing is delivered, so that everything stays in the log.
    service.stop()
    victim = trial.victim(steady(trial))
    directory = directory_of(victim)
    victim.wait_for("ack", times=30)
    trial.kill(victim)
    service.start()
    read_today(trial, directory, read)
    refuse_future(trial, service, directory)
    trial.finish()


STAGES = (
    Stage(
        name="versions",
        rows=(27,),
        fault="logs of every released format; a log of today before the reader of its format; a log of "
        "the next format",
        promise="released formats are read and drained, an unknown one is refused and not touched",
        proof="golden logs drained and compared row by row; the reader on the page of the format; hashes "
        "of every file",
        needs=frozenset(),
        trials=1,
        run=run,
        unit="faults",
    ),
)
