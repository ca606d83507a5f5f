"""Processes that share a directory lose nothing of each other's, whoever dies; a fork is refused.

Method: four victims write to one directory, each to a log of its own; one is killed and the others adopt
what it has left, another one is killed and the next process takes its directory in spite of the lock that
it held. A process that wants the directory for itself is refused and names the owner. A process that
forks calls its wrapper in the child and makes a new one there: both are refused with the error that is
documented, at once, and the parent goes on; its rows are compared like all others.
"""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from arrow_zerobus_sdk_wrapper import admin

from ..rows import TABLE
from ..stage import Need, Stage
from ..way import Way, directory_of, either, steady, until

if TYPE_CHECKING:
    from ..trial import Trial

_WRITERS = 4
_ROWS_OF_A_WRITER = 10_000_000
# What is adopted is looked for every five seconds.
_ADOPTION_SECS = 60.0
_FORK_SECS = 60.0
# Nothing listens there, and without TLS no credentials are needed.
_NOWHERE = "http://127.0.0.1:9"
_FORKING = Path(__file__).parents[1] / "victims" / "forking.py"


def writers(trial: Trial) -> None:
    """Four writers, of which two are killed."""
    way = Way(trial.service(), 0)
    victims = []
    for _ in range(_WRITERS):
        victims.append(trial.victim(steady(trial, delivery="at_least_once"), kind=either(trial)))
        # Each has numbers of its own.
        trial.oracle.next_id += _ROWS_OF_A_WRITER
    directories = [directory_of(victim) for victim in victims]
    if len(set(directories)) != _WRITERS:
        raise AssertionError(f"two writers have one log: {directories}")
    for victim in victims:
        way.wait_for_acknowledgements(10, "beside others", victim)

    refused = trial.victim(steady(trial, exclusive=True))
    said = refused.wait_for("failed")
    if (
        said is None
        or said["error"] != "LockedError"
        or not any(str(v.pid) in said["message"] for v in victims)
    ):
        raise AssertionError(f"an exclusive owner beside others was told {said}; {refused.complaints()}")
    refused.wait()
    trial.count("owners refused")
    trial.count("faults")

    # With rows that wait in its log when it dies.
    service = way.service
    service.kill()
    way.wait_for_acknowledgements(5, "without a service", victims[0])
    trial.kill(victims[0])
    service.start()
    trial.count("writers killed beside others")

    def waiting() -> int:
        (status,) = admin.status(directories[0])
        return status.rows.waiting

    if not waiting():
        raise AssertionError("nothing was shown: nothing waits in the log of the dead")
    until(lambda: waiting() == 0, lambda: f"others that deliver {waiting()} rows of the dead", _ADOPTION_SECS)
    trial.count("logs adopted")
    trial.count("faults")

    trial.kill(victims[1])
    next_one = trial.victim(steady(trial, delivery="at_least_once"))
    taken = directory_of(next_one)
    if taken not in directories[:2]:
        raise AssertionError(f"the next owner has {taken} and not the log of a dead one, {directories[:2]}")
    trial.count("stale locks taken over")
    trial.count("faults")
    way.wait_for_acknowledgements(5, "in the log of a dead one", next_one)
    for victim in (*victims[2:], next_one):
        trial.kill(victim)


def fork(trial: Trial) -> None:
    """A process that forks. It reaches no service, so its rows are nobody's concern."""
    settings = {
        "endpoint": _NOWHERE,
        "table_name": TABLE,
        "wal_dir": str(trial.directory / "forking"),
        "shutdown_timeout_secs": 0,
    }
    done = subprocess.run(
        [sys.executable, str(_FORKING)],
        input=json.dumps(settings),
        capture_output=True,
        text=True,
        check=False,
        timeout=_FORK_SECS,
    )
    told = json.loads(done.stdout) if done.returncode == 0 else None
    wanted = {"send": "ForkedProcessError", "constructor": "ForkedProcessError", "parent": "stored"}
    if told != wanted:
        raise AssertionError(f"a process that forks told {told}, not {wanted}: {done.stderr}")
    trial.count("forks refused")
    trial.count("faults")


def run(trial: Trial) -> None:
    """Writers, and a fork beside them."""
    fork(trial)
    writers(trial)
    trial.finish()


STAGES = (
    Stage(
        name="processes",
        rows=(23,),
        fault="four processes on one directory, of which two are killed; one that wants it for itself; a "
        "fork",
        promise="each has a log of its own, what a dead one leaves is delivered by the others, its lock is "
        "taken over; an exclusive owner and a forked child are refused with an error of their own",
        proof="writer directories as the owners name them, the dead one's log as the others drain it, the "
        "table",
        needs=frozenset({Need.RUST_VICTIM}),
        trials=1,
        run=run,
        unit="faults",
    ),
)
