"""A power cut loses no acknowledged row, on a real ext4 and a real XFS.

Method: the log is on an image of its own, the service is not. Victims run on it one after the other, each
with settings of its own, and each time the power goes: one time in ten while the log is opened, so that a
recovery is cut too, one in ten while it is closed, otherwise some way into the work. The file system is
mounted again with all its own repair, and the next victim opens what is there. In one trial of two the
service is away until the end, so that everything that was promised is only in the log; in the others it takes
rows meanwhile, so that segments are freed and what a cut brings back of them is seen. What was acknowledged
after the cut began is counted as ambiguous.
"""

from __future__ import annotations

import time
from pathlib import Path

from ..faults.mounts import Kind
from ..faults.power_cut import PowerCut
from ..stage import Need, Stage
from ..trial import Trial
from ..verdict import Expectations
from ..victims.victim import Victim
from .kill import wait_for_acknowledgements

# A victim that has not come so far by then is cut off all the same.
PATIENCE_SECS = 2.0
ACKNOWLEDGED_MAX = 60


def kind_of_victim(number: int) -> str:
    """One victim in four is the wheel; the others start faster."""
    return "wheel" if number % 4 == 0 else "rust"


def wait_for_a_moment(trial: Trial, victim: Victim) -> None:
    """Lets a victim come to where it is hit: while it opens, while it closes, or some way into its work."""
    moment, delay = trial.random.random(), trial.random.random()
    victim.wait_for("opening")
    if moment < 0.1:
        time.sleep(delay * 0.03)
        trial.count("hit while opening")
        return
    victim.wait_for("open")
    wait_for_acknowledgements(victim, round(ACKNOWLEDGED_MAX**delay), PATIENCE_SECS)
    if moment < 0.2:
        victim.command("close")
        victim.wait_for("closing")
        trial.count("hit while closing")
    time.sleep(delay * 0.02)


def run(trial: Trial, kind: Kind, cuts: int) -> None:
    """Cuts the power so many times under one log."""
    is_away = trial.index % 2 == 0
    service = trial.service()
    if is_away:
        service.kill()
    power = PowerCut(trial.directory / "power", kind)
    with power.mount:
        wal_dir: Path = power.mount.directory / "wal"
        with trial.kept(power.mount.directory):
            for number in range(cuts):
                options = trial.options(ordered=is_away)
                if is_away:
                    options = options.with_settings(wait_for="stored")
                victim = trial.victim(options, wal_dir=wal_dir, kind=kind_of_victim(number))
                wait_for_a_moment(trial, victim)
                before_ns = power.cut()
                victim.kill()
                # Now that everything it said is heard.
                trial.oracle.cut(victim.life, before_ns)
                power.restore()
                trial.count("power cuts")
                promised = sum(batch.is_promised for batch in victim.life.batches.values())
                trial.count("batches acknowledged before a cut", promised)
            trial.finish(wal_dir, expect=Expectations(ordered=is_away))


def stage(kind: Kind, need: Need, trials: int) -> Stage:
    """The stage on this file system."""
    return Stage(
        name=f"power-cut-{kind}",
        rows=(2, 24, 28, 29, 30),
        fault=f"the power goes at any moment ({kind}, by the shutdown ioctl, its journal not flushed)",
        promise="no acknowledged row is lost; what was not acknowledged is there as a whole or not at all",
        proof="mounted again with its own recovery; announcements compared with the table",
        needs=frozenset({Need.ROOT, Need.LOOP, need, Need.RUST_VICTIM}),
        trials=trials,
        unit="power cuts",
        run=lambda trial: run(trial, kind, cuts=30 if kind == "ext4" else 15),
    )


STAGES = (stage("ext4", Need.EXT4, 10), stage("xfs", Need.XFS, 4))
