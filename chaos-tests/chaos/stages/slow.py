"""A slow disk makes callers wait; it loses nothing, acknowledges nothing early and fills no memory.

Method: every sync takes 0.2 to 5 seconds (`faults/intercept`), for a while, under several producers. No batch
may be acknowledged sooner after it was sent than a sync takes: an acknowledgement that is quicker did not
wait for the disk. What was sent during one sync shares the next one, so that the number of syncs stays far
below that of the batches.
"""

from __future__ import annotations

import time
from dataclasses import replace

from ..faults.intercept import SYNCS, Action, Intercept, Operation, Rule
from ..stage import Need, Stage
from ..trial import Trial

DELAYS_MS = (200, 500, 1000, 5000)
PRODUCERS = 8


def run(trial: Trial) -> None:
    """Slow syncs, then quick ones."""
    trial.service()
    intercept = Intercept(trial.directory / "intercept", trial.wal_dir)
    options = replace(trial.options(durability="sync", wait_for="stored"), producers=PRODUCERS)
    victim = trial.victim(options, prefix=intercept.prefix())
    victim.wait_for("ack", times=10)
    delay_ms = DELAYS_MS[trial.index % len(DELAYS_MS)]
    intercept.set_rules(Rule(SYNCS, Action.DELAY, delay_ms=delay_ms, part="/segment-"))
    slow_since_ns = time.monotonic_ns()
    deadline = time.monotonic() + max(4.0, delay_ms * 3 / 1000)
    syncs = intercept.count(Operation.DURABLE_WRITE)
    while time.monotonic() < deadline:
        if not victim.is_running:
            raise AssertionError(f"the victim has ended; {victim.complaints()}")
        time.sleep(0.01)
    slow_until_ns = time.monotonic_ns()
    syncs = intercept.count(Operation.DURABLE_WRITE) - syncs
    slow = [
        batch
        for batch in victim.life.batches.values()
        if batch.ack_ns is not None and batch.intent_ns > slow_since_ns and batch.ack_ns < slow_until_ns
    ]
    early = [batch.name for batch in slow if (batch.ack_ns or 0) - batch.intent_ns < delay_ms * 900_000]
    if not slow:
        raise AssertionError("nothing was acknowledged while the disk was slow, so nothing was shown")
    if early:
        raise AssertionError(
            f"R6: {len(early)} of {len(slow)} batches were acknowledged before a sync was over"
        )
    trial.count("batches acknowledged while syncs were slow", len(slow))
    trial.count("slow syncs", intercept.hits())
    intercept.heal()
    quick = victim.acknowledged
    victim.wait_for("ack", times=quick + 20)
    trial.kill(victim)
    trial.finish()


STAGES = (
    Stage(
        name="slow-disk",
        rows=(15,),
        fault="each sync takes 0.2, 0.5, 1 or 5 seconds",
        promise="callers wait, nothing is acknowledged before its sync is over, memory is bounded",
        proof="latencies of the announcements against the delay; resources are sampled",
        needs=frozenset({Need.CC}),
        trials=2,
        unit="slow syncs",
        run=run,
    ),
)
