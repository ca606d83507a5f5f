"""A producer that is stopped for a while, in the middle of anything, goes on as if nothing had been.

Method: SIGSTOP at a random moment, SIGCONT some time later, many times; in the last pause of every second
trial the producer is killed. Between two pauses more batches must be acknowledged, so nothing hangs.
"""

from __future__ import annotations

import time

from ..stage import Stage
from ..trial import Trial
from ..verdict import Expectations
from .kill import wait_for_acknowledgements

PAUSES = 5
LONGEST_SECS = 0.8


def run(trial: Trial) -> None:
    """Pauses one producer again and again."""
    trial.service()
    victim = trial.victim(trial.options(ordered=True, durability="sync", wait_for="stored"))
    for _ in range(PAUSES):
        wait_for_acknowledgements(victim, victim.acknowledged + trial.random.randint(1, 20), 2.0)
        time.sleep(trial.random.random() * 0.05)
        victim.pause()
        time.sleep(trial.random.random() * LONGEST_SECS)
        before = victim.acknowledged
        victim.resume()
        trial.count("pauses")
        if victim.wait_for("ack", times=before + 1) is None:
            raise AssertionError(f"the producer has ended after a pause: {victim.life.events[-2:]}")
    if trial.index % 2:
        victim.pause()
        trial.kill(victim)
    else:
        victim.close()
    trial.finish(expect=Expectations(ordered=True))


STAGES = (
    Stage(
        name="pause",
        rows=(15,),
        fault="SIGSTOP and SIGCONT of a producer in the middle of anything",
        promise="it goes on, nothing is lost, order is held, memory is bounded",
        proof="batches are acknowledged after each pause; the oracle compares at the end",
        needs=frozenset(),
        trials=2,
        run=run,
        unit="pauses",
    ),
)
