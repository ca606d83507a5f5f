"""Could the suite fail?

Each bug of ``src/canary.rs`` is planted in the Rust victim, which then takes the place of every producer,
and the stages that could see it are run until one trial fails. A bug that no stage finds is told with the
reason, and with the suite that finds it instead.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from . import runner
from .runner import Order, Outcome, Run
from .stage import Stage
from .trial import CANARY_VARIABLE

# How a broken promise is told.
RULE = re.compile(r"\b[RI][0-9]+: .*")


@dataclass(frozen=True)
class Canary:
    """A planted bug.

    Attributes:
        stages: Those that could find it, the likeliest first.
        why: Why real processes do not, where they do not.
    """

    stages: tuple[str, ...]
    why: str = ""


# `CutAtFirstBadChecksum` needs damage in front of whole frames, `TrustStoreFlush` a cut between a ledger's
# flush and its sync.
CANARIES: dict[str, Canary] = {
    "AcknowledgeBeforeSync": Canary(("power-cut-ext4", "power-cut-xfs")),
    "SyncAgainAfterFailure": Canary(("sectors-ext4", "fsyncgate-ext4", "call-sync-eio", "call-write-eio")),
    "CutAtFirstBadChecksum": Canary(("rot-open",)),
    "ReuseLsn": Canary(("ledger-ahead", "power-cut-ext4")),
    "FreeBeforeLedgerSync": Canary(
        ("power-cut-ext4", "power-cut-xfs"),
        why="the ledger is synced some milliseconds later, and a lost ledger costs duplicates only",
    ),
    "ForgetDirectorySync": Canary(
        ("power-cut-ext4", "power-cut-xfs"),
        why="ext4 and XFS make the name of a new file durable with the first sync of the file",
    ),
    "MarkBeforeLedger": Canary(
        ("power-cut-ext4", "power-cut-xfs"),
        why="the two are written within a millisecond, and a ledger that is behind costs duplicates only",
    ),
    "VoidBeforeMoved": Canary(
        ("call-sync-eio",),
        why="the kill has to come between two calls of the system, behind a sync that has failed",
    ),
    "TrustStoreFlush": Canary(("power-cut-ext4", "power-cut-xfs"), why="a lost ledger costs duplicates only"),
}


def find(name: str, stages: dict[str, Stage], seed: int, workers: int, trials: int) -> dict[str, Any]:
    """Runs the stages of one bug until a trial fails.

    Args:
        name: The bug.
        stages: All stages that can run here.
        seed: Of the trials.
        workers: How many trials at a time.
        trials: How many trials of each stage, at most.
    """
    canary = CANARIES[name]
    os.environ[CANARY_VARIABLE] = name
    try:
        for stage_name in canary.stages:
            stage = stages.get(stage_name)
            if stage is None:
                continue
            failed = _first_failure(stage, seed, workers, trials)
            if failed is not None:
                rule = RULE.search(failed.error or "")
                if rule is None:
                    # Such as a victim that does not know this bug: that is no find.
                    raise RuntimeError(f"{name}: {stage_name} failed otherwise: {failed.error}")
                told = rule.group()[:160].replace("|", "\\|")
                return {"stage": stage_name, "trial": failed.order.index, "told": told}
        return {"stage": None, "why": canary.why or "no stage has found it"}
    finally:
        del os.environ[CANARY_VARIABLE]


def _first_failure(stage: Stage, seed: int, workers: int, trials: int) -> Outcome | None:
    found: list[Outcome] = []

    def orders() -> Iterator[tuple[Order, Stage]]:
        for index in range(trials):
            if found:
                return
            yield Order(stage.name, seed, index), stage

    def tell(outcome: Outcome) -> None:
        if outcome.error is not None:
            found.append(outcome)

    Run(workers, tell).all(orders())
    for outcome in found:
        # It was to fail: nobody wants to look at it.
        runner.forget(outcome)
    return min(found, key=lambda outcome: outcome.order.index, default=None)
