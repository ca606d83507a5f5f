"""A bit that rots, a hole, a file that is gone or elsewhere: nobody is silent, and the rest is delivered.

Method: a log with rows that wait, with a ledger and a quarantine that say something, is copied many times;
each copy is harmed in one place. `wal_reader`, which shares nothing with the library, says whether the harm
changed anything that the log means; `zerobus-wal verify` must then say so too. At last the log itself is
harmed in a frame that waits, and drained: exactly the frames that the reader cannot read any more may be
missing in the table, and `status` must report them.
"""

from __future__ import annotations

import shutil
import zlib
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from random import Random
from typing import Any

from .. import wal_reader
from ..command import findings
from ..stage import Stage
from ..trial import Trial
from ..verdict import Expectations

COPIES = 24
BLOCK = 4096
FRAME_HEADER = 80


@dataclass(frozen=True)
class Harm:
    """One harm that is done to a copy of a log.

    Attributes:
        name: In words, for figures and errors.
        does: Does it; says what exactly it did.
        is_heard: Whether it must be told if the reader cannot see it.
    """

    name: str
    does: Callable[[Path, Random], str]
    is_heard: bool = False


def flip(path: Path, start: int, end: int, random: Random) -> str:
    """Flips one bit of the bytes from `start` up to `end`."""
    at, bit = random.randrange(start, end), random.randrange(8)
    with path.open("r+b") as file:
        file.seek(at)
        old = file.read(1)[0]
        file.seek(at)
        file.write(bytes([old ^ 1 << bit]))
    return f"bit {bit} of byte {at} of {path.name}"


def segments(directory: Path) -> list[Path]:
    """The segments of a log, the oldest first."""
    return sorted(directory.glob("segment-*.wal"))


def whole_frames(directory: Path, first_lsn: int = 1) -> list[tuple[Path, int, int]]:
    """Where the batches of a log stand, from a number on: file, offset, length with the header."""
    found = []
    for frame in wal_reader.read(directory).frames:
        if frame.lsn < first_lsn:
            continue
        header = frame.path.read_bytes()[frame.offset : frame.offset + FRAME_HEADER]
        found.append((frame.path, frame.offset, FRAME_HEADER + int.from_bytes(header[8:12], "little")))
    return found


def in_segment_header(directory: Path, random: Random) -> str:
    """Into the first block."""
    return flip(random.choice(segments(directory)), 0, BLOCK, random)


def in_frame_header(directory: Path, random: Random) -> str:
    """Into the header of a batch; one time in three into its length."""
    path, offset, _ = random.choice(whole_frames(directory))
    start, end = random.choice([(0, FRAME_HEADER), (0, FRAME_HEADER), (8, 12)])
    return flip(path, offset + start, offset + end, random)


def in_frame_body(directory: Path, random: Random) -> str:
    """Into the body of a batch."""
    path, offset, length = random.choice(whole_frames(directory))
    return flip(path, offset + FRAME_HEADER, offset + length, random)


def anywhere_in_segment(directory: Path, random: Random) -> str:
    """Anywhere in a segment: schema, footer, padding."""
    path = random.choice(segments(directory))
    return flip(path, 0, path.stat().st_size, random)


def hole(directory: Path, random: Random) -> str:
    """Zeros over a whole batch that has others behind it."""
    path, offset, length = random.choice(whole_frames(directory)[:-1])
    with path.open("r+b") as file:
        file.seek(offset)
        file.write(bytes(length))
    return f"zeros over {length} bytes at {offset} of {path.name}"


def missing(directory: Path, random: Random) -> str:
    """A segment in the middle is gone."""
    path = random.choice(segments(directory)[1:-1])
    path.unlink()
    return f"{path.name} is gone"


def truncated(directory: Path, random: Random) -> str:
    """A segment in the middle ends too early."""
    path, offset, length = random.choice(
        [frame for frame in whole_frames(directory) if frame[0] != segments(directory)[-1]]
    )
    with path.open("r+b") as file:
        file.truncate(offset + random.randrange(length))
    return f"{path.name} is cut to {path.stat().st_size} bytes"


def swapped(directory: Path, random: Random) -> str:
    """Two segments have changed places."""
    one, other = random.sample(segments(directory), 2)
    aside = one.with_name("aside")
    one.rename(aside)
    other.rename(one)
    aside.rename(other)
    return f"{one.name} and {other.name} are swapped"


def duplicated(directory: Path, random: Random) -> str:
    """A copy of a segment under the next number."""
    path = random.choice(segments(directory))
    number = int(segments(directory)[-1].stem.partition("-")[2]) + 1
    copy = path.with_name(f"segment-{number:016}.wal")
    shutil.copyfile(path, copy)
    return f"{copy.name} is a copy of {path.name}"


def foreign(directory: Path, random: Random) -> str:
    """A segment of another log under a number of this one's: its epoch is another."""
    path = random.choice(segments(directory))
    with path.open("r+b") as file:
        header = bytearray(file.read(BLOCK))
        header[16:24] = random.randbytes(8)
        header[-4:] = zlib.crc32(header[:-4]).to_bytes(4, "little")
        file.seek(0)
        file.write(header)
    return f"{path.name} has another epoch"


def in_ledger(directory: Path, random: Random) -> str:
    """Into sled's file."""
    path = directory / "ledger" / "db"
    return flip(path, 0, path.stat().st_size, random)


def in_log_file(directory: Path, random: Random) -> str:
    """Into the epoch of `LOG`."""
    path = directory / "LOG"
    start = path.read_bytes().index(b'"epoch"') + 10
    return flip(path, start, start + 16, random)


def in_quarantine(directory: Path, random: Random) -> str:
    """Into a file of refused rows."""
    path = random.choice(sorted((directory / "quarantine").glob("*.arrow")))
    return flip(path, 0, path.stat().st_size, random)


BITS = (
    Harm("a bit of a segment's header", in_segment_header),
    Harm("a bit of a frame's header", in_frame_header),
    Harm("a bit of a frame's body", in_frame_body),
    Harm("a bit anywhere in a segment", anywhere_in_segment),
)
HOLES = (Harm("zeros over a frame", hole),)
FILES = (
    Harm("a segment is missing", missing, is_heard=True),
    Harm("a segment is cut", truncated, is_heard=True),
    Harm("two segments are swapped", swapped, is_heard=True),
    Harm("a segment is copied", duplicated, is_heard=True),
    Harm("a segment is foreign", foreign, is_heard=True),
)
OTHERS = (
    Harm("a bit of the ledger", in_ledger),
    Harm("a bit of LOG", in_log_file),
    Harm("a bit of a quarantine file", in_quarantine),
)


def meaning(log: wal_reader.Log) -> tuple[list[tuple[int, Any]], int, list[Any]]:
    """What a log says: its frames, how much of it is damaged, what is in quarantine."""
    return [(frame.lsn, frame.rows) for frame in log.frames], len(log.problems), log.quarantined


def is_torn_end(before: wal_reader.Log, after: wal_reader.Log) -> bool:
    """Whether only the last frames of a log that was not closed are gone.

    Without a frame or a footer behind them they look like an append that was never finished; `verify`
    remarks them.
    """
    _, problems, quarantined = meaning(before)
    is_shorter = len(after.frames) < len(before.frames)
    is_prefix = meaning(after)[0] == meaning(before)[0][: len(after.frames)]
    return is_shorter and is_prefix and meaning(after)[1:] == (problems, quarantined)


def make_log(trial: Trial) -> Path:
    """A log with rows that are delivered, in quarantine, and waiting."""
    service = trial.service()
    options = trial.options(
        wait_for="stored", durability="sync", segment_bytes=64 << 10, validate="off", streams=1
    )
    options = replace(options.with_settings(request_max_bytes=1 << 20), rows=(50, 200), bad_rows=5)
    delivered = trial.victim(options)
    delivered.wait_for("ack", times=12)
    delivered.command("drain")
    delivered.wait_for("drained")
    delivered.close()
    service.kill()
    waiting = trial.victim(options)
    waiting.wait_for("ack", times=30)
    directory = Path(str((waiting.heard("open") or {})["directory"]))
    if trial.random.random() < 0.5:
        waiting.close()
    else:
        trial.kill(waiting)
    return directory


def run(trial: Trial, harms: tuple[Harm, ...]) -> None:
    """Harms copies, then the log itself."""
    directory = make_log(trial)
    before = wal_reader.read(directory)
    copies = trial.directory / "copies"
    done: dict[str, tuple[Harm, str]] = {}
    for number in range(COPIES):
        copy = copies / directory.parent.name / f"writer-{100 + number}"
        shutil.copytree(
            directory, copy, ignore=lambda _, names: [name for name in names if name == "owner.sock"]
        )
        harm = harms[number % len(harms)]
        done[str(copy)] = harm, harm.does(copy, trial.random)
    found = findings(copies)
    for name, (harm, what) in done.items():
        trial.count("harms")
        trial.count(f"{harm.name}: harmed")
        after = wal_reader.read(Path(name))
        is_seen = meaning(after) != meaning(before)
        if found.get(name):
            trial.count(f"{harm.name}: told")
        elif not harm.is_heard and is_torn_end(before, after):
            trial.count(f"{harm.name}: looks like an append that was never finished")
        elif is_seen or harm.is_heard:
            raise AssertionError(f"R7: {what}, and verify is silent; look at {name}")
        else:
            trial.count(f"{harm.name}: changes nothing that is read")
    shutil.rmtree(copies)
    finish_harmed(trial, directory, before)


def finish_harmed(trial: Trial, directory: Path, before: wal_reader.Log) -> None:
    """Harms a frame that waits, drains, and judges with exactly that one missing."""
    # One that waits: what is settled is not read again.
    waiting = [batch.lsn for batch in trial.victims[1].life.batches.values() if batch.lsn is not None]
    # Nor the last one: without a frame behind it, it looks like an append that was never finished.
    path, offset, length = trial.random.choice(whole_frames(directory, min(waiting))[:-1])
    what = flip(path, offset + FRAME_HEADER, offset + length, trial.random)
    left = {frame.lsn for frame in wal_reader.read(directory).frames}
    lost = {frame.lsn for frame in before.frames} - left
    drainer = trial.finish(
        expect=Expectations(damaged=frozenset((str(directory), lsn) for lsn in lost), damage_reported=True)
    )
    drained = drainer.heard("drained")
    if drained is None or not any(status["damaged_frames"] for status in drained["statuses"]):
        raise AssertionError(f"R7: {what}, and status is silent")
    trial.count("frames damaged and stepped over", len(lost))


def _stage(name: str, rows: tuple[int, ...], fault: str, trials: int, harms: tuple[Harm, ...]) -> Stage:
    return Stage(
        name=name,
        rows=rows,
        fault=fault,
        promise="never silent; only what is damaged is missing, the frames behind it are delivered",
        proof="a reader of our own says what changed, `verify` must say it too; then the log is drained",
        needs=frozenset(),
        trials=trials,
        unit="harms",
        run=partial(run, harms=harms),
    )


STAGES = (
    _stage("rot-segments", (6, 7), "one bit of a segment flips", 1, BITS + HOLES),
    _stage("rot-files", (8,), "a segment is missing, cut, swapped, copied or foreign", 1, FILES),
    _stage("rot-others", (6,), "one bit of the ledger, of LOG or of a quarantine file flips", 1, OTHERS),
)
