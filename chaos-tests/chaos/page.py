"""What does a reader see? ``docs/reliability.md``, made of a report.

The report is the one in ``docs/assets/reliability.json``, so that the page can be made again; a test compares the two. Every row of the
table of faults has a figure, or says why it has none.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from .runner import ROOT

PAGE = ROOT / "docs" / "reliability.md"
FIGURES = ROOT / "docs" / "assets" / "reliability.json"
CONFIDENCE = 0.95


@dataclass(frozen=True)
class Row:
    """A row of the table of faults.

    Attributes:
        fault: What goes wrong.
        promise: What holds then.
        elsewhere: What other suites show of it, with figures.
        uncovered: Why real processes do not show it, if no stage does.
    """

    fault: str
    promise: str
    elsewhere: str = ""
    uncovered: str = ""


ROWS: dict[int, Row] = {
    1: Row(
        "the process is killed, anywhere",
        "no stored row is lost; at most what was on its way lands twice",
        "`tests/model`: 15,000 kills of a simulated process",
    ),
    2: Row(
        "power cut, crash of the operating system",
        "no stored row is lost; a batch that was not acknowledged is there as a whole or not at all",
        "`tests/model`: 85,000 cuts of a simulated disk",
    ),
    3: Row(
        "the drive's volatile cache is lost, and it honours flushes",
        "as row 2",
        "`tests/model`: each unsynced sector survives by chance, in 85,000 cuts",
    ),
    4: Row(
        "the drive or the file system lies about flushes",
        "nothing can be promised; what is missing is reported, nothing is invented",
        "`tests/model`: 10,000 lies",
    ),
    5: Row(
        "a write arrives in parts, reordered, or as zeros",
        "a torn end is cut if nothing in it was promised; no half frame is delivered",
        "`tests/log`: a segment cut at every byte; `tests/model`: each sector of a write by itself",
    ),
    6: Row(
        "a bit rots",
        "it is found; only the damaged frame is unreadable, and it is named",
        "`tests/log`: every single bit of a segment",
    ),
    7: Row(
        "damage in a length or a header, a hole of zeros",
        "frames behind it are found; it is not taken for the end of the log",
        "`tests/log`",
    ),
    8: Row(
        "a segment is missing, cut, swapped, copied or of another log",
        "the gap is reported with its numbers; what is foreign is left alone",
        "`tests/log`",
    ),
    9: Row(
        "a sync fails",
        "the file is never used again; the frames go to a new one, or the callers get the error",
        "`tests/log`, `tests/model`: 11,000 failed writes and syncs",
    ),
    10: Row(
        "a sync fails, the program restarts, then the power goes",
        "nothing counts as durable that is not on the disk",
        "`tests/model`: a failed sync leaves such pages, and a cut follows",
    ),
    11: Row(
        "a write or a read fails",
        "a typed error; other segments go on; nothing is deleted",
        "`tests/log`: each call fails in turn; `tests/model`: 104,473 points",
    ),
    12: Row(
        "the disk is full",
        "a typed error or a wait; the log drains with no byte free and goes on",
        "`tests/wrapper/full_disk.rs`; `tests/model`: 14,000 times no space",
    ),
    13: Row(
        "no rights, a read-only disk, no file handles or inodes left, a limit on file sizes",
        "a typed error, nothing stored is lost",
    ),
    14: Row(
        "the clock jumps",
        "numbers, order and what waits are untouched; only the time of what is retained shifts",
        "`tests/model`: the time of day jumps in every seed",
    ),
    15: Row(
        "the process is stopped for a while, the disk is slow",
        "nothing is lost; senders wait, memory is bounded",
    ),
    16: Row(
        "no network: refused, reset, silent, slow",
        "the backlog grows on the disk only, and drains when the way is free",
        "`tests/wrapper`: every fault of the local Zerobus",
    ),
    17: Row(
        "the service has committed, and its acknowledgement is lost",
        "at least once: the rows are there twice, and counted; exactly once: once",
        "`chaos-tests/tests/exactly.rs`: 4 % of all requests",
    ),
    18: Row(
        "the service restarts, ends the stream, or knows a stream otherwise than we do",
        "delivery goes on; what cannot be explained parks it, nothing is skipped",
        "`tests/wrapper/alarms.rs`: each alarm",
    ),
    19: Row(
        "a token expires or is revoked, the token endpoint fails, the secret is wrong",
        "a new token, retries, or the lane parks; no row is lost",
        "`tests/wrapper/blocked.rs`, `tests/wrapper/classes.rs`",
    ),
    20: Row(
        "rows or a schema are refused for good",
        "they go into quarantine with the reason, the others are delivered; no endless retry",
        "`tests/wrapper/quarantine.rs`, `tests/wrapper/isolation.rs`",
    ),
    21: Row(
        "exactly once: killed between the creation of a stream, the record of a request, the commit and the ledger",
        "each row lands once",
        "`chaos-tests/tests/exactly.rs`: 208 kills, `chaos-tests/tests/replay.rs`: 24 kills of replays",
    ),
    22: Row(
        "the ledger is lost, old, damaged, or ahead of the log",
        "duplicates only; no number is used twice",
        "`tests/wrapper/alarms.rs`; `tests/model`: lost, old, forged and unreadable ledgers",
    ),
    23: Row(
        "two processes with one directory, a fork, a lock of a dead process",
        "each has a log of its own; a forked child is refused; a stale lock is taken over",
        "`tests/wrapper/writers.rs`, `tests/python/test_process.py`",
    ),
    24: Row(
        "a power cut brings a freed segment back",
        "its frames are known as settled, or sent once more and counted",
        "`tests/model`: unsynced removals come back",
    ),
    25: Row(
        "out of memory, a huge batch",
        "a batch that fits nowhere is refused before anything is written; memory does not grow with the backlog",
    ),
    26: Row(
        "hostile files in the directory, the command beside a live owner",
        "no panic, no allocation without a limit; verbs that read write nothing",
        "`chaos-tests/fuzz`: 7 targets; `tests/wrapper/repairing.rs`: killed at each step",
    ),
    27: Row(
        "another version of the library",
        "logs of every released format are read; an unknown format is refused untouched",
        "`tests/log`: golden logs",
    ),
    28: Row("secrets", "none is ever in a file, a log, an error or a repr"),
    29: Row(
        "crashes in the middle of the recovery, again and again",
        "recovery can be repeated",
        "`tests/model`: a second fault at each operation of the recovery",
    ),
    30: Row("everything heals", "everything drains, and the disk is given back"),
}


def bound(failures: int, trials: int) -> float:
    """The highest rate of failures that this outcome leaves likely, one-sided (Clopper and Pearson).

    Without a failure that is 1 - 0.05^(1/n), which 3/n approximates.
    """
    if trials <= 0 or failures >= trials:
        return 1.0
    low, high = failures / trials, 1.0
    for _ in range(100):
        middle = (low + high) / 2
        if _at_most(failures, trials, middle) > 1 - CONFIDENCE:
            low = middle
        else:
            high = middle
    return high


def _at_most(failures: int, trials: int, rate: float) -> float:
    """The chance of so many failures or fewer."""
    if rate >= 1.0:
        return 0.0
    total = 0.0
    for number in range(failures + 1):
        ways = math.lgamma(trials + 1) - math.lgamma(number + 1) - math.lgamma(trials - number + 1)
        total += math.exp(ways + number * math.log(rate) + (trials - number) * math.log1p(-rate))
    return total


def faults_done(stage: Mapping[str, Any]) -> int:
    """How often a stage has done its fault."""
    unit = stage["unit"]
    return int(stage["trials"] if unit == "trials" else stage["counts"].get(unit, 0))


def render(report: Mapping[str, Any]) -> str:
    """The page."""
    stages: Mapping[str, Mapping[str, Any]] = report["stages"]
    minutes = report["seconds"] / 60
    machine = report["machine"]
    faults = sum(faults_done(stage) for stage in stages.values())
    lines = [
        "# Reliability",
        "",
        "What real processes have survived on a real kernel. This page is made of a report of the chaos suite by",
        "`python -m chaos page`; the report is [reliability.json](assets/reliability.json). How it works, and how to run it, is in",
        "`chaos-tests/README.md` of the repository; which promise holds under which fault is on [another page](guarantees.md).",
        "",
        f"{runs(report)}, {minutes:.0f} minutes in all, on {machine['system']}",
        f"with {machine['processors']} processors: {faults:,} faults, {total(stages, 'batches acknowledged'):,} batches",
        f"acknowledged, {total(stages, 'rows compared'):,} rows compared, {len(report['failures'])} failures.",
        "",
        "## Fault by fault",
        "",
        "*Bound* is the rate of failures that is exceeded with a chance of less than 5 % given these figures, for one fault of this",
        "kind: 3/n without a failure in n, else by Clopper and Pearson. It speaks of this machine, these settings and these moments. Where a",
        "stage stands in several rows, its faults count in each.",
        "",
        "| # | fault | promise | stages | faults done | failures | bound | also shown by |",
        "|---:|---|---|---|---:|---:|---:|---|",
    ]
    for number, row in ROWS.items():
        of_row = {name: stage for name, stage in stages.items() if number in stage["rows"]}
        done = sum(faults_done(stage) for stage in of_row.values())
        failures = sum(stage["failures"] for stage in of_row.values())
        if of_row:
            names = ", ".join(f"`{name}`" for name in of_row)
            figures = f"{names} | {done:,} | {failures} | {percent(bound(failures, done))}"
        else:
            why = row.uncovered or "real processes do not show it"
            figures = f"not covered: {why} | 0 | | "
        lines.append(f"| {number} | {row.fault} | {row.promise} | {figures} | {row.elsewhere} |")
    lines += [
        "",
        "## Stage by stage",
        "",
        "| stage | what is done | what must hold | how it is seen | trials | figures |",
        "|---|---|---|---|---:|---|",
    ]
    for name, stage in stages.items():
        told = ", ".join(
            f"{count:,} {figure}"
            for figure, count in sorted(stage["counts"].items())
            if count and is_told(figure)
        )
        lines.append(
            f"| `{name}` | {stage['fault']} | {stage['promise']} | {stage['proof']} | {stage['trials']} | {told} |"
        )
    if report.get("run_again"):
        lines += [
            "",
            "Failed in an earlier one of these runs, in the suite or in the library, and run again:",
            "",
        ]
        lines += [f"- `{failure['stage']}`: {failure['error']}" for failure in report["run_again"]]
    if report["skipped"]:
        lines += ["", "Not run on this machine:", ""]
        lines += [f"- `{name}`: {why}" for name, why in report["skipped"].items()]
    lines += ["", *canaries(report.get("canaries", {})), ""]
    return "\n".join(lines)


def runs(report: Mapping[str, Any]) -> str:
    """Which runs the figures are of."""
    named = [f"seed {run['seed']} at commit `{run['commit']}`" for run in report.get("runs", [report])]
    if len(named) == 1:
        return f"One run with {named[0]}"
    return f"Runs with {', '.join(named)} (of a stage that was run again the last run counts)"


def told(error: str) -> str:
    """What an error says, without places of the machine that it happened on."""
    lines = [line for line in error.strip().splitlines() if line.strip()]
    rule = next((line for line in lines if line.startswith("AssertionError: ")), lines[-1] if lines else "")
    return re.sub(r"/\S*/target/chaos/\S*", "…", rule)[:200]


def canaries(found: Mapping[str, Mapping[str, Any]]) -> list[str]:
    """The table of planted bugs."""
    lines = [
        "## Planted bugs",
        "",
        "Could the suite fail? Bugs are planted in the Rust victim, one at a time (`python -m chaos canaries`), and stages are run until",
        "one finds it. The simulated world finds each of them too: `model::canaries`.",
        "",
        "| bug | found by | in trial | what it said |",
        "|---|---|---:|---|",
    ]
    for name, entry in found.items():
        if entry["stage"] is None:
            lines.append(f"| `{name}` | not by real processes: {entry['why']} | | `tests/model` finds it |")
        else:
            lines.append(f"| `{name}` | `{entry['stage']}` | {entry['trial']} | {entry['told']} |")
    return lines


def is_told(figure: str) -> bool:
    """Whether a figure says something about a stage; times and bytes are in the report only."""
    return "milliseconds" not in figure and "bytes" not in figure and figure != "victims"


def total(stages: Mapping[str, Mapping[str, Any]], figure: str) -> int:
    """A figure over all stages."""
    return sum(int(stage["counts"].get(figure, 0)) for stage in stages.values())


def percent(rate: float) -> str:
    """A rate with two significant digits."""
    return f"{float(f'{rate * 100:.2g}'):g} %"


def write(figures: Path = FIGURES, page: Path = PAGE) -> None:
    """Makes the page of the report that is kept with it."""
    page.write_text(render(json.loads(figures.read_text())))
