"""A ledger that is lost, old, damaged or foreign costs rows that land twice, never a row, never a number.

Method: a log is delivered in part; its ledger is kept aside at one moment, and more is delivered, so that the
kept one is old. The victim is killed with rows waiting, something is done to the ledger, and the next owner
goes on: it must take rows, under numbers that were never used. Everything that landed twice was still in a
segment, so the rows of the frames that are there bound the duplicates.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path
from random import Random

from .. import wal_reader
from ..stage import Need, Stage
from ..trial import Trial
from ..verdict import Expectations

Harm = Callable[[Path, Path, Random], None]


def lost(ledger: Path, _old: Path, _random: Random) -> None:
    """It is gone."""
    shutil.rmtree(ledger)


def old(ledger: Path, old: Path, _random: Random) -> None:
    """It is the one of a while ago."""
    shutil.rmtree(ledger)
    shutil.copytree(old, ledger)


def of_another_log(ledger: Path, old: Path, random: Random) -> None:
    """It belongs to a log with another epoch, whose segments are still those of this one."""
    del old
    log = ledger.parent / "LOG"
    epoch = random.randbytes(8).hex()
    text = log.read_text()
    at = text.index('"epoch"') + len('"epoch": "')
    other = ledger.with_name("ledger-of-another")
    shutil.copytree(ledger, other)
    data = (other / "db").read_bytes()
    old_epoch = bytes.fromhex(text[at : at + 16])
    (other / "db").write_bytes(data.replace(old_epoch, bytes.fromhex(epoch)))
    shutil.rmtree(ledger)
    other.rename(ledger)


def garbage(ledger: Path, _old: Path, random: Random) -> None:
    """Its file is overwritten from some place on."""
    path = ledger / "db"
    size = path.stat().st_size
    with path.open("r+b") as file:
        file.seek(random.randrange(size))
        file.write(random.randbytes(4096))


def bits(ledger: Path, _old: Path, random: Random) -> None:
    """Some bits of its file flip."""
    path = ledger / "db"
    data = bytearray(path.read_bytes())
    for _ in range(16):
        data[random.randrange(len(data))] ^= 1 << random.randrange(8)
    path.write_bytes(data)


def cut(ledger: Path, _old: Path, random: Random) -> None:
    """Its file ends too early."""
    path = ledger / "db"
    with path.open("r+b") as file:
        file.truncate(random.randrange(path.stat().st_size))


def empty(ledger: Path, _old: Path, _random: Random) -> None:
    """Its file has no bytes."""
    (ledger / "db").write_bytes(b"")


def no_conf(ledger: Path, _old: Path, random: Random) -> None:
    """The other file of sled is garbage."""
    (ledger / "conf").write_bytes(random.randbytes(64))


HARMS: dict[str, Harm] = {
    "lost": lost,
    "old": old,
    "of-another-log": of_another_log,
    "garbage": garbage,
    "bits": bits,
    "cut": cut,
    "empty": empty,
    "conf": no_conf,
}


def run(trial: Trial, harm: Harm) -> None:
    """Harms the ledger once, and goes on."""
    service = trial.service()
    settings = {"wait_for": "stored", "durability": "sync", "segment_bytes": 64 << 10, "streams": 1}
    options = replace(trial.options(**settings, retain_delivered_bytes=0), rows=(20, 100))
    first = trial.victim(options, kind="rust")
    first.wait_for("ack", times=10)
    first.command("drain")
    first.wait_for("drained")
    directory = Path(str((first.heard("open") or {})["directory"]))
    first.close()
    kept = trial.directory / "ledger-of-before"
    shutil.copytree(directory / "ledger", kept)
    second = trial.victim(options, kind="rust")
    second.wait_for("ack", times=10)
    second.command("drain")
    second.wait_for("drained")
    second.close()
    service.kill()
    third = trial.victim(options, kind="wheel")
    third.wait_for("ack", times=5)
    trial.kill(third)
    harm(directory / "ledger", kept, trial.random)
    in_segments = sum(len(frame.rows) for log in wal_reader.logs(trial.wal_dir) for frame in log.frames)
    fourth = trial.victim(options, kind="rust")
    if fourth.wait_for("ack", times=5) is None:
        raise AssertionError(f"the log cannot be opened any more: {fourth.life.events[-1]}")
    trial.kill(fourth)
    trial.finish(expect=Expectations(damage_reported=True, duplicates_max=in_segments))


STAGES = tuple(
    Stage(
        name=f"ledger-{name}",
        rows=(22,),
        fault=f"the ledger: {(harm.__doc__ or '').rstrip('.').lower()}",
        promise="rows of the frames that are there may land twice; none is lost, no number given twice",
        proof="announcements and their numbers compared with the log and the table",
        needs=frozenset({Need.RUST_VICTIM}),
        trials=1,
        run=partial(run, harm=harm),
    )
    for name, harm in HARMS.items()
)
