"""Whichever system call fails, is cut short, or is the last one of its process: no acknowledged row is lost.

Method: victims run under an interceptor (`faults/intercept`) that counts their file operations in the log's
directory and hits the k-th one of a kind, for each k in turn, on one log that goes on from life to life: the
first operations are those of the opening, the later ones those of writing, rotating, settling and
reclaiming. A failed write or sync must be the last thing that ever happens to its segment; the interceptor
watches that too. One life in three has the fault stay from then on, until the victim has refused or has come
to the end of its patience.
"""

from __future__ import annotations

import errno
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from random import Random

from ..faults.intercept import (
    CHANGES,
    EVERYTHING,
    FOREVER,
    SYNCS,
    WRITES,
    Action,
    Intercept,
    Operation,
    Rule,
)
from ..stage import Need, Stage
from ..trial import Trial
from ..verdict import Expectations
from ..victims.victim import Victim
from .power_cut import kind_of_victim

# Of so many lives one trial is made, and so many trials hit all operations up to the sixtieth. The short mode
# does so with the commonest faults, and makes one for each of the others; further trials draw up to the last
# one here.
LIVES, THIRDS = 20, 3
LAST_LONG = 500
PATIENCE_SECS = 1.2

NAMES = (Operation.CREATE, Operation.RENAME, Operation.UNLINK, Operation.TRUNCATE, Operation.MAKE_DIRECTORY)
SPACE = (*WRITES, Operation.CREATE, Operation.ALLOCATE, Operation.MAKE_DIRECTORY)


@dataclass(frozen=True)
class Fault:
    """What is done to an operation.

    Attributes:
        name: For the name of the stage.
        what: In words, for the table.
        rows: Of the table of faults.
        rule: Draws the rule of one life; its first and last operation are set by the caller.
        kills: Whether the process dies of it.
        stays: Whether it may stay for all that follows.
        is_rare: Whether there are few such operations: a third of the first sixty are hit then.
        trials: How many the short mode makes.
    """

    name: str
    what: str
    rows: tuple[int, ...]
    rule: Callable[[Random], Rule]
    kills: bool = False
    stays: bool = True
    is_rare: bool = False
    trials: int = 1


def _part(random: Random) -> int:
    """How much of a write arrives: nothing, everything, or any number of bytes."""
    return random.choice([0, EVERYTHING, random.randint(1, 8192)])


FAULTS = (
    Fault(
        "sync-eio",
        "the k-th sync fails with EIO",
        (9,),
        lambda random: Rule(SYNCS, Action.FAIL, error=errno.EIO, bytes=random.choice([0, EVERYTHING])),
        trials=THIRDS,
    ),
    Fault(
        "write-eio",
        "the k-th write fails with EIO, some of its bytes have arrived",
        (11,),
        lambda random: Rule(WRITES, Action.FAIL, error=errno.EIO, bytes=_part(random)),
        trials=THIRDS,
    ),
    Fault(
        "enospc",
        "the k-th operation that needs space fails with ENOSPC",
        (12,),
        lambda _: Rule(SPACE, Action.FAIL, error=errno.ENOSPC),
        trials=THIRDS,
    ),
    Fault(
        "torn",
        "of the k-th write some bytes arrive, and the process dies",
        (1, 5),
        lambda random: Rule(WRITES, Action.KILL, bytes=_part(random)),
        kills=True,
        stays=False,
        trials=THIRDS,
    ),
    Fault(
        "short",
        "of each write from the k-th on some bytes arrive, and the system call says so",
        (5,),
        lambda random: Rule(WRITES, Action.SHORTEN, bytes=512 * random.randint(1, 8)),
    ),
    Fault(
        "killed-at-sync",
        "the process dies before or right behind its k-th sync",
        (1, 2),
        lambda random: Rule(SYNCS, Action.KILL, bytes=random.choice([0, EVERYTHING])),
        kills=True,
        stays=False,
    ),
    Fault(
        "names",
        "the k-th creation, renaming, removal or cut of a file fails",
        (11, 13),
        lambda random: Rule(
            NAMES, Action.FAIL, error=random.choice([errno.EIO, errno.EACCES, errno.EROFS, errno.EMFILE])
        ),
    ),
    Fault(
        "killed-at-name",
        "the process dies before or right behind the k-th renaming or removal",
        (1, 29),
        lambda random: Rule(
            (Operation.RENAME, Operation.UNLINK), Action.KILL, bytes=random.choice([0, EVERYTHING])
        ),
        kills=True,
        stays=False,
        is_rare=True,
    ),
    Fault(
        "read-eio",
        "the k-th read of a segment or of the ledger fails with EIO",
        (11,),
        lambda random: Rule(
            (Operation.READ,), Action.FAIL, error=errno.EIO, part=random.choice(["/segment-", "/ledger/"])
        ),
        is_rare=True,
    ),
)


def run(trial: Trial, fault: Fault) -> None:
    """Hits one operation after the other."""
    trial.service()
    operations = (*CHANGES, Operation.READ) if fault.name == "read-eio" else CHANGES
    intercept = Intercept(trial.directory / "intercept", trial.wal_dir, operations)
    reached = 0
    for number in range(LIVES):
        # Three trials hit all of the first ones; which third comes first is the seed's to say.
        at = 1 + number * THIRDS + (trial.seed + trial.index) % THIRDS
        if trial.index >= THIRDS:
            at = trial.random.randint(1, LAST_LONG)
        if fault.is_rare:
            at = 1 + at // THIRDS
        stays = fault.stays and trial.random.random() < 1 / 3
        rule = replace(fault.rule(trial.random), first=at, last=FOREVER if stays else at)
        intercept.forget_failed_files()
        intercept.set_rules(rule)
        options = trial.options(wait_for="stored", segment_bytes=64 << 10, block_timeout_secs=1)
        victim = trial.victim(options, kind=kind_of_victim(number), prefix=intercept.prefix())
        until_hit(victim, intercept, fault)
        reached += intercept.hits() > 0
        trial.count("operations hit", intercept.hits())
        if victim.is_running:
            victim.kill()
        else:
            victim.wait()
        trial.count("lives that could not open the log", int(victim.heard("failed") is not None))
        if intercept.trouble:
            raise AssertionError(
                f"the interceptor could not do {intercept.trouble} things: nothing was shown"
            )
        if intercept.touched:
            raise AssertionError(
                f"R8: {intercept.touched} writes and syncs on {intercept.touched_path} after one failed"
            )
    trial.count("lives with a fault", reached)
    trial.count("segments given up", intercept.failed_files)
    if not reached:
        raise AssertionError("no operation was hit, so nothing was shown")
    intercept.heal()
    # A ledger that failed is replaced by a new one, which is allowed to know nothing, and that is told.
    aside = len(list(trial.wal_dir.glob("*/writer-*/ledger.set-aside-*")))
    trial.count("ledgers set aside", aside)
    trial.finish(expect=Expectations(ledger_lost=aside > 0, damage_reported=aside > 0))


def until_hit(victim: Victim, intercept: Intercept, fault: Fault) -> None:
    """Waits until the fault was there and the victim has done something behind it, or has ended."""
    deadline = time.monotonic() + PATIENCE_SECS
    while victim.is_running and not intercept.hits() and time.monotonic() < deadline:
        time.sleep(0.002)
    if fault.kills:
        # It dies of the operation, once that is done: a kill by the trial would be too early.
        if intercept.hits():
            victim.wait()
        return
    said = len(victim.life.events)
    deadline = time.monotonic() + PATIENCE_SECS / 3
    while victim.is_running and len(victim.life.events) < said + 20 and time.monotonic() < deadline:
        time.sleep(0.002)


STAGES = tuple(
    Stage(
        name=f"call-{fault.name}",
        rows=fault.rows,
        fault=fault.what,
        promise="no acknowledged row is lost; a segment that has failed is not touched again",
        proof="file operations go through an interceptor; announcements compared with the table",
        needs=frozenset({Need.CC, Need.RUST_VICTIM}),
        trials=fault.trials,
        unit="lives with a fault",
        run=partial(run, fault=fault),
    )
    for fault in FAULTS
)
