"""Real data survives a killed service and a killed producer on its way into a Delta table.

A producer process streams the flights through the wrapper into a local Zerobus. On the way the service is
killed with SIGKILL and started again, then the producer. At the end the Delta table is read by another
library and compared with the input. The exit code is 0 only if no row is lost and every value is equal.
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterable
from pathlib import Path

import pyarrow as pa

import flights
import verify
from arrow_zerobus_sdk_wrapper.emulator import Emulator

HERE = Path(__file__).resolve().parent
WORK = HERE.parents[2] / "target" / "demo"
CLIENT_ID, CLIENT_SECRET = "demo", "demo-secret"

SERVICE_KILLED_AT, SERVICE_BACK_AT, PRODUCER_KILLED_AT = 0.25, 0.45, 0.70
DEADLINE_SECS = 150
CLEAR_LINE = "\r\x1b[K"


class Producer:
    """The producer process that runs now, and the progress that it last printed."""

    def __init__(self, emulator: Emulator) -> None:
        self.rows = {"stored": 0, "delivered": 0, "quarantined": 0, "dropped": 0, "waiting": 0}
        self._command = [
            *(sys.executable, str(HERE / "producer.py")),
            *("--endpoint", emulator.endpoint),
            *("--unity-catalog-url", emulator.unity_catalog_url),
            *("--wal-dir", str(WORK / "wal")),
            *("--position", str(WORK / "position")),
        ]
        self._environment = os.environ | {"DEMO_CLIENT_ID": CLIENT_ID, "DEMO_CLIENT_SECRET": CLIENT_SECRET}
        self.start()

    def start(self) -> None:
        """Starts it from its own position."""
        self._process = subprocess.Popen(
            self._command, env=self._environment, stdout=subprocess.PIPE, text=True
        )
        self._reader = threading.Thread(target=self._read, args=(self._process.stdout,), daemon=True)
        self._reader.start()

    def _read(self, lines: Iterable[str]) -> None:
        for line in lines:
            # A kill can cut a line in two.
            with contextlib.suppress(ValueError):
                self.rows = json.loads(line)

    def kill(self) -> None:
        """Kills it with SIGKILL."""
        self._process.kill()
        self._process.wait()
        self._reader.join()

    def poll(self) -> int | None:
        """Its exit code, or None while it runs."""
        code = self._process.poll()
        if code is not None:
            self._reader.join()
        return code


class Screen:
    """A live line on a terminal; elsewhere a plain line each second."""

    def __init__(self, total: int) -> None:
        self._total = total
        self._is_terminal = sys.stdout.isatty()
        self._begun = time.monotonic()
        self._last_line = 0.0

    def _elapsed(self) -> str:
        return f"{time.monotonic() - self._begun:5.1f} s"

    def show(self, producer: Producer, *, is_last: bool = False) -> None:
        """Shows the rows as they stand."""
        now = time.monotonic()
        if not self._is_terminal and not is_last and now - self._last_line < 1:
            return
        self._last_line = now
        counts = "  ".join(f"{name} {count:>7,}" for name, count in producer.rows.items())
        text = f"{self._elapsed()}  {counts}  of {self._total:,} rows"
        if self._is_terminal:
            print(f"{CLEAR_LINE}{text}", end="\n" if is_last else "", flush=True)
        else:
            print(text, flush=True)

    def event(self, text: str) -> None:
        """Says what the demo does."""
        print(f"{CLEAR_LINE if self._is_terminal else ''}{self._elapsed()}  {text}", flush=True)


def run(emulator: Emulator, total: int) -> int:
    """Streams everything, with both kills on the way; returns the producer's exit code."""
    screen = Screen(total)
    screen.event(f"the producer streams {total:,} rows in batches of {flights.BATCH_ROWS:,}")
    producer = Producer(emulator)
    steps: list[tuple[float, str, Callable[[], object]]] = [
        (SERVICE_KILLED_AT, "SIGKILL to the service", emulator.kill),
        (SERVICE_BACK_AT, "the service starts again", emulator.restart),
        (PRODUCER_KILLED_AT, "SIGKILL to the producer", producer.kill),
    ]
    deadline = time.monotonic() + DEADLINE_SECS
    while (code := producer.poll()) is None:
        screen.show(producer)
        if steps and producer.rows["stored"] >= steps[0][0] * total:
            _, text, action = steps.pop(0)
            screen.event(text)
            action()
            if not steps:
                screen.event("the producer starts again, where it stopped")
                producer.start()
        if time.monotonic() > deadline:
            producer.kill()
            raise SystemExit(
                f"not done after {DEADLINE_SECS} s: {producer.rows['waiting']:,} rows are still waiting"
            )
        time.sleep(0.05)
    screen.show(producer, is_last=True)
    if steps:
        screen.event(f"the producer ended too early, with exit code {code}")
        return code or 1
    return code


def report(verdict: verify.Verdict) -> None:
    """Prints the numbers and the digest of each column."""
    print("\ncolumn          sha-256 of the input  sha-256 of the table")
    for name, (given, found) in verdict.digests.items():
        print(f"{name:<15} {given[:16]}      {found[:16]}      {'equal' if given == found else 'DIFFERENT'}")
    print(
        f"\nrows sent {verdict.sent:,}, landed {verdict.landed:,}, lost {verdict.lost:,}, "
        f"duplicated {verdict.duplicated:,}, foreign {verdict.foreign:,}"
    )
    print("nothing is lost and every value is equal" if verdict.is_good else "THE TABLE IS NOT THE INPUT")


def main() -> int:
    """Runs the demo and returns its exit code."""
    shutil.rmtree(WORK, ignore_errors=True)
    WORK.mkdir(parents=True)
    given: pa.Table = flights.read()
    with Emulator(
        data_dir=WORK / "tables",
        tables={flights.TABLE: flights.ddl()},
        client_id=CLIENT_ID,
        client_secret=CLIENT_SECRET,
    ) as emulator:
        code = run(emulator, given.num_rows)
        path = Path(emulator.table_path(flights.TABLE))
    if code != 0:
        print(f"the producer failed with exit code {code}", file=sys.stderr)
        return 1
    verdict = verify.compare(given, path)
    report(verdict)
    return 0 if verdict.is_good else 1


if __name__ == "__main__":
    sys.exit(main())
