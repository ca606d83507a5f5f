"""How are trials run?

Workers are processes that are given one trial after the other. Each is the leader of a process group, has a
mount namespace of its own where that is possible, and is ended with everything that it has started when a
trial takes too long or the run is interrupted. A trial that fails leaves its directory below
``target/chaos/failures``.
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
import traceback
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from .faults import mounts
from .stage import Stage
from .stages import collect
from .trial import Trial

ROOT = Path(__file__).parents[2]
OUTPUT = ROOT / "target" / "chaos"
SUITE = ROOT / "chaos-tests"


@dataclass(frozen=True)
class Order:
    """A trial that is to be made."""

    stage: str
    seed: int
    index: int

    @property
    def name(self) -> str:
        """How its directory is called."""
        return f"{self.stage}-{self.seed}-{self.index}"

    @property
    def replay(self) -> str:
        """The command that makes it again."""
        return (
            f"cd chaos-tests && ../.venv/bin/python -m chaos run {self.stage} "
            f"--seed {self.seed} --trial {self.index}"
        )


@dataclass
class Outcome:
    """What came of a trial."""

    order: Order
    seconds: float
    counts: dict[str, int] = field(default_factory=dict)
    error: str | None = None
    kept: str | None = None


def make(order: Order, stage: Stage) -> Outcome:
    """Makes one trial in this process."""
    directory = OUTPUT / "work" / f"{order.name}-{os.getpid()}"
    shutil.rmtree(directory, ignore_errors=True)
    directory.mkdir(parents=True)
    started = time.monotonic()
    trial = Trial(order.stage, order.seed, order.index, directory)
    error = None
    try:
        stage.run(trial)
    except KeyboardInterrupt:
        raise
    except Exception:
        error = traceback.format_exc()
    finally:
        trial.close()
    kept = None
    if trial.disk_dir is not None:
        if error is not None:
            shutil.copytree(trial.disk_dir, directory / "disk", ignore=shutil.ignore_patterns("*.sock"))
        shutil.rmtree(trial.disk_dir)
    if error is not None:
        failures = OUTPUT / "failures" / order.name
        failures.parent.mkdir(parents=True, exist_ok=True)
        shutil.rmtree(failures, ignore_errors=True)
        _copy_out(directory, failures)
        (failures / "error.txt").write_text(f"{error}\n{order.replay}\n")
        kept = str(failures.relative_to(ROOT))
    else:
        shutil.rmtree(directory)
    return Outcome(order, time.monotonic() - started, dict(trial.counts), error, kept)


def forget(outcome: Outcome) -> None:
    """Removes what a failed trial has left."""
    if outcome.kept is not None:
        shutil.rmtree(ROOT / outcome.kept, ignore_errors=True)


def work_in_memory() -> None:
    """Puts the directories of trials into memory, where this process may mount.

    Trials sync all the time, and share the disk with whatever else the machine does. What is cut or filled
    has a file system of its own.
    """
    if mounts.cannot_mount() is not None:
        return
    place = OUTPUT / "work"
    place.mkdir(parents=True, exist_ok=True)
    mounts.enter_private_namespace()
    mounts.run("mount", "-t", "tmpfs", "tmpfs", str(place))
    os.environ["TMPDIR"] = str(place)


def _copy_out(directory: Path, to: Path) -> None:
    # Pipes and sockets too, and images with their holes.
    subprocess.run(["cp", "--archive", "--sparse=always", str(directory), str(to)], check=False)
    shutil.rmtree(directory, ignore_errors=True)


def work() -> None:
    """The loop of a worker: orders as lines on its standard input, outcomes on its standard output."""
    stages = collect()
    for line in sys.stdin:
        order = Order(**json.loads(line))
        outcome = make(order, stages[order.stage])
        answer = {
            "seconds": outcome.seconds,
            "counts": outcome.counts,
            "error": outcome.error,
            "kept": outcome.kept,
        }
        print(json.dumps(answer), flush=True)


class Worker:
    """A process that makes trials."""

    def __init__(self) -> None:
        self._process: subprocess.Popen[str] | None = None

    def make(self, order: Order, stage: Stage) -> Outcome:
        """Has one trial made; one that takes too long is ended and has failed."""
        process = self._process = self._process or self._start()
        assert process.stdin is not None
        assert process.stdout is not None
        started = time.monotonic()
        timer = threading.Timer(stage.timeout_secs, self.kill)
        timer.start()
        try:
            process.stdin.write(json.dumps(order.__dict__) + "\n")
            process.stdin.flush()
            answer = process.stdout.readline()
        except OSError:
            answer = ""
        finally:
            timer.cancel()
        seconds = time.monotonic() - started
        if answer:
            return Outcome(order, **json.loads(answer))
        self.kill()
        with contextlib.suppress(OSError):
            process.stdin.close()
        process.stdout.close()
        self._process = None
        left = sorted((OUTPUT / "work").glob(f"{order.name}-*"))
        return Outcome(
            order,
            seconds,
            error=f"its worker was gone after {seconds:.0f} s of {stage.timeout_secs:.0f} s",
            kept=str(left[-1].relative_to(ROOT)) if left else None,
        )

    def kill(self) -> None:
        """Ends the worker and everything that it has started."""
        if self._process is not None:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(self._process.pid, signal.SIGKILL)
            self._process.wait()

    def close(self) -> None:
        """Ends it once it has nothing to do."""
        if self._process is not None and self._process.stdin is not None:
            self._process.communicate()

    @staticmethod
    def _start() -> subprocess.Popen[str]:
        # What is mounted in a namespace of its own is gone when the last process of it is.
        prefix = ["unshare", "--mount"] if mounts.cannot_mount() is None else []
        return subprocess.Popen(
            [*prefix, sys.executable, "-m", "chaos", "work"],
            cwd=SUITE,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )


class Run:
    """Trials, made by some workers at a time.

    Args:
        workers: How many.
        tell: Called with each outcome, from one thread at a time.
    """

    def __init__(self, workers: int, tell: Any) -> None:
        self._workers = [Worker() for _ in range(workers)]
        self._tell = tell
        self._lock = threading.Lock()
        self._alone = threading.Condition(self._lock)
        self._running = 0
        self._is_alone = False
        self._stopped = False
        self.outcomes: list[Outcome] = []

    def all(self, orders: Iterator[tuple[Order, Stage]]) -> None:
        """Makes all these trials. Ends everything when it is interrupted.

        Raises:
            KeyboardInterrupt: Somebody pressed Ctrl-C; nothing runs any more.
        """
        threads = [threading.Thread(target=self._one, args=(worker, orders)) for worker in self._workers]
        for thread in threads:
            thread.start()
        try:
            for thread in threads:
                while thread.is_alive():
                    thread.join(0.2)
        except BaseException:
            self._stopped = True
            with self._lock:
                self._alone.notify_all()
            for worker in self._workers:
                worker.kill()
            for thread in threads:
                thread.join()
            raise
        for worker in self._workers:
            worker.close()

    def _one(self, worker: Worker, orders: Iterator[tuple[Order, Stage]]) -> None:
        while not self._stopped:
            with self._lock:
                order, stage = next(orders, (None, None))
                if order is None or stage is None:
                    return
                while (self._is_alone or (stage.alone and self._running)) and not self._stopped:
                    self._alone.wait()
                if self._stopped:
                    return
                self._running += 1
                self._is_alone = stage.alone
            outcome = worker.make(order, stage)
            with self._lock:
                self._running -= 1
                self._is_alone = False
                self._alone.notify_all()
                if self._stopped:
                    return
                self.outcomes.append(outcome)
                self._tell(outcome)
