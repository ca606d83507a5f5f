"""What the pages do with a checkout works: the demo, the chaos suite, the long run, the replay of a seed.

Goal: as that of ``test_docs.py``, for the blocks that would build everything, or run for hours, or both.
Method: each block is run as it stands there, numbers of seconds aside, in another checkout whose ``.venv``
is the one of these tests, so that make finds nothing to build. The only stage of the chaos suite there is the
example of its README, made small, and its cargo works in this checkout and lists the tests that it is to run:
that they pass is seen by ``make test-rust``.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from docs_blocks import ROOT, blocks_of, blocks_run_by
from docs_world import World, lacks

# Beside other tests, on a busy machine.
TIMEOUT_SECS = 600
BUILT = f"mkdir .venv && ln -s {sys.prefix}/* .venv && touch .venv/.tools .venv/.wheel"
NOT_BUILT = "the tests of Rust are not built, or changed since: make test-rust"
REFUSING_RUSTC = f"""\
#!/bin/sh
case "$*" in *" -vV"* | *" --crate-name ___ "*) exec "$@" ;; esac
echo '{NOT_BUILT}' >&2
exit 1
"""
# What is small in the example of a stage, and how its page calls a stage when it runs one.
SMALL = {"range(10)": "range(2)", "trials=5": "trials=1", "kill-example": "kill-wheel"}
LISTING_CARGO = """\
#!/bin/sh
cd {root}
case " $* " in
    *" -- "*) exec {cargo} "$@" --list ;;
    *) exec {cargo} "$@" -- --list ;;
esac
"""


def need(*programs: str) -> None:
    for program in programs:
        if shutil.which(program) is None:
            lacks(f"{program} is not installed; CONTRIBUTING.md says what a build needs")


def take_cargo(world: World) -> None:
    """Gives a world cargo, which takes what is built and builds nothing: that would take minutes."""
    need("cargo")
    refusing = world.directory / "rustc"
    refusing.write_text(REFUSING_RUSTC)
    refusing.chmod(0o755)
    home = Path.home()
    world.environment |= {"CARGO_HOME": str(home / ".cargo"), "RUSTUP_HOME": str(home / ".rustup")}
    world.environment |= {name: os.environ[name] for name in os.environ if name.startswith(("CARGO", "RUST"))}
    world.environment["RUSTC_WRAPPER"] = str(refusing)


def run(world: World, body: str) -> str:
    """Runs a block and returns what it prints."""
    script = ["bash", "-euo", "pipefail", "-c", world.typed(body)]
    done = world.run(script, is_merged=True, timeout_secs=TIMEOUT_SECS)
    if NOT_BUILT in done.stdout:
        lacks(NOT_BUILT)
    assert done.returncode == 0, done.stdout
    return done.stdout


@pytest.fixture
def checkout(tmp_path: Path) -> World:
    """A checkout like this one, whose chaos suite is small."""
    world = World(tmp_path, "empty")
    left_out = {".git", ".venv", "chaos-tests", "target"}
    for entry in ROOT.iterdir():
        if entry.name not in left_out:
            (tmp_path / entry.name).symlink_to(entry)
    subprocess.run(["sh", "-euc", BUILT], cwd=tmp_path, check=True)
    suite, copy = ROOT / "chaos-tests" / "chaos", tmp_path / "chaos-tests" / "chaos"
    shutil.copytree(suite, copy, ignore=shutil.ignore_patterns("__pycache__", "stages"))
    (copy / "stages").mkdir()
    shutil.copy(suite / "stages" / "__init__.py", copy / "stages")
    (stage,) = [block for block in blocks_of(ROOT / "chaos-tests/README.md") if block.language == "python"]
    text = stage.body
    for found, small in SMALL.items():
        assert found in text
        text = text.replace(found, small)
    (copy / "stages" / "example.py").write_text(text)
    world.typed_as["3600"] = "1"
    return world


def trials(said: str) -> list[int]:
    """How many trials each run of the chaos suite has made; none failed."""
    return [int(count) for count in re.findall(r"^(\d+) trials, 0 failures, 0 stages skipped", said, re.M)]


def test_the_demo_of_the_readme_runs_in_a_clone_and_loses_nothing(tmp_path: Path) -> None:
    need("git", "make", "cargo")
    if not (ROOT / ".git").exists():
        lacks("this is no clone, so it cannot be cloned: git clone it")
    (block,) = blocks_run_by(
        "test_docs_checkout.py::test_the_demo_of_the_readme_runs_in_a_clone_and_loses_nothing"
    )
    (url,) = re.findall(r"git clone (\S+)", block.body)
    world = World(tmp_path, "empty")
    # The repository of the page is this one, and with its files a clone gets what is built.
    hook = tmp_path / "hooks" / "post-checkout"
    hook.parent.mkdir()
    hook.write_text(f"#!/bin/sh\n{BUILT}\n")
    hook.chmod(0o755)
    (tmp_path / ".gitconfig").write_text(
        f'[url "{ROOT.as_uri()}"]\ninsteadOf = {url}\n'
        f"[core]\nhooksPath = {hook.parent}\n[safe]\ndirectory = *\n"
    )
    said = run(world, block.body)
    assert "SIGKILL to the service" in said
    assert "SIGKILL to the producer" in said
    (sent, lost) = re.findall(r"^rows sent ([\d,]+), landed [\d,]+, lost (\d+)", said, re.M)[0]
    assert f"{sent} real flights" in block.page.read_text()
    assert lost == "0"
    assert "nothing is lost and every value is equal" in said


def test_the_chaos_suite_runs_as_its_readme_says(checkout: World) -> None:
    (block,) = blocks_run_by("test_docs_checkout.py::test_the_chaos_suite_runs_as_its_readme_says")
    checkout.at = checkout.directory / "chaos-tests"
    said = run(checkout, block.body)
    assert len(trials(said)) == 3
    assert min(trials(said)) > 0
    assert "seed 7, 1 stages" in said
    report = json.loads((checkout.directory / "target/chaos/report.json").read_text())
    assert (report["mode"], list(report["stages"])) == ("long", ["kill-wheel"])


def test_make_runs_the_chaos_suite_and_in_a_soak_then_the_long_tests(checkout: World) -> None:
    need("make")
    (block,) = blocks_run_by(
        "test_docs_checkout.py::test_make_runs_the_chaos_suite_and_in_a_soak_then_the_long_tests"
    )
    cargo = checkout.directory / "bin" / "cargo"
    cargo.parent.mkdir()
    cargo.write_text(LISTING_CARGO.format(root=ROOT, cargo=shutil.which("cargo")))
    cargo.chmod(0o755)
    take_cargo(checkout)
    checkout.environment["PATH"] = f"{cargo.parent}{os.pathsep}{checkout.environment['PATH']}"
    said = run(checkout, block.body)
    assert len(trials(said)) == 2
    report = json.loads((checkout.directory / "target/chaos/report.json").read_text())
    assert report["mode"] == "long"
    long_runs = re.findall(r"^(?:([A-Z_]+)=\S+ )(?:([A-Z_]+)=\S+ )?cargo test .*$", said, re.M)
    listed = [int(count) for count in re.findall(r"^(\d+) tests?, 0 benchmarks$", said, re.M)]
    assert len(long_runs) > 3
    assert len(listed) == len(long_runs)
    assert min(listed) > 0
    tests = "".join(path.read_text() for path in (ROOT / "tests").rglob("*.rs"))
    assert [name for names in long_runs for name in names if name and f'"{name}"' not in tests] == []


def test_a_seed_of_the_model_is_replayed_and_told_step_by_step(tmp_path: Path) -> None:
    (block,) = blocks_run_by(
        "test_docs_checkout.py::test_a_seed_of_the_model_is_replayed_and_told_step_by_step"
    )
    world = World(tmp_path, "empty")
    world.at = ROOT
    take_cargo(world)
    said = run(world, block.body)
    assert re.search(r"^seed 4711:\n +0 Swarm \{ options: ", said, re.M)
    steps = [int(operations) for operations in re.findall(r"^ +(\d+) \w", said, re.M)]
    assert len(steps) > 60
    assert steps == sorted(steps)
    assert "test result: ok. 1 passed" in said
