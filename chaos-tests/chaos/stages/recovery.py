"""A recovery that is killed again and again can be done again: nothing is lost and nothing is added.

Method: a producer is killed with a backlog and with rows in quarantine. Then openings are killed one after
the other at a random moment, until at least six in a row were killed before they were done. What the log
holds is compared before and after: the same frames, the same rows in quarantine, no file that was set
aside.
"""

from __future__ import annotations

import time
from dataclasses import replace

from .. import wal_reader
from ..stage import Need, Stage
from ..trial import Trial
from ..verdict import Expectations
from .kill import wait_for_acknowledgements

KILLS_IN_A_ROW = 6
TRIES = 60


def run(trial: Trial) -> None:
    """Kills openings in a row."""
    service = trial.service()
    bad = replace(
        trial.options(durability="sync", retain_delivered_bytes=0, wait_for="stored"),
        bad_rows=5,
        producers=2,
        rows=(1, 30),
    )
    filling = trial.victim(bad, kind="rust")
    wait_for_acknowledgements(filling, 40, 5.0)
    # Rows are in quarantine, and more wait behind them.
    deadline = time.monotonic() + 20
    while not list(trial.wal_dir.glob("*/*/quarantine/*.arrow")) and time.monotonic() < deadline:
        time.sleep(0.01)
    service.kill()
    before_ack = filling.acknowledged
    if filling.wait_for("ack", times=before_ack + 20) is None:
        raise AssertionError(f"the producer has ended: {filling.life.events[-2:]}")
    trial.kill(filling)
    frames, quarantined, names = contents(trial)
    took_secs = 0.05
    in_a_row = most = 0
    for _ in range(TRIES):
        victim = trial.victim(
            replace(trial.options(durability="sync", retain_delivered_bytes=0), producers=0), kind="rust"
        )
        victim.wait_for("opening")
        started = time.monotonic()
        time.sleep(trial.random.random() * took_secs)
        trial.kill(victim)
        if victim.heard("open") is None:
            in_a_row += 1
        else:
            # It was done already: the next ones are killed earlier.
            took_secs = max(0.002, (time.monotonic() - started) * 0.7)
            in_a_row = 0
        most = max(most, in_a_row)
        if most >= KILLS_IN_A_ROW:
            break
    if most < KILLS_IN_A_ROW:
        raise AssertionError(f"at most {most} openings in a row were killed in their middle")
    trial.count("openings killed in a row", most)
    after = contents(trial)
    if after[0] != frames or after[1] != quarantined or after[2] - names:
        raise AssertionError(
            f"before: {len(frames)} frames, {len(quarantined)} rows in quarantine; "
            f"after: {len(after[0])} and {len(after[1])}; new names: {after[2] - names}"
        )
    trial.finish(expect=Expectations())


def contents(trial: Trial) -> tuple[dict[int, object], list[object], set[str]]:
    """What the log holds: its frames, its quarantine, and the names of what recoveries set aside."""
    (log,) = wal_reader.logs(trial.wal_dir)
    frames: dict[int, object] = {frame.lsn: frame.rows for frame in log.frames}
    names = {path.name for path in log.directory.iterdir()}
    aside = {name for name in names if "set-aside" in name or "damaged" in name}
    return frames, sorted(log.quarantined, key=str), aside


STAGES = (
    Stage(
        name="recovery",
        rows=(29,),
        fault="SIGKILL in the middle of one opening after the other, six in a row at least",
        promise="nothing is lost, nothing is added, the quarantine does not grow",
        proof="frames and quarantine are read by the oracle before and after; everything drains in the end",
        needs=frozenset({Need.RUST_VICTIM}),
        trials=2,
        run=run,
        unit="openings killed in a row",
    ),
)
