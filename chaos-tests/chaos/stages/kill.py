"""A producer that is killed with SIGKILL at any moment loses no acknowledged row.

Method: victims on one log, one trial in three on the machine's disk and the others in memory, one after the
other, each with settings of its own, each killed at a random moment: one in ten while it opens the log, one
in ten while it closes it, one in ten before it has stored much, one in ten while it only drains, the others
some way into their work. Nothing else goes wrong, so whatever is missing, altered or out of order was lost
by the library. Of trials with exactly-once delivery no row may be there twice; of those that drop what
waits longest, no more may be missing than was counted.
"""

from __future__ import annotations

import signal
import time
from dataclasses import replace

from ..stage import Need, Stage
from ..trial import Trial
from ..verdict import Expectations
from ..victims.options import Delivery
from ..victims.victim import Victim

KILLS_OF_WHEEL = 10
KILLS_OF_RUST = 50
KILLS_OF_DROPPING = 6
LIVES_OF_CLEAN = 5
PROMISE = "no acknowledged row is lost, none is invented or altered, order is held, exactly once is exact"
# A victim that has not come so far by then is killed all the same, for a busy machine may be slow.
PATIENCE_SECS = 2.0


def kill_somewhere(trial: Trial, victim: Victim, moment: float) -> None:
    """Kills a victim at a moment that is drawn.

    Args:
        trial: The trial.
        victim: One that has just been started.
        moment: Between 0 and 1: which part of its life is meant.
    """
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
        # Up to the kill it may be quicker; then it has closed as it should.
        status = victim.kill()
        if status not in (0, -signal.SIGKILL):
            raise AssertionError(f"victim {victim.life.number} ended with {status}; {victim.complaints()}")
        trial.count("kills", int(status != 0))
        trial.count("kills while closing" if status else "closed before the kill")
        return
    else:
        victim.wait_for("open")
        if moment >= 0.3 and victim.options.producers:
            wait_for_acknowledgements(victim, round(50**delay), PATIENCE_SECS)
        time.sleep(delay * 0.05)
    trial.kill(victim)


def wait_for_acknowledgements(victim: Victim, number: int, patience_secs: float) -> None:
    """Waits for the first acknowledged batch, and then for so many of them, but not for long."""
    victim.wait_for("ack")
    deadline = time.monotonic() + patience_secs
    while victim.acknowledged < number and victim.is_running and time.monotonic() < deadline:
        time.sleep(0.002)


def kill_often(trial: Trial, kind: str, kills: int, delivery: Delivery) -> None:
    """Kills victims on one log and judges it.

    One trial in two keeps one stream, and the order is compared.
    """
    is_ordered = trial.index % 2 == 0
    if trial.index % 3 == 0:
        trial.on_disk()
    trial.service()
    for _ in range(kills):
        options = trial.options(ordered=is_ordered, delivery=delivery)
        moment = trial.random.random()
        if moment >= 0.9:
            options = replace(options, producers=0)
        kill_somewhere(trial, trial.victim(options, kind=kind), moment)
    trial.finish(expect=Expectations(ordered=is_ordered, exactly_once=delivery == "exactly_once"))


def run_wheel(trial: Trial) -> None:
    """Kills of the wheel; one trial in four delivers exactly once, one now so and now so."""
    deliveries: tuple[Delivery, ...] = ("at_least_once", "exactly_once", "at_least_once", "mixed")
    kill_often(trial, "wheel", KILLS_OF_WHEEL, deliveries[trial.index % 4])


def run_rust(trial: Trial) -> None:
    """Kills of a Rust program, likewise."""
    deliveries: tuple[Delivery, ...] = ("at_least_once", "at_least_once", "exactly_once", "mixed")
    kill_often(trial, "rust", KILLS_OF_RUST, deliveries[trial.index % 4])


def run_dropping(trial: Trial) -> None:
    """Kills of producers that drop what waits longest, at a service that is slower than they are."""
    trial.service(commit_interval_ms=150)
    for _ in range(KILLS_OF_DROPPING):
        options = replace(trial.options(dropping=True, durability="os"), rows=(200, 500))
        victim = trial.victim(options, kind="rust")
        wait_for_acknowledgements(victim, 120, PATIENCE_SECS)
        time.sleep(trial.random.random() * 0.02)
        trial.kill(victim)
    trial.finish(expect=Expectations(dropping=True))
    if not trial.counts["rows dropped"]:
        raise AssertionError("nothing was dropped, so nothing was shown")


def run_clean(trial: Trial) -> None:
    """Producers that close: nothing is there twice, whatever their settings are."""
    trial.service()
    for _ in range(LIVES_OF_CLEAN):
        options = trial.options(shutdown_timeout_secs=60)
        victim = trial.victim(options, kind=trial.random.choice(["wheel", "rust"]))
        wait_for_acknowledgements(victim, trial.random.randint(1, 60), PATIENCE_SECS)
        victim.close()
        trial.count("clean stops")
    trial.finish(expect=Expectations(duplicates_max=0))


STAGES = (
    Stage(
        name="kill-rust",
        rows=(1, 28, 30),
        fault="SIGKILL of a Rust program at any moment, while it opens, drains and closes the log too",
        promise=PROMISE,
        proof="hashes of what was announced are compared with the log and the Delta table",
        needs=frozenset({Need.RUST_VICTIM}),
        trials=10,
        run=run_rust,
        unit="kills",
    ),
    Stage(
        name="kill-wheel",
        rows=(1, 28, 30),
        fault="SIGKILL of a Python program at any moment, while it opens, drains and closes the log too",
        promise=PROMISE,
        proof="hashes of what was announced are compared with the log and the Delta table",
        needs=frozenset(),
        trials=5,
        run=run_wheel,
        unit="kills",
    ),
    Stage(
        name="kill-dropping",
        rows=(1, 12),
        fault="SIGKILL of a producer that drops what waits longest, because the log is full",
        promise="every acknowledged row is in the table or counted as dropped",
        proof="what is missing in the table is compared with the count in status",
        needs=frozenset({Need.RUST_VICTIM}),
        trials=2,
        run=run_dropping,
        unit="kills",
    ),
    Stage(
        name="clean-stop",
        rows=(30,),
        fault="none: producers close and start again with other settings",
        promise="everything lands, and nothing twice",
        proof="the table is compared with what was announced",
        needs=frozenset({Need.RUST_VICTIM}),
        trials=2,
        run=run_clean,
        unit="clean stops",
    ),
)
