"""The chaos suite keeps what failed, counts as it is, and its page says what its report says."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from chaos import canaries, page, report, runner
from chaos.runner import Order, Outcome, Run
from chaos.stage import Stage
from chaos.stages import collect
from chaos.trial import Trial
from conftest import DEADLINE_SECS, until
from docs_blocks import blocks_run_by

SUITE = Path(__file__).parents[2] / "chaos-tests"


@pytest.fixture
def output(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where the runner puts its files."""
    monkeypatch.setattr(runner, "OUTPUT", tmp_path / "target" / "chaos")
    monkeypatch.setattr(runner, "ROOT", tmp_path)
    return tmp_path


def stage_of(run: object, **how: object) -> Stage:
    return Stage(
        name="planted",
        rows=(1,),
        fault="f",
        promise="p",
        proof="how",
        needs=frozenset(),
        trials=1,
        run=run,  # type: ignore[arg-type]
        **how,  # type: ignore[arg-type]
    )


def test_a_trial_that_fails_keeps_its_directory_and_the_command_that_makes_it_again(output: Path) -> None:
    def fail(trial: Trial) -> None:
        (trial.directory / "evidence").write_text("of the failure")
        trial.count("kills", 3)
        raise AssertionError("R1: a batch is lost")

    outcome = runner.make(Order("planted", 7, 2), stage_of(fail))
    assert outcome.error is not None
    assert "R1: a batch is lost" in outcome.error
    kept = output / str(outcome.kept)
    assert kept == output / "target/chaos/failures/planted-7-2"
    assert (kept / "evidence").read_text() == "of the failure"
    assert "run planted --seed 7 --trial 2" in (kept / "error.txt").read_text()
    assert outcome.counts == {"kills": 3}


def test_a_trial_that_passes_leaves_nothing(output: Path) -> None:
    outcome = runner.make(Order("planted", 7, 2), stage_of(lambda trial: trial.count("kills")))
    assert (outcome.error, outcome.kept, outcome.counts) == (None, None, {"kills": 1})
    assert list((output / "target/chaos/work").iterdir()) == []


def test_a_trial_that_has_shown_nothing_fails(output: Path) -> None:
    outcome = runner.make(Order("planted", 7, 2), stage_of(lambda trial: trial.finish() and None))
    assert outcome.error is not None
    assert "nothing was acknowledged, so nothing was shown" in outcome.error


def test_the_example_of_the_readme_is_a_stage_that_passes(output: Path) -> None:
    (block,) = blocks_run_by("test_chaos_runner.py::test_the_example_of_the_readme_is_a_stage_that_passes")
    module: dict[str, Any] = {"__name__": "chaos.stages.example", "__package__": "chaos.stages"}
    exec(block.body, module)  # noqa: S102 - the program is a page of ours
    (stage,) = module["STAGES"]
    assert isinstance(stage, Stage)
    outcome = runner.make(Order(stage.name, 7, 0), stage)
    assert outcome.error is None
    assert outcome.counts["kills"] == 10


def test_the_choices_of_a_trial_follow_from_stage_seed_and_number(output: Path) -> None:
    drawn: list[float] = []
    for order in [("a", 1, 0), ("a", 1, 0), ("b", 1, 0), ("a", 2, 0), ("a", 1, 1)]:
        runner.make(Order(*order), stage_of(lambda trial: drawn.append(trial.random.random())))
    assert drawn[0] == drawn[1]
    assert len(set(drawn)) == 4


def test_a_report_counts_trials_failures_and_figures() -> None:
    stage = stage_of(lambda _: None, unit="kills")
    outcomes = [
        Outcome(Order("planted", 1, 0), 2.0, {"kills": 10}),
        Outcome(Order("planted", 1, 1), 1.5, {"kills": 5}, error="R1", kept="target/x"),
    ]
    written = report.summary(
        outcomes, {"other": "no root"}, {"planted": stage}, seed=1, seconds=3.0, mode="short"
    )
    entry = written["stages"]["planted"]
    assert (entry["trials"], entry["failures"], entry["counts"]) == (2, 1, {"kills": 15})
    assert written["skipped"] == {"other": "no root"}
    assert written["failures"][0]["replay"].endswith("run planted --seed 1 --trial 1")
    assert page.faults_done(entry) == 15
    json.dumps(written)


def test_of_a_stage_that_was_run_again_the_last_report_counts() -> None:
    stage = stage_of(lambda _: None)
    reports = [
        report.summary(
            [Outcome(Order("planted", seed, 0), 1.0, {}, error=error, kept=None)],
            skipped,
            {"planted": stage},
            seed=seed,
            seconds=2.0,
            mode="short",
        )
        for seed, error, skipped in [(1, "R1", {}), (2, None, {"planted": "no root", "other": "no root"})]
    ]
    whole = report.together(reports)
    assert (whole["stages"]["planted"]["failures"], whole["failures"], whole["seconds"]) == (0, [], 4.0)
    assert [failure["error"] for failure in whole["run_again"]] == ["R1"]
    assert whole["skipped"] == {"other": "no root"}
    assert [run["seed"] for run in whole["runs"]] == [1, 2]
    assert "of a stage that was run again the last run counts" in page.runs(whole)


@pytest.mark.parametrize(
    ("failures", "trials", "rate"),
    # 1 - 0.05^(1/n) without a failure; otherwise from tables of Clopper and Pearson.
    [(0, 10, 0.2589), (0, 1000, 0.00299), (1, 100, 0.0466), (2, 100, 0.0616), (10, 10, 1.0), (0, 0, 1.0)],
)
def test_a_bound_is_that_of_clopper_and_pearson(failures: int, trials: int, rate: float) -> None:
    assert page.bound(failures, trials) == pytest.approx(rate, abs=6e-5)


def test_the_page_is_made_of_the_report_that_is_kept_with_it() -> None:
    kept = json.loads(page.FIGURES.read_text())
    assert page.PAGE.read_text() == page.render(kept), (
        "run: cd chaos-tests && ../.venv/bin/python -m chaos page"
    )


def test_every_row_of_the_table_of_faults_has_a_figure_or_says_why_not() -> None:
    assert list(page.ROWS) == list(range(1, 31))
    for number, line in enumerate(
        (line for line in page.PAGE.read_text().splitlines() if line[:3].strip("| ").isdigit()), start=1
    ):
        cells = [cell.strip() for cell in line.strip("|").split("|")]
        assert cells[0] == str(number)
        assert cells[3].startswith(("`", "not covered: "))


def test_every_stage_names_rows_that_there_are_and_says_what_it_does() -> None:
    for stage in collect().values():
        # That a planted bug is found says nothing about a fault.
        assert stage.rows or stage.name == "planted-bug", stage.name
        assert set(stage.rows) <= set(page.ROWS), stage.name
        assert all((stage.fault, stage.promise, stage.proof)), stage.name
        assert stage.trials > 0, stage.name


def test_every_planted_bug_is_looked_for_by_stages_that_there_are() -> None:
    source = (SUITE.parent / "src" / "canary.rs").read_text()
    named = set(re.findall(r"^        Canary::(\w+),$", source, re.MULTILINE))
    assert named
    assert named <= set(canaries.CANARIES)
    assert {stage for canary in canaries.CANARIES.values() for stage in canary.stages} <= set(collect())


def processes_of(group: int) -> Iterator[int]:
    for path in Path("/proc").iterdir():
        if path.name.isdigit():
            try:
                if os.getpgid(int(path.name)) == group:
                    yield int(path.name)
            except ProcessLookupError:
                continue


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_ctrl_c_ends_everything_that_a_run_has_started(tmp_path: Path, number: signal.Signals) -> None:
    running = subprocess.Popen(
        [
            sys.executable,
            "-m",
            "chaos",
            "run",
            "kill-wheel",
            "--workers",
            "1",
            "--report",
            str(tmp_path / "r"),
        ],
        cwd=SUITE,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
    )

    def children() -> list[int]:
        listed = [path.read_text() for path in Path(f"/proc/{running.pid}/task").glob("*/children")]
        return [int(pid) for pids in listed for pid in pids.split()]

    until(lambda: any(len(list(processes_of(pid))) > 1 for pid in children()), "a victim runs")
    groups = children()
    running.send_signal(number)
    said, _ = running.communicate(timeout=DEADLINE_SECS)
    assert running.returncode == 130, said.decode()
    until(lambda: not any(list(processes_of(group)) for group in groups), "everything has ended")
    assert json.loads((tmp_path / "r").read_text())["mode"] == "short"


def test_a_trial_that_takes_too_long_is_ended_and_has_failed(monkeypatch: pytest.MonkeyPatch) -> None:
    stage = collect()["kill-wheel"]
    hurried = Stage(**{**stage.__dict__, "timeout_secs": 0.5})
    outcomes: list[Outcome] = []
    started = time.monotonic()
    run = Run(1, outcomes.append)
    run.all(iter([(Order("kill-wheel", 1, 0), hurried)]))
    assert time.monotonic() - started < DEADLINE_SECS
    (outcome,) = outcomes
    assert outcome.error is not None
    assert "its worker was gone" in outcome.error
    runner.forget(outcome)
