"""How long does a row of real data take from Arrow to protobuf here, and how long in Python, row by row?

The rows are the flights of the demo. Python does what the examples of the official package do: it takes the
rows out of the batch, makes a message of each and serialises it with Google's ``protobuf``. For comparison
also without the first of these steps. The same batch is converted by ``benches/convert.rs``, one core each.

    make bench-python
"""

from __future__ import annotations

import argparse
import json
import shlex
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
from google.protobuf import descriptor_pb2, descriptor_pool, message_factory

from page import ROOT, replace

sys.path.insert(0, str(ROOT / "examples" / "python" / "demo"))
import flights

# At least so many times the rate of Python.
GOAL = 30.0
ROWS = 10_000
RUST = "cargo bench --quiet --locked -p benches --bench convert --"


def rust_nanos(
    command: list[str], batch: pa.RecordBatch, directory: Path, quick: bool
) -> tuple[float, bytes]:
    """Nanoseconds per row of our conversion into one buffer, and the descriptor of the records."""
    stream, descriptor, results = (directory / name for name in ("flights.arrows", "descriptor", "results"))
    with pa.OSFile(str(stream), "wb") as sink, pa.ipc.new_stream(sink, batch.schema) as writer:
        writer.write_batch(batch)
    options = [f"--ipc={stream}", f"--descriptor={descriptor}", f"--json={results}"]
    if quick:
        options.append("--quick")
    subprocess.run([*command, *options], cwd=ROOT, check=True, stdout=subprocess.DEVNULL)
    (case,) = json.loads(results.read_text())["convert"]["cases"]
    (ours,) = (method for method in case["methods"] if method["kind"] == "one_buffer")
    return float(ours["row_nanos"]), descriptor.read_bytes()


def message_class(data: bytes) -> Any:
    """The class of the messages that a descriptor without nested messages describes."""
    descriptor = descriptor_pb2.DescriptorProto.FromString(data)
    for field in descriptor.field:
        # Google's library knows this mark in proto3 only, and the fields are optional anyway.
        field.ClearField("proto3_optional")
    pool = descriptor_pool.DescriptorPool()
    pool.Add(descriptor_pb2.FileDescriptorProto(name="record.proto", message_type=[descriptor]))
    return message_factory.GetMessageClass(pool.FindMessageTypeByName(descriptor.name))


def python_nanos(convert: Callable[[], list[bytes]], rounds: int) -> float:
    """Nanoseconds per row, the median of the rounds."""
    times = []
    for _ in range(rounds):
        start = time.perf_counter_ns()
        rows = len(convert())
        times.append((time.perf_counter_ns() - start) / rows)
    return statistics.median(times)


def main() -> None:
    """Measures both and prints the ratio."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rounds", type=int, default=9, help="how often Python has its turn (9)")
    parser.add_argument("--quick", action="store_true", help="shows that it runs; the figures are rough")
    parser.add_argument("--rust", type=shlex.split, default=RUST, help="the command of the Rust program")
    parser.add_argument("--markdown", type=Path, metavar="FILE", help="replaces the table in this page")
    options = parser.parse_args()
    if options.quick:
        options.rounds = 2

    (batch,) = flights.read().slice(0, ROWS).combine_chunks().to_batches()
    # The service counts microseconds; that this needs a cast in Python is not held against it.
    counted = batch.set_column(batch.num_columns - 1, "time_hour", batch.column("time_hour").cast(pa.int64()))
    with tempfile.TemporaryDirectory() as directory:
        ours, descriptor = rust_nanos(options.rust, batch, Path(directory), options.quick)
    message = message_class(descriptor)
    rows = counted.to_pylist()
    serialised = python_nanos(lambda: [message(**row).SerializeToString() for row in rows], options.rounds)
    converted = python_nanos(
        lambda: [message(**row).SerializeToString() for row in counted.to_pylist()], options.rounds
    )
    ratio = converted / ours
    verdict = f"{ratio:.0f} (goal ≥ {GOAL:.0f}, reached: {'yes' if ratio >= GOAL else 'no'})"
    table = (
        "| flights, 20 columns | ns per row | times ours |\n"
        "|---|---:|---:|\n"
        f"| ours, one buffer | {ours:.0f} | 1 |\n"
        f"| Python: `to_pylist`, a message per row, `SerializeToString` | {converted:.0f} | {verdict} |\n"
        f"| Python: the same without `to_pylist` | {serialised:.0f} | {serialised / ours:.0f} |\n"
    )
    print(table)
    if options.markdown:
        replace(options.markdown, "flights", table)


if __name__ == "__main__":
    main()
