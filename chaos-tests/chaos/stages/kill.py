"""A producer that is killed with SIGKILL at any moment loses no acknowledged row.

Method: victims on one log, one after the other, each with settings of its own, each killed at a random
moment: one in ten while it opens the log, one in ten while it closes it, the others while they send.
Nothing else goes wrong, so whatever is missing, altered or doubled beyond the window was lost by the
library.
"""

from __future__ import annotations

import time

from ..stage import Stage
from ..trial import Trial
from ..verdict import Expectations
from ..victims.options import Options
from ..victims.victim import Victim

KILLS_OF_WHEEL = 10
# A victim that has not come so far by then is killed all the same; on a busy machine nothing takes only as
# long as it should.
PATIENCE_SECS = 2.0


def kill_somewhere(trial: Trial, victim: Victim) -> None:
    """Kills a victim at a random moment.

    One in ten while it opens, one in ten while it closes, one in ten right behind the opening, the others
    some way into their work.
    """
    moment = trial.random.random()
    delay = trial.random.random()
    victim.wait_for("opening")
    if moment < 0.1:
        time.sleep(delay * 0.03)
        trial.count("kills while opening")
    elif moment < 0.2:
        victim.wait_for("ack")
        victim.command("close")
        victim.wait_for("closing")
        time.sleep(delay * 0.02)
        trial.count("kills while closing")
        if not victim.is_running:
            # It was quicker; then it has closed as it should.
            victim.wait()
            trial.count("closed before the kill")
            return
    else:
        victim.wait_for("open")
        if moment >= 0.3:
            wait_for_acknowledgements(victim, round(50**delay), PATIENCE_SECS)
        time.sleep(delay * 0.05)
    trial.kill(victim)


def wait_for_acknowledgements(victim: Victim, number: int, patience_secs: float) -> None:
    """Waits until so many batches are acknowledged, but at least for the first and otherwise not for long."""
    victim.wait_for("ack")
    deadline = time.monotonic() + patience_secs
    while victim.acknowledged < number and victim.is_running and time.monotonic() < deadline:
        time.sleep(0.002)


def run_wheel(trial: Trial) -> None:
    """Kills of the wheel; one trial in two keeps one stream, and the order is compared."""
    is_ordered = trial.index % 2 == 0
    trial.service()
    for _ in range(KILLS_OF_WHEEL):
        options: Options = trial.options(ordered=is_ordered)
        kill_somewhere(trial, trial.victim(options))
    trial.finish(expect=Expectations(ordered=is_ordered))


STAGES = (
    Stage(
        name="kill-wheel",
        rows=(1, 28, 30),
        fault="SIGKILL of a Python program at any moment, while it opens and closes the log too",
        promise="no acknowledged row is lost, none is invented or altered, order is held",
        proof="the oracle compares hashes of what was announced with the log and the Delta table",
        needs=frozenset(),
        trials=5,
        run=run_wheel,
    ),
)
