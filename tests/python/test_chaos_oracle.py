"""The oracle of the chaos suite finds what is planted, and nothing where nothing is.

What was announced and what was found are made by hand, with one thing wrong at a time; the readers read
logs and tables that the wheel and the local Zerobus have written, and copies of them that were damaged.
"""

from __future__ import annotations

import asyncio
import json
import shutil
import struct
import zlib
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from arrow_zerobus_sdk_wrapper import ZerobusWrapper
from arrow_zerobus_sdk_wrapper.emulator import Emulator
from chaos import delta_reader, secrets, verdict, wal_reader
from chaos.announcements import Announcements, Batch
from chaos.delta_reader import Landed
from chaos.rows import COLUMNS, TABLE, content, digest
from chaos.service import CLIENT_CANARY
from chaos.verdict import Expectations
from chaos.wal_reader import Frame, Log

DIRECTORY = Path("/wal/writer-001")
ROWS = 4


def batch_of(number: int) -> Batch:
    """The n-th batch of one producer, acknowledged."""
    first = (number - 1) * ROWS + 1
    ids = range(first, first + ROWS)
    return Batch(
        name=f"1:{number}",
        producer="1:0",
        first=first,
        rows=ROWS,
        digest=digest((row_id, content(row_id)) for row_id in ids),
        life=1,
        intent_ns=number * 10,
        ack_ns=number * 10 + 5,
        lsn=number,
        directory=str(DIRECTORY),
        durable=True,
    )


def status_of(**rows: int) -> dict[str, Any]:
    counts = {"stored": 12, "delivered": 12, "quarantined": 0, "dropped": 0, "waiting": 0} | rows
    return {"directory": str(DIRECTORY), "rows": counts, "damage": [], "damaged_frames": 0}


class Case:
    """Three batches of which everything landed, once and in order."""

    def __init__(self) -> None:
        self.batches = [batch_of(number) for number in (1, 2, 3)]
        every = range(1, 13)
        self.landed: list[tuple[int, int, str | None]] = [(1, row_id, content(row_id)) for row_id in every]
        self.log = Log(DIRECTORY, epoch=1)
        self.status = status_of()
        self.expect = Expectations(ordered=True)

    def problems(self) -> list[str]:
        """What the oracle says of it."""
        landed = Landed([(version, row_id, text) for version, row_id, text in self.landed], 1)
        judged = verdict.judge(self.batches, landed, [self.log], [self.status], self.expect)
        return judged.problems


def lose(case: Case) -> None:
    del case.landed[4:8]
    case.status = status_of(stored=8, delivered=8)


def lose_one_row(case: Case) -> None:
    del case.landed[5]
    case.status = status_of(stored=11, delivered=11)


def invent(case: Case) -> None:
    case.landed.append((2, 999, content(999)))


def alter(case: Case) -> None:
    case.landed[3] = (1, 4, content(5))


def take_a_text_away(case: Case) -> None:
    case.landed[3] = (1, 4, None)


def alter_the_second_time(case: Case) -> None:
    case.landed.append((2, 4, "something else"))


def change_the_hash(case: Case) -> None:
    case.batches[1].digest = digest([(5, content(5))])


def halve_what_was_not_promised(case: Case) -> None:
    case.batches[2].ack_ns = case.batches[2].lsn = case.batches[2].directory = None
    del case.landed[10:]
    case.status = status_of(stored=10, delivered=10)


def halve_what_is_ambiguous(case: Case) -> None:
    case.batches[2].ambiguous = "acknowledged while the disk was cut"
    del case.landed[10:]


def swap(case: Case) -> None:
    case.landed[0:4], case.landed[4:8] = case.landed[4:8], case.landed[0:4]


def swap_rows(case: Case) -> None:
    case.landed[0], case.landed[1] = case.landed[1], case.landed[0]


def double(case: Case) -> None:
    case.expect = Expectations(exactly_once=True)
    case.landed.append(case.landed[0])


def double_too_many(case: Case) -> None:
    case.expect = Expectations(duplicates_max=1)
    case.landed += case.landed[0:2]


def give_a_number_twice(case: Case) -> None:
    case.batches[2].lsn = 2


def number_backwards(case: Case) -> None:
    case.batches[1].lsn, case.batches[2].lsn = 3, 2


def quarantine_a_good_row(case: Case) -> None:
    case.log.quarantined.append((1, 0, 1, content(1), "conversion"))


def quarantine_and_land(case: Case) -> None:
    case.batches[0].bad = frozenset({1})
    case.log.quarantined.append((1, 0, 1, None, "conversion"))


def land_what_is_bad(case: Case) -> None:
    case.batches[0].bad = frozenset({1})


def count_a_row_nowhere(case: Case) -> None:
    case.status = status_of(delivered=11)


def count_too_many(case: Case) -> None:
    case.status = status_of(stored=13, delivered=13)


def drop_without_leave(case: Case) -> None:
    case.status = status_of(delivered=8, dropped=4)
    case.expect = Expectations()


def drop_uncounted(case: Case) -> None:
    case.expect = Expectations(dropping=True)
    del case.landed[4:8]
    case.status = status_of(delivered=9, dropped=3)


def leave_something(case: Case) -> None:
    case.status = status_of(delivered=8, waiting=4)


def report_damage(case: Case) -> None:
    case.status["damage"] = ["frame 2 of segment 1"]


@pytest.mark.parametrize(
    ("plant", "rule"),
    [
        (lose, "R1: 1 acknowledged batches are lost: batch 1:2, LSN 2, 4 of 4 rows"),
        (lose_one_row, "R1: 1 acknowledged batches are lost: batch 1:2, LSN 2, 1 of 4 rows"),
        (invent, "R2: 1 rows landed that were never announced: row 999"),
        (alter, "R2: 1 rows landed altered: row 4"),
        (take_a_text_away, "R2: 1 rows landed altered: row 4"),
        (alter_the_second_time, "R2: 1 rows landed altered: row 4 of commit 2"),
        (change_the_hash, "R2: 1 batches have another hash than they were announced with: batch 1:2"),
        (halve_what_was_not_promised, "R3: 1 batches are there by halves: batch 1:3: 2 of 4"),
        (halve_what_is_ambiguous, "R3: 1 batches are there by halves: batch 1:3: 2 of 4"),
        (swap, "R3: 4 rows are out of order: row 5 of LSN 2"),
        (swap_rows, "R3: 1 rows are out of order: row 2 of LSN 1"),
        (double, "R5: 1 rows landed more than once: 1"),
        (double_too_many, "R4: 2 rows landed again, at most 1"),
        (give_a_number_twice, "R10: 1 numbers were given to two batches: 2"),
        (number_backwards, "R3: 1 numbers of a producer do not ascend: 2 of 1:3 after 3"),
        (quarantine_a_good_row, "R2: 1 rows are in quarantine that are good"),
        (quarantine_and_land, "R2: 1 rows are in quarantine and in the table: 1"),
        (land_what_is_bad, "R2: 1 rows landed that the table does not take: 1"),
        (count_a_row_nowhere, "I6: /wal/writer-001 counts"),
        (count_too_many, "I6: 13 rows are counted as stored, 12 were found"),
        (drop_without_leave, "I4: 4 rows were dropped"),
        (drop_uncounted, "R1: 4 acknowledged rows are missing and 3 were dropped"),
        (leave_something, "R12: 4 rows wait"),
        (report_damage, "R7: /wal/writer-001 reports"),
    ],
    ids=lambda value: value.__name__ if callable(value) else "",
)
def test_each_broken_promise_is_told_by_its_rule(plant: Callable[[Case], None], rule: str) -> None:
    case = Case()
    plant(case)
    assert any(problem.startswith(rule) for problem in case.problems()), case.problems()


def test_of_kept_promises_nothing_is_told() -> None:
    assert Case().problems() == []


def test_what_may_happen_is_no_broken_promise() -> None:
    case = Case()
    # Sent again after a failure: the window from its beginning, in its order.
    case.landed += [(2, row_id, content(row_id)) for row_id in range(5, 13)]
    # Neither acknowledged nor there.
    case.batches.append(replace(batch_of(4), ack_ns=None, lsn=None, directory=None))
    assert case.problems() == []
    # Sent before it was synced, as `durability="os"` has it, and then the disk was cut.
    case.batches.append(replace(batch_of(6), ambiguous="durability os, and a cut", may_be_halved=True))
    case.landed.append((3, 21, content(21)))
    # Acknowledged while the disk was cut, and gone as a whole.
    case.batches.append(replace(batch_of(5), ambiguous="acknowledged while the disk was cut"))
    assert case.problems() == []


def test_a_loss_is_told_with_where_it_happened() -> None:
    case = Case()
    lose(case)
    landed = Landed(list(case.landed), 1)
    frame = Frame(DIRECTORY / "segment", 4096, 2, tuple((i, content(i)) for i in range(5, 9)), 0, 0)
    for at_rest, where in [([], "was not in the log either"), ([frame], "was in the log before")]:
        log = Log(DIRECTORY, epoch=1, frames=at_rest)
        judged = verdict.judge(case.batches, landed, [], [case.status], Expectations(), at_rest=[log])
        assert where in judged.problems[0]


@pytest.mark.parametrize(
    ("rows", "lsn", "rule"),
    [
        (range(5, 9), 2, None),
        (range(5, 8), 2, "R2: 1 frames in the log are not as they were sent"),
        (range(6, 10), 2, "R2: 1 frames in the log are not as they were sent"),
        (range(500, 504), 2, "R2: 1 frames in the log were never announced"),
        (range(5, 9), 7, "R10: 1 frames have another number than was told"),
    ],
)
def test_frames_that_wait_are_judged_too(rows: range, lsn: int, rule: str | None) -> None:
    frame = Frame(DIRECTORY / "segment", 4096, lsn, tuple((i, content(i)) for i in rows), 0, 0)
    judged = verdict.judge_logs(Case().batches, [Log(DIRECTORY, epoch=1, frames=[frame])], Expectations())
    assert judged.problems == [] if rule is None else judged.problems[0].startswith(rule)


def test_a_gap_in_the_numbers_is_told_unless_the_disk_has_failed() -> None:
    frames = [
        Frame(DIRECTORY / "segment", 4096, lsn, tuple((i, content(i)) for i in batch_of(lsn).ids), 0, 0)
        for lsn in (1, 3)
    ]
    logs, batches = [Log(DIRECTORY, epoch=1, frames=frames)], Case().batches
    told = ["R3: 1 gaps in the numbers of the log: writer-001: 3 follows 1"]
    assert verdict.judge_logs(batches, logs, Expectations()).problems == told
    assert verdict.judge_logs(batches, logs, Expectations(), was_cut=True).problems == []
    batches[0].refused = "ClosedError: the wrapper was shut down"
    assert verdict.judge_logs(batches, logs, Expectations()).problems == told
    batches[0].refused = "StorageError: no space left"
    assert verdict.judge_logs(batches, logs, Expectations()).problems == []


@pytest.mark.parametrize("is_late", [False, True], ids=["heard before", "heard behind the cut"])
@pytest.mark.parametrize(
    ("durability", "ambiguous"),
    [
        ("sync", {"1:3": "acknowledged while the disk was cut"}),
        (
            "interval",
            {
                "1:2": "durability interval, within it",
                "1:3": "acknowledged while the disk was cut",
            },
        ),
        ("os", {f"1:{number}": "durability os, and a cut" for number in (1, 2, 3)}),
    ],
)
def test_an_acknowledgement_that_races_a_cut_is_ambiguous_and_no_other(
    tmp_path: Path, durability: str, ambiguous: dict[str, str], is_late: bool
) -> None:
    oracle = Announcements(tmp_path / "announcements.jsonl")
    life = oracle.begin("wheel", {"durability": durability, "sync_interval_ms": 100, "client_secret": "s"})
    for number, ack_ns in [(1, 1_000_000_000), (2, 9_500_000_000), (3, 10_000_000_001)]:
        said = {"batch": number, "producer": 0, "first": number, "rows": 1, "hash": ""}
        oracle.hear(life, json.dumps({"event": "intent", "at_ns": 0} | said))
        ack = {"batch": number, "lsn": number, "directory": "d", "durable": True}
        if is_late and number == 3:
            oracle.cut(life, 10_000_000_000)
        oracle.hear(life, json.dumps({"event": "ack", "at_ns": ack_ns} | ack))
    if not is_late:
        oracle.cut(life, 10_000_000_000)
    assert {batch.name: batch.ambiguous for batch in oracle.batches if batch.ambiguous} == ambiguous
    oracle.close()
    assert '"s"' not in (tmp_path / "announcements.jsonl").read_text()


# What the readers find of real files.


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """A log that nobody owns, with frames in several segments and in quarantine, and its table."""
    root = tmp_path_factory.mktemp("written")

    async def write() -> Path:
        with Emulator(root / "tables", tables={TABLE: COLUMNS}, client_id="id", client_secret="s") as service:
            wrapper = ZerobusWrapper(
                table_name=TABLE,
                wal_dir=root / "wal",
                segment_bytes=64 * 1024,
                retain_delivered_bytes=2**30,
                **service.settings,
            )
            for first in range(1, 3001, 100):
                ids = range(first, first + 100)
                texts = [None if row_id == 1001 else content(row_id) for row_id in ids]
                batch = pa.record_batch(
                    {"id": pa.array(ids, pa.int64()), "content": pa.array(texts, pa.string())}
                )
                await wrapper.send_batch(batch)
            with pytest.raises(Exception, match="quarantine"):
                await wrapper.flush(timeout=30)
            await wrapper.shutdown()
            return service.table_path(TABLE)

    return root / "wal", asyncio.run(write())


def test_the_reader_finds_every_frame_of_a_log_in_its_order(written: tuple[Path, Path]) -> None:
    (log,) = wal_reader.logs(written[0])
    assert log.problems == []
    assert [frame.lsn for frame in log.frames] == list(range(1, 31))
    assert len({frame.path for frame in log.frames}) > 1
    rows = [row for frame in log.frames for row in frame.rows]
    assert rows == [(i, None if i == 1001 else content(i)) for i in range(1, 3001)]
    assert log.quarantined == [(11, 0, 1001, None, "conversion")]


def test_the_reader_finds_every_row_of_a_table_in_its_order(written: tuple[Path, Path]) -> None:
    landed = delta_reader.read(written[1])
    assert [(i, text) for _, i, text in landed.rows] == [(i, content(i)) for i in range(1, 3001) if i != 1001]


def test_a_commit_that_is_missing_is_told(written: tuple[Path, Path], tmp_path: Path) -> None:
    table = shutil.copytree(written[1], tmp_path / "table")
    sorted((table / "_delta_log").glob("*.json"))[0].unlink()
    with pytest.raises(AssertionError, match="the table has no commit 0"):
        delta_reader.read(table)


@pytest.mark.parametrize("at", [0, 4, 60, 72, 76, 90, 400], ids=lambda at: f"byte {at} of a frame")
def test_a_bit_that_flips_in_a_frame_is_told_and_hides_no_other_frame(
    written: tuple[Path, Path], tmp_path: Path, at: int
) -> None:
    root = shutil.copytree(written[0], tmp_path / "wal", ignore=shutil.ignore_patterns("*.sock"))
    (log,) = wal_reader.logs(root)
    frame = log.frames[3]
    data = bytearray(frame.path.read_bytes())
    data[frame.offset + at] ^= 1
    frame.path.write_bytes(data)
    (read,) = wal_reader.logs(root)
    assert [found.lsn for found in read.frames] == [n for n in range(1, 31) if n != frame.lsn]
    assert any(f"{frame.path.name} at {frame.offset}" in problem for problem in read.problems), read.problems


def test_a_frame_that_was_replaced_under_right_checksums_is_told_by_its_hash(
    written: tuple[Path, Path], tmp_path: Path
) -> None:
    root = shutil.copytree(written[0], tmp_path / "wal", ignore=shutil.ignore_patterns("*.sock"))
    (log,) = wal_reader.logs(root)
    frame = log.frames[3]
    data = bytearray(frame.path.read_bytes())
    (length,) = struct.unpack_from("<I", data, frame.offset + 8)
    body = slice(frame.offset + 80, frame.offset + 80 + length)
    text = content(frame.rows[0][0]).encode()[:16]
    data[body] = bytes(data[body]).replace(text, b"0" * 16, 1)
    struct.pack_into("<I", data, frame.offset + 72, zlib.crc32(data[body]))
    struct.pack_into("<I", data, frame.offset + 76, zlib.crc32(data[frame.offset : frame.offset + 76]))
    frame.path.write_bytes(data)
    (read,) = wal_reader.logs(root)
    batches = [
        replace(
            batch_of(1),
            name=f"1:{found.lsn}",
            first=found.rows[0][0],
            rows=100,
            lsn=found.lsn,
            digest=digest((i, content(i)) for i, _ in found.rows),
            directory=str(log.directory),
            bad=frozenset({1001} if found.lsn == 11 else ()),
        )
        for found in log.frames
    ]
    assert verdict.judge_logs(batches, [log], Expectations()).problems == []
    told = verdict.judge_logs(batches, [read], Expectations(damage_reported=True)).problems
    assert told == ["R2: 1 frames in the log are not as they were sent: batch 1:4 in frame 4"]


def test_a_secret_is_found_in_every_form(tmp_path: Path) -> None:
    key = b"k" * 32
    for number, (how, form) in enumerate(secrets.forms(CLIENT_CANARY)):
        file = tmp_path / f"{number}.bin"
        file.write_bytes(b"\0some bytes" + form + b"and more")
        found, searched = secrets.search(tmp_path, key=key)
        assert [text for text in found if str(file) in text and how in text], (how, found)
        assert searched >= file.stat().st_size
        file.unlink()
    assert secrets.search(tmp_path, key=key) == ([], 0)


def test_a_token_is_found_by_the_key_of_the_service(tmp_path: Path) -> None:
    import urllib.parse
    import urllib.request

    with Emulator(tmp_path / "tables", client_id="id", client_secret="s") as service:
        form = {"grant_type": "client_credentials", "client_id": "id", "client_secret": "s"}
        url = f"{service.unity_catalog_url}/oidc/v1/token"
        with urllib.request.urlopen(url, urllib.parse.urlencode(form).encode()) as answer:
            token = json.loads(answer.read())["access_token"]
        key = (service.data_dir / "_emulator" / "token.key").read_bytes()
    logs = tmp_path / "logs"
    logs.mkdir()
    (logs / "a.log").write_text(f"authorization: Bearer {token}\n")
    (logs / "b.log").write_text("A" * 76)
    found, _ = secrets.search(logs, key=key)
    assert found == [f"R9: a token is in {logs / 'a.log'}"]
