"""Exactly once is exact whichever moment of a delivery the producer dies at.

Method: a producer kills itself when it comes to a named moment of ``src/deaths.rs`` for the n-th time: a
stream is created and not recorded, requests are recorded and not sent, sent, acknowledged and not settled,
settled, refused rows are in quarantine and nothing passes them, a stream is resumed, a stream is given up.
Each moment is met three times at least. Some rows are bad, and only the service knows, so that they are
isolated. Every good row lands once, every bad one is in quarantine once.
"""

from __future__ import annotations

import contextlib
import subprocess
from dataclasses import replace

from ..rows import TABLE
from ..service import CLIENT_ID
from ..stage import Need, Stage
from ..trial import Trial
from ..verdict import Expectations

MOMENTS = ("Created", "Recorded", "Sent", "Acknowledged", "Settled", "Quarantined", "Resumed", "Void")
TIMES = 3
# What cannot be met without rows that are refused.
ABOUT_BAD_ROWS = ("Created", "Quarantined", "Void")
TRIES = 8
PATIENCE_SECS = 6.0


def run(trial: Trial) -> None:
    """Meets each moment on one log."""
    service = trial.service()
    service.sql(f"REVOKE SELECT ON TABLE {TABLE} FROM `{CLIENT_ID}`")
    moments = list(MOMENTS * TIMES)
    trial.random.shuffle(moments)
    for moment in moments:
        for _ in range(TRIES):
            if meet(trial, moment):
                break
        else:
            raise AssertionError(f"no producer has come to the moment {moment} in {TRIES} tries")
    trial.finish(expect=Expectations(exactly_once=True), settings={"validate": "off"})


def meet(trial: Trial, moment: str) -> bool:
    """Whether a producer has died at this moment; one that does not come to it is killed."""
    options = trial.options(
        delivery="exactly_once",
        durability="sync",
        validate="off",
        wait_for=trial.random.choice(["stored", "delivered"]),
        request_max_bytes=trial.random.choice([1024, 4096, 16384]),
    )
    bad_rows = trial.random.randint(2, 8) if moment in ABOUT_BAD_ROWS else 0
    victim = trial.victim(
        replace(
            options,
            producers=trial.random.randint(1, 4),
            rows=(1, 40),
            bad_rows=bad_rows,
            die_at=(moment, trial.random.randint(1, 3)),
            pause_ms=1,
        ),
        kind="rust",
    )
    with contextlib.suppress(subprocess.TimeoutExpired):
        victim.process.wait(PATIENCE_SECS)
    has_come = not victim.is_running
    status = victim.kill()
    if status != -9:
        raise AssertionError(f"the producer ended with {status}: {victim.life.events[-2:]}")
    trial.count(f"deaths at {moment}" if has_come else "kills elsewhere")
    trial.count("deaths at a named moment", has_come)
    return has_come


STAGES = (
    Stage(
        name="named-points",
        rows=(1, 20, 21),
        fault="death at each named moment of a delivery over persistent streams",
        promise="each good row lands once, each bad one is in quarantine once",
        proof="rows of the table and of quarantine are counted one by one",
        needs=frozenset({Need.RUST_VICTIM}),
        trials=1,
        run=run,
        unit="deaths at a named moment",
    ),
)
