"""How many `send_batch` calls per second does a Python program get, and what part of a Rust program's?

A thousand asyncio tasks send batches of one row to a new log; nobody listens at the endpoint, so that only
storing is measured. The Rust program `benches/send_batch.rs` does the same, in turns with this one.

    make bench-python
"""

from __future__ import annotations

import argparse
import asyncio
import json
import shlex
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import NamedTuple

import pyarrow as pa

import arrow_zerobus_sdk_wrapper
from arrow_zerobus_sdk_wrapper import ZerobusWrapper
from page import ROOT, replace

# At least so much of the Rust rate.
GOAL = 0.5
RUST = "cargo bench --quiet --locked -p benches --bench send_batch --"


class Run(NamedTuple):
    """What one run of this program gave, from its first task to the end of its last one.

    Attributes:
        rate: Sends per second.
        thread_micros: Processor time of Python's thread for each.
        process_micros: Processor time of the whole process for each.
    """

    rate: float
    thread_micros: float
    process_micros: float


async def python_run(directory: Path, tasks: int, seconds: float) -> Run:
    """Sends for so long."""
    batches = [pa.record_batch({"id": [task], "value": [0.5], "name": ["a name"]}) for task in range(tasks)]
    with tempfile.TemporaryDirectory(dir=directory) as wal_dir:
        wrapper = ZerobusWrapper(
            endpoint="http://127.0.0.1:9",
            table_name="main.default.benchmark",
            wal_dir=wal_dir,
            shutdown_timeout_secs=0,
        )
        thread, process, start = time.thread_time(), time.process_time(), time.perf_counter()
        end = start + seconds

        async def send(batch: pa.RecordBatch) -> int:
            sends = 0
            while time.perf_counter() < end:
                await wrapper.send_batch(batch)
                sends += 1
            return sends

        sends = sum(await asyncio.gather(*(send(batch) for batch in batches)))
        elapsed = time.perf_counter() - start
        thread, process = time.thread_time() - thread, time.process_time() - process
        await wrapper.shutdown()
    return Run(sends / elapsed, thread / sends * 1e6, process / sends * 1e6)


def rust_rate(command: list[str], directory: Path, tasks: int, seconds: float) -> float:
    """Sends per second of the Rust program in one round."""
    options = ["--json", "--rounds=1", f"--tasks={tasks}", f"--seconds={seconds}", f"--dir={directory}"]
    output = subprocess.run([*command, *options], cwd=ROOT, check=True, stdout=subprocess.PIPE).stdout
    return float(json.loads(output)[0])


def report(python: list[Run], rust: list[float]) -> tuple[dict[str, object], str]:
    """The figures, and the Markdown table of them."""
    ratio = statistics.median_low(run.rate / rate for run, rate in zip(python, rust, strict=True))
    rate, thread, process = (statistics.median_low(values) for values in zip(*python, strict=True))
    figures: dict[str, object] = {
        "python_sends_per_second": rate,
        "python_thread_micros": thread,
        "python_process_micros": process,
        "rust_sends_per_second": statistics.median_low(rust),
        "ratio": ratio,
        "goal": GOAL,
        "reached": ratio >= GOAL,
    }
    verdict = f"{ratio:.2f} (goal ≥ {GOAL}, reached: {'yes' if ratio >= GOAL else 'no'})"
    table = (
        "| sends per second, Rust | Python | Python / Rust | CPU µs of Python's thread | of its process |\n"
        "|---:|---:|---:|---:|---:|\n"
        f"| {statistics.median_low(rust):.0f} | {rate:.0f} | {verdict} | {thread:.1f} | {process:.1f} |\n"
    )
    return figures, table


def main() -> None:
    """Runs both in turns and prints the medians."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--tasks", type=int, default=1000, help="how many tasks send at once (1000)")
    parser.add_argument("--seconds", type=float, default=2.0, help="how long they send in each round (2)")
    parser.add_argument("--rounds", type=int, default=5, help="how often both have their turn (5)")
    parser.add_argument("--quick", action="store_true", help="two rounds of half a second")
    parser.add_argument(
        "--dir", type=Path, default=ROOT / "target", help="a directory on the disk to measure"
    )
    parser.add_argument("--rust", type=shlex.split, default=RUST, help="the command of the Rust program")
    parser.add_argument("--json", type=Path, metavar="FILE", help="writes the figures to this file")
    parser.add_argument("--markdown", type=Path, metavar="FILE", help="replaces the table in this page")
    options = parser.parse_args()
    if options.quick:
        options.seconds, options.rounds = 0.5, 2

    print(f"{Path(arrow_zerobus_sdk_wrapper.__file__).parent}, Python {sys.version.split()[0]}")
    python: list[Run] = []
    rust: list[float] = []
    for _ in range(options.rounds):
        rust.append(rust_rate(options.rust, options.dir, options.tasks, options.seconds))
        python.append(asyncio.run(python_run(options.dir, options.tasks, options.seconds)))
    figures, table = report(python, rust)
    print(table)
    if options.json:
        results = json.loads(options.json.read_text()) if options.json.exists() else {}
        options.json.write_text(json.dumps(results | {"send_batch": figures}, indent=2) + "\n")
    if options.markdown:
        replace(options.markdown, "send_batch", table)


if __name__ == "__main__":
    main()
