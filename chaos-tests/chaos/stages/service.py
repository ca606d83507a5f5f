"""A service that dies, stops or ends streams costs no row; one that forgets stops delivery and is told.

Method: a victim sends without a pause while the service is killed and stopped and comes back on the same
ports, ends streams cleanly and with errors, and signals that it will; streams are also replaced by age.
Rows must land after each restart. A trial in three gives the service an older copy of itself, so that it
has lost what it acknowledged, and then the ledger an older copy of itself, so that the service has
committed more than was recorded: nothing may land until the right copy is back.
"""

from __future__ import annotations

import shutil
from typing import TYPE_CHECKING, Any

from ..stage import Need, Stage
from ..verdict import Expectations
from ..way import Way, directory_of, either, fired, is_exact, lane, steady, until, wait_for_lane

if TYPE_CHECKING:
    from pathlib import Path

    from ..service import Service
    from ..trial import Trial
    from ..victims.victim import Victim

_RESTARTS = 11
# So often an alarm is looked at again before it counts as one that nothing lands behind.
_PROBES = 5


def rules(trial: Trial) -> list[dict[str, Any]]:
    """Ends of streams, as the service has them; how often is drawn anew after each restart."""
    seed = trial.random.randrange(2**32)
    return [
        {"fault": "close_signal", "grace_ms": 50, "probability": 0.05, "seed": seed},
        {"fault": "fail_stream", "code": "OK", "probability": 0.05, "seed": seed + 1},
        {
            "fault": "fail_stream",
            "code": "UNAVAILABLE",
            "error_code": 6002,
            "probability": 0.05,
            "seed": seed + 2,
        },
        {
            "fault": "fail_open",
            "code": "RESOURCE_EXHAUSTED",
            "error_code": 6006,
            "retry_after_ms": 50,
            "probability": 0.2,
            "seed": seed + 3,
        },
    ]


def restarts_trial(trial: Trial) -> None:
    """Restarts, with streams that end in between."""
    service = trial.service()
    options = steady(trial, stream_max_age_secs=1)
    victim = trial.victim(options, kind=either(trial))
    # It stands before nothing; only what lands is looked at.
    way = Way(service, 0)
    way.wait_for_commit("at first", victim)
    for _ in range(_RESTARTS):
        service.faults(*rules(trial))
        until(lambda: fired(service) > 0, "a stream that ends by a rule")
        way.wait_for_acknowledgements(trial.random.randrange(20), "while streams end", victim)
        for rule in service.faults():
            trial.count(rule["fault"].replace("_", " "), rule["fired"])
            trial.count("faults", rule["fired"])
        if trial.random.random() < 0.5:
            service.kill()
            trial.count("services killed")
        else:
            service.stop()
            trial.count("services stopped")
        trial.count("faults")
        way.wait_for_acknowledgements(3, "while there is no service", victim)
        service.start()
        way.wait_for_commit("after the service has come back", victim)
    trial.kill(victim)
    trial.finish(expect=Expectations(exactly_once=is_exact(options)))


def copy(source: Path, target: Path) -> None:
    """Replaces a directory by a copy of another one."""
    shutil.rmtree(target, ignore_errors=True)
    shutil.copytree(source, target)


def copy_ledger(source: Path, target: Path) -> None:
    """Replaces a ledger and its mark, without which it would be told from a newer one."""
    copy(source / "ledger", target / "ledger")
    shutil.copy(source / "ledger.mark", target / "ledger.mark")


def wait_for_alarm(trial: Trial, service: Service, victim: Victim, what: str) -> None:
    """Waits until delivery is parked, and sees that nothing lands however often it is tried."""
    way = Way(service, 0)
    probes = wait_for_lane(victim, "blocked", what)["failures"]
    commits = way.commits()
    until(lambda: lane(victim)["failures"] >= probes + _PROBES, f"a parked lane that probes, {what}")
    if way.commits() != commits:
        raise AssertionError(f"rows have landed behind an alarm, {what}: {lane(victim)}")
    trial.count(f"alarms, {what}")
    trial.count("faults")


def offsets_trial(trial: Trial) -> None:
    """The service behind what it acknowledged, then ahead of what was recorded."""
    service = trial.service()
    way = Way(service, 0)
    data, behind, true = (
        service.data_dir,
        trial.directory / "service-behind",
        trial.directory / "service-true",
    )

    def start() -> Victim:
        return trial.victim(steady(trial, delivery="exactly_once"))

    victim = start()
    way.wait_for_commit("at first", victim)
    service.stop()
    copy(data, behind)
    service.start()
    for _ in range(3):
        way.wait_for_commit("behind the copy", victim)
    service.stop()
    copy(data, true)
    copy(behind, data)
    service.start()
    wait_for_alarm(trial, service, victim, "offset behind")
    service.stop()
    copy(true, data)
    service.start()
    way.wait_for_commit("once the service is as it was", victim)
    trial.kill(victim)

    directory = directory_of(victim)
    old, new = trial.directory / "ledger-old", trial.directory / "ledger-new"
    copy_ledger(directory, old)
    victim = start()
    for _ in range(3):
        way.wait_for_commit("behind the copy of the ledger", victim)
    trial.kill(victim)
    copy_ledger(directory, new)
    copy_ledger(old, directory)
    victim = start()
    wait_for_alarm(trial, service, victim, "offset ahead")
    trial.kill(victim)
    copy_ledger(new, directory)
    trial.finish(expect=Expectations(exactly_once=True))


def run(trial: Trial) -> None:
    """One trial in three is about offsets."""
    if trial.index % 3 == 2:
        offsets_trial(trial)
    else:
        restarts_trial(trial)


STAGES = (
    Stage(
        name="service",
        rows=(18,),
        fault="the service is killed, stopped and started again; streams end cleanly, with errors, with a "
        "signal before, and by age; the service has lost what it acknowledged, or has committed "
        "more than was recorded",
        promise="delivery goes on, with exactly_once without duplicates; what cannot be explained parks it "
        "and nothing is skipped",
        proof="an emulator that is killed and stopped on the same ports; copies of its tables and of the "
        "ledger put back",
        needs=frozenset({Need.RUST_VICTIM}),
        trials=3,
        run=run,
        unit="faults",
    ),
)
