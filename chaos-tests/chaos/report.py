"""What is kept of a run?

``report.json``. Its version grows when a field changes its meaning or goes away.
"""

from __future__ import annotations

import json
import os
import platform
import subprocess
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from .runner import ROOT, Outcome
from .stage import Stage

VERSION = 1


def summary(
    outcomes: Iterable[Outcome],
    skipped: Mapping[str, str],
    stages: Mapping[str, Stage],
    *,
    seed: int,
    seconds: float,
    mode: str,
) -> dict[str, Any]:
    """The report of a run, as it is written."""
    by_stage: dict[str, dict[str, Any]] = {}
    failures = []
    for outcome in outcomes:
        stage = stages[outcome.order.stage]
        entry = by_stage.setdefault(
            stage.name,
            {
                "rows": list(stage.rows),
                "fault": stage.fault,
                "promise": stage.promise,
                "proof": stage.proof,
                "unit": stage.unit,
                "trials": 0,
                "failures": 0,
                "seconds": 0.0,
                "counts": Counter(),
            },
        )
        entry["trials"] += 1
        entry["failures"] += outcome.error is not None
        entry["seconds"] = round(entry["seconds"] + outcome.seconds, 1)
        entry["counts"].update(outcome.counts)
        if outcome.error is not None:
            failures.append(
                {
                    "stage": stage.name,
                    "seed": outcome.order.seed,
                    "trial": outcome.order.index,
                    "error": outcome.error,
                    "kept": outcome.kept,
                    "replay": outcome.order.replay,
                }
            )
    return {
        "version": VERSION,
        "mode": mode,
        "seed": seed,
        "seconds": round(seconds, 1),
        "machine": {
            "system": platform.platform(),
            "processors": os.cpu_count(),
            "python": platform.python_version(),
            "root": os.geteuid() == 0,
        },
        "commit": _commit(),
        "stages": {name: by_stage[name] for name in stages if name in by_stage},
        "skipped": dict(skipped),
        "failures": failures,
    }


def together(reports: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """Several reports as one: of a stage that is in more than one of them, the last counts.

    That is for stages that were run again after something was mended. Each run is named, and what failed in
    a run that does not count is kept as `run_again`.
    """
    whole = dict(reports[-1])
    whole["runs"] = [
        {name: each[name] for name in ("seed", "commit", "seconds", "mode")}
        | {"stages": list(each["stages"])}
        for each in reports
    ]
    whole["seconds"] = round(sum(each["seconds"] for each in reports), 1)
    whole["stages"], whole["failures"], whole["skipped"], whole["run_again"] = {}, [], {}, []
    for each in reports:
        whole["stages"] |= each["stages"]
        whole["skipped"] |= each["skipped"]
        left = [failure for failure in whole["failures"] if failure["stage"] not in each["stages"]]
        whole["run_again"] += [failure for failure in whole["failures"] if failure not in left]
        whole["failures"] = left + each["failures"]
    whole["skipped"] = {name: why for name, why in whole["skipped"].items() if name not in whole["stages"]}
    return whole


def write(path: Path, report: Mapping[str, Any]) -> None:
    """Writes a report."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(report, indent=1) + "\n")


def _commit() -> str | None:
    told = subprocess.run(
        ["git", "describe", "--always", "--dirty"], cwd=ROOT, capture_output=True, text=True, check=False
    )
    return told.stdout.strip() or None
