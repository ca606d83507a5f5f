"""The command: ``python -m chaos run|replay|list|page|canaries``, from the directory ``chaos-tests``."""

from __future__ import annotations

import argparse
import json
import os
import random
import signal
import sys
import time
from collections.abc import Iterator
from pathlib import Path

from . import report, runner
from .runner import Order, Outcome, Run
from .stage import Stage
from .stages import collect

SEEDS = runner.SUITE / "seeds.txt"


def seeds(stages: dict[str, Stage]) -> list[tuple[Order, Stage]]:
    """What has failed once, and is tried first in every run."""
    known = []
    for line in SEEDS.read_text().splitlines() if SEEDS.is_file() else []:
        words = line.partition("#")[0].split()
        if words and words[0] in stages:
            known.append((Order(words[0], int(words[1]), int(words[2])), stages[words[0]]))
    return known


def planned(
    stages: dict[str, Stage], seed: int, trial: int | None, until: float | None
) -> Iterator[tuple[Order, Stage]]:
    """The trials of the short mode, and then more of them with other numbers until the time is up."""
    if trial is not None:
        yield from ((Order(name, seed, trial), stage) for name, stage in stages.items())
        return
    yield from seeds(stages)
    first = [(name, stage, index) for name, stage in stages.items() for index in range(stage.trials)]
    # Long ones first, so that no worker is left alone with one at the end.
    first.sort(key=lambda trial: -trial[1].timeout_secs)
    yield from ((Order(name, seed, index), stage) for name, stage, index in first)
    turn = 1
    while until is not None:
        for name, stage, index in first:
            if time.monotonic() >= until:
                return
            yield Order(name, seed, turn * stage.trials + index), stage
        turn += 1


def tell(outcome: Outcome) -> None:
    """One line for each trial."""
    order = outcome.order
    how = "failed" if outcome.error is not None else "ok"
    figures = ", ".join(f"{count} {name}" for name, count in sorted(outcome.counts.items()) if count)
    print(f"{order.stage} {order.index}: {how} in {outcome.seconds:.1f} s; {figures}", flush=True)
    if outcome.error is not None:
        print(f"{outcome.error}\n  kept: {outcome.kept}\n  replay: {order.replay}", flush=True)


def run(arguments: argparse.Namespace) -> int:
    """Runs stages; 0 if every promise was kept."""
    # However it is ended, and also where a shell has it ignore Ctrl-C: nothing that it has started stays.
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.default_int_handler)
    known = collect()
    unknown = [name for name in arguments.stages if name not in known]
    if unknown:
        print(f"there is no stage {', '.join(unknown)}; there are {', '.join(known)}", file=sys.stderr)
        return 2
    chosen = {
        name: stage for name, stage in known.items() if not arguments.stages or name in arguments.stages
    }
    skipped = {name: missing for name, stage in chosen.items() if (missing := stage.missing()) is not None}
    for name, missing in skipped.items():
        print(f"SKIPPED {name}: {missing}", flush=True)
    able = {name: stage for name, stage in chosen.items() if name not in skipped}
    print(f"seed {arguments.seed}, {len(able)} stages, {arguments.workers} workers", flush=True)
    started = time.monotonic()
    until = None if arguments.long is None else started + arguments.long
    runner.work_in_memory()
    running = Run(arguments.workers, tell)
    interrupted = False
    try:
        running.all(planned(able, arguments.seed, arguments.trial, until))
    except KeyboardInterrupt:
        interrupted = True
    mode = "short" if arguments.long is None else "long"
    seconds = time.monotonic() - started
    written = report.summary(
        running.outcomes, skipped, known, seed=arguments.seed, seconds=seconds, mode=mode
    )
    report.write(arguments.report, written)
    failures = len(written["failures"])
    trials = len(running.outcomes)
    print(
        f"{trials} trials, {failures} failures, {len(skipped)} stages skipped, {seconds:.0f} s: "
        f"{arguments.report}"
    )
    if interrupted:
        return 130
    return 1 if failures or (skipped and os.environ.get("CI")) else 0


def replay(arguments: argparse.Namespace) -> int:
    """Makes one failed trial of a report again."""
    path, _, number = arguments.failure.partition("#")
    failure = json.loads(Path(path).read_text())["failures"][int(number or 0)]
    arguments.stages, arguments.seed, arguments.trial = [failure["stage"]], failure["seed"], failure["trial"]
    arguments.long, arguments.workers = None, 1
    arguments.report = runner.OUTPUT / "replay.json"
    return run(arguments)


def show(_arguments: argparse.Namespace) -> int:
    """Lists the stages."""
    for name, stage in collect().items():
        rows = ", ".join(str(row) for row in stage.rows)
        print(f"{name}: {stage.trials} trials, rows {rows}: {stage.fault}: {stage.promise}")
        if (missing := stage.missing()) is not None:
            print(f"  cannot run here: {missing}")
    return 0


def page(arguments: argparse.Namespace) -> int:
    """Makes the page of a report, which is kept with it."""
    from . import page as making

    if arguments.of:
        kept = json.loads(making.FIGURES.read_text()) if making.FIGURES.is_file() else {}
        taken = report.together([json.loads(path.read_text()) for path in arguments.of])
        for failure in taken["failures"] + taken["run_again"]:
            # Where it lay on this machine is nobody's business.
            failure["error"] = making.told(failure["error"])
        # Planted bugs are looked for in runs of their own.
        taken.setdefault("canaries", kept.get("canaries", {}))
        report.write(making.FIGURES, taken)
    making.write()
    return 0


def plant(arguments: argparse.Namespace) -> int:
    """Looks for planted bugs, and keeps what was found with the figures of the page; 0 if none is missed."""
    from . import canaries
    from . import page as making

    known = {name: stage for name, stage in collect().items() if stage.missing() is None}
    names = arguments.names or list(canaries.CANARIES)
    found = {}
    for name in names:
        found[name] = canaries.find(name, known, arguments.seed, arguments.workers, arguments.trials)
        print(f"{name}: {found[name]}", flush=True)
    if making.FIGURES.is_file():
        kept = json.loads(making.FIGURES.read_text())
        kept["canaries"] = kept.get("canaries", {}) | found
        report.write(making.FIGURES, kept)
    missed = [
        name for name, entry in found.items() if entry["stage"] is None and not canaries.CANARIES[name].why
    ]
    return 1 if missed else 0


def work(_arguments: argparse.Namespace) -> int:
    """What a worker does."""
    runner.work()
    return 0


def main() -> int:
    """Takes the command line."""
    parser = argparse.ArgumentParser(
        prog="chaos", description="Real processes, real faults, an independent oracle."
    )
    verbs = parser.add_subparsers(required=True)
    running = verbs.add_parser("run", help="run stages; without names all of them")
    running.add_argument("stages", nargs="*", metavar="STAGE")
    running.add_argument("--seed", type=int, default=random.SystemRandom().randrange(2**32))
    running.add_argument("--trial", type=int, help="this trial only, to replay it")
    running.add_argument("--long", type=float, metavar="SECONDS", help="go on until this time is up")
    running.add_argument("--workers", type=int, default=2)
    running.add_argument("--report", type=Path, default=runner.OUTPUT / "report.json")
    running.set_defaults(does=run)
    again = verbs.add_parser("replay", help="make a failed trial of a report again")
    again.add_argument("failure", metavar="report.json#n", help="a report and which of its failures, from 0")
    again.set_defaults(does=replay)
    verbs.add_parser("list", help="list the stages").set_defaults(does=show)
    making = verbs.add_parser("page", help="write docs/reliability.md")
    making.add_argument(
        "--of",
        type=Path,
        nargs="+",
        metavar="report.json",
        help="keep these reports as the one of the page; of a stage in several of them the last counts",
    )
    making.set_defaults(does=page)
    planting = verbs.add_parser(
        "canaries", help="plant bugs in the Rust victim, and see which stage finds them"
    )
    planting.add_argument("names", nargs="*", metavar="BUG")
    planting.add_argument("--seed", type=int, default=1)
    planting.add_argument("--trials", type=int, default=8, help="of each stage, at most")
    planting.add_argument("--workers", type=int, default=2)
    planting.set_defaults(does=plant)
    verbs.add_parser("work").set_defaults(does=work)
    arguments = parser.parse_args()
    try:
        status: int = arguments.does(arguments)
        sys.stdout.flush()
    except BrokenPipeError:
        # As of `… list | head`: nobody reads on. Nor may the interpreter write at its end.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    return status


if __name__ == "__main__":
    sys.exit(main())
