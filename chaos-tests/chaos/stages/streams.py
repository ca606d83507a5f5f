"""Of a killed producer with several streams only what was on its way lands twice.

Method: the stream that is opened first gets no acknowledgement, so the others go as far ahead of it as they
may. When they come no further, the producer is killed. What lands twice at the end is at most the windows
of all streams, however much was delivered ahead of the one that hangs.
"""

from __future__ import annotations

import time
from dataclasses import replace

from arrow_zerobus_sdk_wrapper import admin

from ..stage import Need, Stage
from ..trial import Trial
from ..verdict import Expectations
from ..victims.victim import DEADLINE_SECS

KILLS = 3
REQUEST_BYTES = 4096
WINDOW = 2
# A request holds at least and at most so many rows: a row has at most 97 + 17 bytes of text, and at least 17.
ROWS_OF_REQUEST = (30, 180)


def run(trial: Trial) -> None:
    """Kills producers of which one stream hangs."""
    service = trial.service()
    allowed = 0
    for _ in range(KILLS):
        streams = trial.random.randint(2, 4)
        service.faults({"fault": "withhold_acks", "times": 1}, clear=True)
        before = delivered(trial)
        options = trial.options(
            durability="sync",
            streams=streams,
            transport="protobuf",
            compression=None,
            max_inflight_requests=WINDOW,
            request_max_bytes=REQUEST_BYTES,
            stream_max_age_secs=600,
            wait_for="stored",
        )
        victim = trial.victim(replace(options, producers=1, rows=(20, 200)), kind="rust")
        victim.wait_for("open")
        far = before + 2 * streams * WINDOW * ROWS_OF_REQUEST[0]
        last, still = 0, 0
        deadline = time.monotonic() + DEADLINE_SECS
        # Until nothing comes any more: then the ledger knows all that was acknowledged.
        while last < far or still < 5:
            if time.monotonic() > deadline:
                raise AssertionError(
                    f"{last} rows are delivered, {far} should be ahead of the stream that hangs"
                )
            time.sleep(0.02)
            now = delivered(trial)
            last, still = now, still + 1 if now == last else 0
        trial.kill(victim)
        trial.count("rows delivered ahead", last - before)
        allowed += streams * WINDOW * ROWS_OF_REQUEST[1]
    trial.finish(expect=Expectations(duplicates_max=allowed))
    if not trial.counts["rows landed again"]:
        raise AssertionError("nothing was on its way, so nothing was shown")


def delivered(trial: Trial) -> int:
    """How many rows the live owner, or the ledger of a dead one, knows as delivered."""
    if not trial.wal_dir.exists():
        return 0
    return sum(status.rows.delivered for status in admin.status(trial.wal_dir))


STAGES = (
    Stage(
        name="kill-streams",
        rows=(1,),
        fault="SIGKILL of a producer of which one stream hangs and the others are ahead",
        promise="at most what was on its way lands twice",
        proof="rows that landed again are counted, and bounded by the windows of the streams",
        needs=frozenset({Need.RUST_VICTIM}),
        trials=2,
        run=run,
        unit="kills",
    ),
)
