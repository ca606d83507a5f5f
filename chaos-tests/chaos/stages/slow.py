"""A slow disk makes callers wait; it loses nothing, acknowledges nothing early and fills no memory.

Method: every sync takes 0.2 to 5 seconds (`faults/intercept`), for a while, under several producers. No batch
may be acknowledged sooner after it was sent than a sync takes: an acknowledgement that is quicker did not
wait for the disk. What is looked at was sent while the disk was slow, and there must be some of it.
"""

from __future__ import annotations

import time
from dataclasses import replace

from ..announcements import Batch
from ..faults.intercept import SYNCS, Action, Intercept, Rule
from ..stage import Need, Stage
from ..trial import Trial

DELAYS_MS = (200, 500, 1000, 5000)
PRODUCERS = 8
# Of its header, its frames and its footer.
SYNCS_PER_SEGMENT = 3


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

    def acknowledged() -> list[Batch]:
        """What was sent and acknowledged since then."""
        batches = list(victim.life.batches.values())
        return [batch for batch in batches if batch.ack_ns is not None and batch.intent_ns > slow_since_ns]

    deadline = time.monotonic() + max(4.0, delay_ms * 3 / 1000)
    # Where a segment holds one batch, each of those that wait before it takes a few syncs of its own.
    latest = deadline + PRODUCERS * SYNCS_PER_SEGMENT * delay_ms / 1000
    while time.monotonic() < deadline or (time.monotonic() < latest and not acknowledged()):
        if not victim.is_running:
            raise AssertionError(f"the victim has ended; {victim.complaints()}")
        time.sleep(0.01)
    slow = acknowledged()
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
