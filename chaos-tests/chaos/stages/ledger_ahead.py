"""A ledger that is ahead of its log costs no row, and no number is given twice.

Method: a log is delivered to its end, and its segments are kept aside; more is delivered, and the segments
are put back as they were, so that the ledger knows of numbers that the log does not have, as after a cut
that took frames which were delivered. The next owner sends while the service is away. What it was promised
must land, under numbers that were never used; a number that the ledger knows would count as settled, and
the row would be lost in silence.
"""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path

from ..stage import Need, Stage
from ..trial import Trial
from ..verdict import Expectations
from ..victims.options import Options

BATCHES = 12


def run(trial: Trial) -> None:
    """Puts an older log under a newer ledger, and goes on."""
    service = trial.service()
    options = replace(
        trial.options(
            ordered=True,
            durability="sync",
            wait_for="stored",
            retain_delivered_bytes=0,
            shutdown_timeout_secs=10,
        ),
        rows=(1, 50),
        batches=BATCHES,
    )
    log = deliver(trial, options)
    before = log.with_name("segments-of-before")
    before.mkdir()
    for path in log.glob("segment-*"):
        shutil.copy2(path, before)
    deliver(trial, options)
    for path in log.glob("segment-*"):
        path.unlink()
    for path in before.iterdir():
        shutil.move(path, log)
    before.rmdir()
    service.kill()
    third = trial.victim(replace(options, batches=None), kind="rust")
    if third.wait_for("ack", times=BATCHES) is None:
        raise AssertionError(f"the log cannot be opened any more: {third.life.events[-1]}")
    trial.kill(third)
    trial.count("ledgers ahead")
    trial.finish(expect=Expectations(ordered=True, damage_reported=True))


def deliver(trial: Trial, options: Options) -> Path:
    """Sends some batches and waits until they are delivered; the writer directory."""
    victim = trial.victim(options, kind="rust")
    victim.wait_for("ack", times=BATCHES)
    victim.command("drain")
    victim.wait_for("drained")
    opened = victim.heard("open")
    victim.close()
    return Path(str((opened or {})["directory"]))


STAGES = (
    Stage(
        name="ledger-ahead",
        rows=(22,),
        fault="the ledger knows of frames that the log does not have",
        promise="no row is lost, and no number is given twice",
        proof="announcements and their numbers compared with the log and the table",
        needs=frozenset({Need.RUST_VICTIM}),
        trials=2,
        run=run,
        unit="ledgers ahead",
    ),
)
