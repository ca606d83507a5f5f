"""Was every promise kept?

Compares what the victims announced with what is in the log, in quarantine and in the Delta table.
Everything here is a plain function of those, so that the oracle's own tests can give it losses, inventions
and the rest, and see that it tells.

*Promised* is a batch that was acknowledged and that no cut of the disk makes doubtful. A batch that is not
promised may be there or not, but only as a whole and as it was sent. What is doubtful is counted, never
left out.
"""

from __future__ import annotations

from bisect import bisect_right
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any

from .announcements import Batch
from .delta_reader import Landed
from .rows import content, digest
from .wal_reader import Log

# So many examples of each kind are told.
_EXAMPLES = 5


@dataclass(frozen=True)
class Expectations:
    """What a trial lets pass, because it has done the harm itself.

    Attributes:
        exactly_once: Every life delivered exactly once: no row is there twice.
        ordered: Every life had one stream: rows stand in the order of their numbers.
        dropping: The victims may drop what waits longest; what is missing is at most what they counted.
        damaged: Frames that the trial has damaged, as directory and LSN: they may be missing.
        damage_reported: Whether ``status()["damage"]`` may name something.
        ledger_lost: A ledger was set aside, as after an error in it: what it had counted is gone.
        duplicates_max: How many rows may be there once too often; None: as many as there are, counted.
        refused: Rows that the service was told to refuse: they belong into quarantine, as they were sent.
    """

    exactly_once: bool = False
    ordered: bool = False
    dropping: bool = False
    damaged: frozenset[tuple[str, int]] = frozenset()
    damage_reported: bool = False
    ledger_lost: bool = False
    duplicates_max: int | None = None
    refused: frozenset[int] = frozenset()


@dataclass
class Verdict:
    """What was found.

    Attributes:
        problems: Broken promises, each a sentence.
        figures: Counts for the report.
    """

    problems: list[str] = field(default_factory=list)
    figures: Counter[str] = field(default_factory=Counter)

    def broken(self, rule: str, what: str, examples: Sequence[object]) -> None:
        """Adds a problem if there are examples of it."""
        if examples:
            shown = ", ".join(str(example) for example in examples[:_EXAMPLES])
            self.problems.append(f"{rule}: {len(examples)} {what}: {shown}")

    def require(self) -> None:
        """Raises what is broken.

        Raises:
            AssertionError: With every problem and the figures.
        """
        if self.problems:
            told = "\n".join(self.problems)
            raise AssertionError(f"{told}\nfigures: {dict(self.figures)}")


class _Batches:
    """Finds the batch of a row."""

    def __init__(self, batches: Iterable[Batch]) -> None:
        self.all = sorted(batches, key=lambda batch: batch.first)
        self._firsts = [batch.first for batch in self.all]

    def of(self, row_id: int) -> Batch | None:
        at = bisect_right(self._firsts, row_id) - 1
        if at < 0 or row_id >= self._firsts[at] + self.all[at].rows:
            return None
        return self.all[at]


def judge(
    batches: Sequence[Batch],
    landed: Landed,
    quarantine: Sequence[Log],
    statuses: Sequence[dict[str, Any]],
    expect: Expectations,
    at_rest: Sequence[Log] = (),
) -> Verdict:
    """Judges a log that was drained to the end.

    Args:
        batches: Everything that was announced.
        landed: The Delta table.
        quarantine: The logs as they are now, for what is in quarantine.
        statuses: What ``status()`` says of each writer directory now.
        expect: What may be.
        at_rest: The logs as they were before the last drain, to tell where a batch was lost.
    """
    verdict = Verdict()
    known = _Batches(batches)
    places = _judge_rows(verdict, known, landed)
    refused = {row_id: text for log in quarantine for _, _, row_id, text, _ in log.quarantined}
    _judge_quarantine(verdict, known, quarantine, places, expect.refused)
    _judge_batches(verdict, known, places, refused, expect, at_rest, statuses)
    _judge_duplicates(verdict, places, expect)
    _judge_numbers(verdict, known.all, places)
    if expect.ordered:
        _judge_order(verdict, known.all, places)
    _judge_status(verdict, known.all, places, refused, statuses, expect)
    return verdict


def judge_logs(
    batches: Sequence[Batch], logs: Sequence[Log], expect: Expectations, *, was_cut: bool = False
) -> Verdict:
    """Judges the frames of logs that nobody owns.

    Each is a whole batch as it was sent, under the number that was told, none is there twice, and there is no
    gap, unless the disk was cut or has failed: then a number may be gone with a frame that was not promised.
    """
    verdict = Verdict()
    known = _Batches(batches)
    if not expect.damage_reported and not expect.damaged:
        verdict.broken("R7", "places in the log are damaged", [text for log in logs for text in log.problems])
    invented, altered, numbered, twice = [], [], [], []
    for log in logs:
        numbers: set[int] = set()
        for frame in log.frames:
            verdict.figures["frames compared"] += 1
            if frame.lsn in numbers:
                twice.append(f"{log.directory.name} {frame.lsn}")
            numbers.add(frame.lsn)
            batch = known.of(frame.rows[0][0]) if frame.rows else None
            if batch is None:
                invented.append(f"frame {frame.lsn} of {log.directory.name}")
                continue
            rows = [(row_id, content(row_id) if row_id in batch.bad else text) for row_id, text in frame.rows]
            if [row_id for row_id, _ in rows] != list(batch.ids) or digest_of(rows) != batch.digest:
                altered.append(f"batch {batch.name} in frame {frame.lsn}")
            if batch.is_promised and batch.directory == str(log.directory) and batch.lsn != frame.lsn:
                numbered.append(f"batch {batch.name} was told {batch.lsn} and is {frame.lsn}")
    has_failed = any(batch.refused and not batch.refused.startswith("Closed") for batch in batches)
    if not (was_cut or has_failed or expect.damaged or expect.damage_reported):
        verdict.broken("R3", "gaps in the numbers of the log", gaps(logs))
    verdict.broken("R2", "frames in the log were never announced", invented)
    verdict.broken("R2", "frames in the log are not as they were sent", altered)
    verdict.broken("R10", "frames have another number than was told", numbered)
    verdict.broken("R10", "numbers of frames are there twice", twice)
    return verdict


def gaps(logs: Sequence[Log]) -> list[str]:
    """Where the numbers of frames leap."""
    return [
        f"{log.directory.name}: {after.lsn} follows {before.lsn}"
        for log in logs
        for before, after in pairwise(log.frames)
        if after.lsn > before.lsn + 1
    ]


def digest_of(rows: Iterable[tuple[int, str | None]]) -> str:
    """The hash of rows that were found; a missing text is none that was sent."""
    return digest((row_id, "\0missing" if text is None else text) for row_id, text in rows)


Places = dict[int, list[tuple[int, str | None]]]


def _judge_rows(verdict: Verdict, known: _Batches, landed: Landed) -> Places:
    """Every row that landed was sent, and is as it was sent; where each of them stands."""
    places: Places = {}
    invented, altered = [], []
    for place, (version, row_id, text) in enumerate(landed.rows):
        batch = known.of(row_id)
        if batch is None:
            invented.append(f"row {row_id} of commit {version}")
            continue
        if text != content(row_id):
            altered.append(f"row {row_id} of commit {version} is {text!r}")
        places.setdefault(row_id, []).append((place, text))
    verdict.figures["rows compared"] += len(landed.rows)
    verdict.figures["rows landed"] += len(places)
    verdict.broken("R2", "rows landed that were never announced", invented)
    verdict.broken("R2", "rows landed altered", altered)
    return places


def _judge_quarantine(
    verdict: Verdict, known: _Batches, logs: Sequence[Log], places: Places, may_be: frozenset[int]
) -> None:
    wrong, landed, twice = [], [], []
    seen: set[int] = set()
    for log in logs:
        for lsn, at, row_id, text, code in log.quarantined:
            verdict.figures["rows quarantined"] += 1
            batch = known.of(row_id)
            is_expected = batch is not None and (row_id in batch.bad or row_id in may_be)
            if batch is None or not is_expected or row_id != batch.first + at:
                wrong.append(f"row {row_id}, {text!r}, of frame {lsn} as {code}")
            if row_id in places:
                landed.append(row_id)
            if row_id in seen:
                twice.append(row_id)
            seen.add(row_id)
    verdict.broken("R2", "rows are in quarantine that are good, or were never announced", wrong)
    verdict.broken("R2", "rows are in quarantine and in the table", landed)
    verdict.broken("R2", "rows are in quarantine twice", twice)


def _judge_batches(
    verdict: Verdict,
    known: _Batches,
    places: Places,
    refused: dict[int, str | None],
    expect: Expectations,
    at_rest: Sequence[Log],
    statuses: Sequence[dict[str, Any]],
) -> None:
    """What is promised is there, and everything is there as a whole or not at all."""
    in_log = {row_id for log in at_rest for frame in log.frames for row_id, _ in frame.rows}
    lost, half, altered, landed_bad = [], [], [], []
    missing_rows = 0
    for batch in known.all:
        missing = [row_id for row_id in batch.ids if row_id not in places and row_id not in refused]
        landed_bad += [row_id for row_id in batch.bad if row_id in places]
        verdict.figures["batches announced"] += 1
        verdict.figures["batches acknowledged"] += batch.ack_ns is not None
        verdict.figures["batches refused"] += batch.refused is not None
        verdict.figures["batches ambiguous"] += batch.ambiguous is not None
        verdict.figures["batches ambiguous and gone"] += batch.ambiguous is not None and bool(missing)
        if not missing:
            # Of a bad row the text was taken away before it was sent, and not before it was hashed.
            there = {row_id: found[0][1] for row_id in batch.ids if (found := places.get(row_id))}
            found = [
                (row_id, content(row_id) if row_id in batch.bad else there.get(row_id, refused.get(row_id)))
                for row_id in batch.ids
            ]
            if digest_of(found) != batch.digest:
                altered.append(f"batch {batch.name}")
        elif batch.directory is not None and (batch.directory, batch.lsn) in expect.damaged:
            verdict.figures["batches damaged on purpose"] += 1
        elif batch.is_promised and not expect.dropping:
            where = (
                "was in the log before the last drain"
                if missing[0] in in_log
                else "was not in the log either"
            )
            lost.append(f"batch {batch.name}, LSN {batch.lsn}, {len(missing)} of {batch.rows} rows, {where}")
        elif len(missing) < batch.rows and batch.may_be_halved:
            verdict.figures["batches of durability os halved"] += 1
        elif len(missing) < batch.rows and not expect.dropping:
            half.append(f"batch {batch.name}: {len(missing)} of {batch.rows} rows are missing")
        if batch.is_promised:
            missing_rows += len(missing)
    verdict.broken("R1", "acknowledged batches are lost", lost)
    verdict.broken("R3", "batches are there by halves", half)
    verdict.broken("R2", "batches have another hash than they were announced with", altered)
    verdict.broken("R2", "rows landed that the table does not take", landed_bad)
    if expect.dropping:
        dropped = sum(status["rows"]["dropped"] for status in statuses)
        verdict.figures["rows dropped"] += dropped
        if missing_rows > dropped:
            verdict.problems.append(
                f"R1: {missing_rows} acknowledged rows are missing and {dropped} were dropped"
            )


def _judge_duplicates(verdict: Verdict, places: Places, expect: Expectations) -> None:
    twice = [row_id for row_id, found in places.items() if len(found) > 1]
    extra = sum(len(found) - 1 for found in places.values())
    verdict.figures["rows landed again"] += extra
    if expect.exactly_once:
        verdict.broken("R5", "rows landed more than once", twice)
    if expect.duplicates_max is not None and extra > expect.duplicates_max:
        verdict.problems.append(
            f"R4: {extra} rows landed again, at most {expect.duplicates_max} were on their way"
        )


def _judge_numbers(verdict: Verdict, batches: Sequence[Batch], places: Places) -> None:
    """No number has two contents, and a producer's numbers ascend."""
    owners: dict[tuple[str, int], str] = {}
    twice, back = [], []
    last: dict[tuple[str, str], int] = {}
    for batch in sorted(batches, key=lambda batch: batch.intent_ns):
        if batch.lsn is None or batch.directory is None or not (batch.is_promised or batch.first in places):
            continue
        if batch.ambiguous is not None and not batch.durable:
            # It may have been delivered, and then a cut has taken its frame from a log that was told not to
            # sync it, and the record of its delivery: nothing knows that its number was used.
            continue
        owner = owners.setdefault((batch.directory, batch.lsn), batch.name)
        if owner != batch.name:
            twice.append(f"{batch.lsn} for {owner} and {batch.name}")
        producer = (batch.directory, batch.producer)
        if batch.lsn <= last.get(producer, 0):
            back.append(f"{batch.lsn} of {batch.name} after {last[producer]}")
        last[producer] = batch.lsn
    verdict.broken("R10", "numbers were given to two batches", twice)
    verdict.broken("R3", "numbers of a producer do not ascend", back)


def _judge_order(verdict: Verdict, batches: Sequence[Batch], places: Places) -> None:
    """With one stream, what landed first of each batch stands in the order of the numbers."""
    disordered = []
    last: dict[str, tuple[int, int]] = {}
    counted = [batch for batch in batches if batch.lsn is not None and batch.directory is not None]
    for batch in sorted(counted, key=lambda batch: (batch.directory, batch.lsn)):
        directory = str(batch.directory)
        for row_id in batch.ids:
            if row_id not in places:
                continue
            place = places[row_id][0][0]
            before = last.get(directory, (-1, 0))
            if place < before[0]:
                disordered.append(f"row {row_id} of LSN {batch.lsn} stands before row {before[1]}")
            last[directory] = max(before, (place, row_id))
    verdict.figures["rows in order"] += len(places)
    verdict.broken("R3", "rows are out of order", disordered)


def _judge_status(
    verdict: Verdict,
    batches: Sequence[Batch],
    places: Places,
    refused: dict[int, str | None],
    statuses: Sequence[dict[str, Any]],
    expect: Expectations,
) -> None:
    """[I6]: every stored row is counted, in one place."""
    total: Counter[str] = Counter()
    for status in statuses:
        rows = status["rows"]
        total.update(rows)
        parts = rows["delivered"] + rows["quarantined"] + rows["dropped"] + rows["waiting"]
        # The rows of a frame that cannot be read are in none of the places, and the frame is counted.
        is_short = rows["stored"] > parts and status.get("damaged_frames", 0) > 0
        is_harmed = bool(expect.damaged) or expect.damage_reported
        if rows["stored"] != parts and not (is_short and is_harmed):
            verdict.problems.append(f"I6: {status['directory']} counts {rows}")
        if rows["waiting"]:
            verdict.problems.append(f"R12: {rows['waiting']} rows wait in {status['directory']}")
        if rows["dropped"] and not expect.dropping:
            verdict.problems.append(f"I4: {rows['dropped']} rows were dropped in {status['directory']}")
        if status["damage"] and not expect.damage_reported and not expect.damaged:
            verdict.problems.append(f"R7: {status['directory']} reports {status['damage']}")
    is_exact = (
        not expect.damaged
        and not expect.damage_reported
        and not expect.ledger_lost
        and not any(b.ambiguous for b in batches)
    )
    if statuses and is_exact:
        found = len(places) + len([row_id for row_id in refused if row_id not in places])
        missing = total["stored"] - found
        if not (0 <= missing <= total["dropped"]):
            verdict.problems.append(
                f"I6: {total['stored']} rows are counted as stored, {found} were found; {dict(total)}"
            )
