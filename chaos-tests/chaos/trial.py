"""What does a stage work with?

A ``Trial`` has a directory, random choices that follow from its seed, a service, victims, and the oracle
that hears them. ``finish`` ends every trial in the same way: everything is healed, a fresh wrapper drains
the log, and what was announced is compared with what is there.
"""

from __future__ import annotations

import contextlib
import os
import random
import shutil
import time
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from . import delta_reader, secrets, verdict, wal_reader
from .announcements import Announcements
from .resources import Resources
from .rows import TABLE
from .service import Service
from .victims import options as victim_options
from .victims import rust, wheel
from .victims.options import Options
from .victims.victim import Victim

DRAIN_SECS = 60.0
DISK = Path(__file__).parents[2] / "target" / "chaos" / "disk"
# A bug that every producer of the trial is to have; see `canaries.py`.
CANARY_VARIABLE = "CHAOS_CANARY"


class Trial:
    """One trial of a stage.

    Attributes:
        stage: Name of the stage.
        seed: The seed of the run.
        index: Which trial of the stage.
        directory: Everything that the trial makes is below it. It is no file system that is faulted; stages
            mount
            theirs below it.
        random: All choices come from it.
        oracle: What the victims have said.
        wal_dir: Root of the logs, unless a stage has another one.
        counts: Figures for the report.
        canary: A bug that every producer has, if one was planted.
    """

    def __init__(self, stage: str, seed: int, index: int, directory: Path) -> None:
        self.stage, self.seed, self.index, self.directory = stage, seed, index, directory
        self.random = random.Random(f"{stage}-{seed}-{index}")
        self.oracle = Announcements(directory / "announcements.jsonl")
        self.wal_dir = directory / "wal"
        self.counts: Counter[str] = Counter()
        self.resources = Resources()
        self.victims: list[Victim] = []
        self.disk_dir: Path | None = None
        self.canary = os.environ.get(CANARY_VARIABLE)
        self._services: list[Service] = []

    def on_disk(self) -> Path:
        """Takes a directory on the machine's disk for the logs of this trial.

        Other trials may have theirs in memory, where a sync takes no time.
        """
        disk = DISK / f"{self.stage}-{self.seed}-{self.index}-{os.getpid()}"
        disk.mkdir(parents=True)
        self.disk_dir, self.wal_dir = disk, disk / "wal"
        return self.wal_dir

    def service(self, **options: Any) -> Service:
        """Starts the service of this trial, with options of ``Emulator``."""
        service = Service(self.directory / f"service-{len(self._services)}", **options)
        service.start()
        self._services.append(service)
        return service

    def options(self, **how: Any) -> Options:
        """Draws the options of one start; ``victims/options.py`` says how that can be narrowed."""
        return victim_options.draw(self.random, **how)

    def victim(
        self,
        options: Options,
        *,
        kind: str = "wheel",
        wal_dir: Path | None = None,
        service: Service | None = None,
        connection: Mapping[str, Any] | None = None,
        environment: Mapping[str, str] | None = None,
        prefix: Sequence[str] = (),
    ) -> Victim:
        """Starts a victim; it runs until it is killed or told to close.

        Args:
            options: What it does.
            kind: ``"wheel"`` or ``"rust"``.
            wal_dir: Root of its logs.
            service: Where it sends; by default the first service of the trial.
            connection: Settings of the connection that are other than those of the service, such as the
                endpoint of a proxy.
            environment: Variables for it, such as ``LD_PRELOAD``.
            prefix: A command that runs it, such as ``ip netns exec``.
        """
        to = service or self._services[0]
        if self.canary:
            # Only the Rust victim can have a bug; the wheel is as it is published.
            kind, options = "rust", replace(options, canary=self.canary, api="async")
        settings = {
            **to.settings,
            "table_name": TABLE,
            "wal_dir": str(wal_dir or self.wal_dir),
            **(connection or {}),
        }
        command = [*prefix, *(wheel.COMMAND if kind == "wheel" else [str(rust.binary())])]
        number = len(self.victims) + 1
        victim = Victim(
            command,
            kind,
            options,
            settings,
            self.oracle,
            self.directory / f"victim-{number}.stderr",
            f"{self.seed}-{self.index}-{number}",
            environment or {},
        )
        self.victims.append(victim)
        self.resources.watch(victim.pid, f"victim {victim.life.number}", kind, options)
        self.count("victims")
        return victim

    def count(self, name: str, number: int = 1) -> None:
        """Adds to a figure of the report."""
        self.counts[name] += number

    def kill(self, victim: Victim) -> None:
        """Kills a victim and counts it.

        Raises:
            AssertionError: It had ended by itself.
        """
        if not victim.is_running:
            said = victim.life.events[-2:]
            raise AssertionError(
                f"victim {victim.life.number} ended by itself: {said}; {victim.complaints()}"
            )
        victim.kill()
        self.count("kills")

    @contextlib.contextmanager
    def kept(self, path: Path) -> Iterator[None]:
        """Keeps a copy of this path with the trial if what is done inside fails.

        That is for what is mounted, and will not be when somebody looks at the failure.
        """
        try:
            yield
        except BaseException:
            with contextlib.suppress(OSError, shutil.Error):
                shutil.copytree(path, self.directory / "kept" / path.name, symlinks=True, dirs_exist_ok=True)
            raise

    def finish(
        self,
        wal_dir: Path | None = None,
        *,
        expect: verdict.Expectations | None = None,
        settings: Mapping[str, Any] | None = None,
        drain_secs: float = DRAIN_SECS,
    ) -> Victim:
        """Heals everything, drains the log with a fresh wrapper of the wheel, and judges.

        Args:
            wal_dir: Root of the logs; it must be readable and writable by now.
            expect: What the trial has done on purpose.
            settings: Settings of the last wrapper.
            drain_secs: Within so many seconds nothing waits any more.

        Returns:
            The victim that has drained, which has ended.

        Raises:
            AssertionError: A promise is broken, or the trial has shown nothing.
        """
        expect = expect or verdict.Expectations()
        unsynced = [life for life in self.oracle.lives if life.settings.get("durability", "sync") != "sync"]
        if any(life.cut_ns for life in unsynced):
            # Of what was not synced a cut takes any part, and what is left behind that makes it known.
            expect = replace(expect, damage_reported=True)
        root = wal_dir or self.wal_dir
        for victim in self.victims:
            if victim.is_running:
                victim.kill()
        acknowledged = sum(batch.ack_ns is not None for batch in self.oracle.batches)
        if acknowledged == 0:
            raise AssertionError("nothing was acknowledged, so nothing was shown")
        for service in self._services:
            service.heal()
        at_rest = wal_reader.logs(root)
        last = verdict.judge_logs(
            self.oracle.batches, at_rest, expect, was_cut=any(life.cut_ns for life in self.oracle.lives)
        )
        self.counts.update(last.figures)
        drainer, statuses = self._drain(root, expect, settings or {}, drain_secs)
        for service in self._services:
            service.stop()
        landed = delta_reader.read(self._services[0].table_directory)
        whole = verdict.judge(
            self.oracle.batches, landed, wal_reader.logs(root), statuses, expect, at_rest=at_rest
        )
        self.counts.update(whole.figures)
        whole.problems = last.problems + whole.problems + self._leftovers(root)
        whole.require()
        return drainer

    def close(self) -> None:
        """Ends everything that still runs."""
        for victim in self.victims:
            if victim.is_running:
                with contextlib.suppress(AssertionError):
                    victim.kill()
        for service in self._services:
            service.kill()
        self.resources.close()
        self.oracle.close()

    def _drain(
        self, root: Path, expect: verdict.Expectations, settings: Mapping[str, Any], drain_secs: float
    ) -> tuple[Victim, list[dict[str, Any]]]:
        drawn = self.options(
            delivery="exactly_once" if expect.exactly_once else "at_least_once",
            ordered=expect.ordered,
            durability="sync",
            wait_for="stored",
            stream_max_age_secs=600,
        )
        drawn = replace(drawn, producers=0, api="async").with_settings(**settings)
        drainer = self.victim(drawn, wal_dir=root)
        started = time.monotonic()
        drainer.command("drain")
        drained = drainer.wait_for("drained", timeout=drain_secs)
        if drained is None:
            raise AssertionError(f"R12: the wrapper that was to drain has ended: {drainer.life.events[-2:]}")
        self.count("drain milliseconds", round((time.monotonic() - started) * 1000))
        drainer.close()
        return drainer, drained["statuses"]

    def _leftovers(self, root: Path) -> list[str]:
        ready = {
            f"victim {life.number}": event["resident_bytes"]
            for life in self.oracle.lives
            for event in life.events
            if event["event"] == "ready"
        }
        told = self.resources.problems(ready)
        service = self._services[0]
        key = Path(service.data_dir / "_emulator" / "token.key")
        places = [self.directory] if root.is_relative_to(self.directory) else [self.directory, root]
        for place in places:
            found, searched = secrets.search(
                place,
                [other.data_dir for other in self._services],
                key.read_bytes() if key.is_file() else None,
            )
            told += found
            self.count("bytes searched for secrets", searched)
        return told
