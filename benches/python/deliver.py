"""How many rows per second does a Python program deliver, and how many with the official package alone?

Ours: four tasks put ``pyarrow`` batches of 10,000 rows through ``send_batch``, each durable before the
task's next, while they are delivered; the clock stops when ``flush`` has returned; once with each transport,
Arrow batches uncompressed. The official package: the rows of the same batches become messages,
``SerializeToString``, two ``ingest_records_offset`` per batch, and the clock stops when the last offset is
acknowledged; nothing is durable there. All talk to the local service, which acknowledges and keeps nothing.

    make bench-python
"""

from __future__ import annotations

import argparse
import asyncio
import json
import random
import resource
import statistics
import string
import sys
import tempfile
import time
from pathlib import Path
from typing import Any, NamedTuple

import pyarrow as pa
import zerobus.sdk.sync as zerobus
from google.protobuf import descriptor_pb2, descriptor_pool, message_factory

import arrow_zerobus_sdk_wrapper
from arrow_zerobus_sdk_wrapper import ZerobusWrapper
from arrow_zerobus_sdk_wrapper.emulator import Emulator
from page import ROOT, replace

TABLE = "main.default.benchmark"
COLUMNS = "id BIGINT, ts BIGINT, device STRING, value DOUBLE, payload STRING"
CLIENT = ("benchmark", "secret")
ROWS = 10_000
SENDERS = 4
# How ours delivers, and the arguments for it.
TRANSPORTS: dict[str, dict[str, Any]] = {
    "protobuf": {"transport": "protobuf"},
    "arrow_flight": {"transport": "arrow_flight", "compression": "none"},
}


class Case(NamedTuple):
    """What is sent, and what is to be reached.

    Attributes:
        record_bytes: Bytes of a record.
        goal: Our rows per second as a multiple of the official package's.
        their_batches: How many batches the official package sends.
        our_batches: How many we send. Both take about a second: so the start of neither counts for much.
    """

    record_bytes: int
    goal: float
    their_batches: int
    our_batches: int


CASES = [Case(96, 10.0, 72, 600), Case(1024, 3.0, 28, 72)]
# Of one send_batch of 10 MB, while others are delivered.
P95_GOAL_MS = 150.0


def readings(record_bytes: int) -> pa.RecordBatch:
    """A batch whose records have so many bytes, as in ``benches/src/conversion.rs``."""
    rng = random.Random(record_bytes)  # noqa: S311
    payload_bytes = record_bytes - 44
    letters = "".join(rng.choices(string.ascii_lowercase, k=ROWS + payload_bytes))
    devices = ["".join(rng.choices(string.ascii_lowercase, k=16)) for _ in range(50)]
    return pa.record_batch(
        {
            "id": pa.array(range(2**30, 2**30 + ROWS), pa.int64()),
            "ts": pa.array(range(1_760_000_000_000_000, 1_760_000_000_000_000 + ROWS), pa.int64()),
            "device": [devices[row * 7 % 50] for row in range(ROWS)],
            "value": [rng.random() for _ in range(ROWS)],
            "payload": [letters[row : row + payload_bytes] for row in range(ROWS)],
        }
    )


def message_class() -> Any:
    """The message of one row, for Google's library."""
    field = descriptor_pb2.FieldDescriptorProto
    types = [field.TYPE_INT64, field.TYPE_INT64, field.TYPE_STRING, field.TYPE_DOUBLE, field.TYPE_STRING]
    file = descriptor_pb2.FileDescriptorProto(name="reading.proto", package="benchmark", syntax="proto2")
    message = file.message_type.add(name="Reading")
    for number, (column, kind) in enumerate(zip(COLUMNS.split(", "), types, strict=True), 1):
        message.field.add(name=column.split()[0], number=number, type=kind, label=field.LABEL_OPTIONAL)
    pool = descriptor_pool.DescriptorPool()
    pool.Add(file)
    return message_factory.GetMessageClass(pool.FindMessageTypeByName("benchmark.Reading"))


class Run(NamedTuple):
    """What one run of ours gave.

    Attributes:
        rows_per_second: From before the wrapper is made to the end of ``flush``.
        send_ms: How many milliseconds each ``send_batch`` took.
        faults: Pages that the system had to give this process, or to fill with zeros, for each batch.
    """

    rows_per_second: float
    send_ms: list[float]
    faults: float


async def ours(
    emulator: Emulator, transport: str, batch: pa.RecordBatch, batches: int, directory: Path
) -> Run:
    """Sends so many batches, and waits until they are delivered."""
    faults = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    with tempfile.TemporaryDirectory(dir=directory) as wal_dir:
        start = time.perf_counter()
        async with ZerobusWrapper(
            emulator.endpoint,
            TABLE,
            client_id=CLIENT[0],
            client_secret=CLIENT[1],
            unity_catalog_url=emulator.unity_catalog_url,
            wal_dir=wal_dir,
            **TRANSPORTS[transport],
        ) as wrapper:
            latencies: list[float] = []

            async def send(count: int) -> None:
                for _ in range(count):
                    begin = time.perf_counter()
                    await wrapper.send_batch(batch)
                    latencies.append((time.perf_counter() - begin) * 1000)

            await asyncio.gather(*(send(batches // SENDERS) for _ in range(SENDERS)))
            await wrapper.flush()
            elapsed = time.perf_counter() - start
    faults = resource.getrusage(resource.RUSAGE_SELF).ru_minflt - faults
    sent = len(latencies)
    return Run(sent * batch.num_rows / elapsed, latencies, faults / sent)


def official(emulator: Emulator, batch: pa.RecordBatch, batches: int) -> float:
    """Rows per second of the official package, fed row by row."""
    message = message_class()
    sdk = zerobus.ZerobusSdk(emulator.endpoint, emulator.unity_catalog_url)
    # The package has no public way to speak plain HTTP; its core has one for tests.
    sdk._inner.set_use_tls(False)
    start = time.perf_counter()
    stream = sdk.create_stream(*CLIENT, zerobus.TableProperties(TABLE, message.DESCRIPTOR))
    offset = None
    for _ in range(batches):
        records = [message(**row).SerializeToString() for row in batch.to_pylist()]
        # The service takes 10 MB in one request.
        half = len(records) // 2
        for part in (records[:half], records[half:]):
            offset = stream.ingest_records_offset(part)
    stream.wait_for_offset(offset)
    elapsed = time.perf_counter() - start
    stream.close()
    return float(batches * batch.num_rows / elapsed)


def yes(reached: bool) -> str:
    """The word for a table."""
    return "yes" if reached else "no"


def main() -> None:
    """Measures all in turns and prints the medians."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rounds", type=int, default=5, help="how often each has its turn (5)")
    parser.add_argument("--quick", action="store_true", help="shows that it runs; the figures are rough")
    parser.add_argument(
        "--dir", type=Path, default=ROOT / "target", help="a directory on the disk to measure"
    )
    parser.add_argument("--json", type=Path, metavar="FILE", help="writes the figures to this file")
    parser.add_argument("--markdown", type=Path, metavar="FILE", help="replaces the table in this page")
    options = parser.parse_args()
    if options.quick:
        options.rounds = 2

    print(f"{Path(arrow_zerobus_sdk_wrapper.__file__).parent}, Python {sys.version.split()[0]}")
    lines = [
        "| records | official package, rows/s | transport | ours, stored and delivered, rows/s | times | "
        "`send_batch` p95, ms | page faults per batch |",
        "|---|---:|---|---:|---:|---:|---:|",
    ]
    figures: dict[str, object] = {}
    with Emulator(tables={TABLE: COLUMNS}, sink="discard") as emulator:
        for record_bytes, goal, their_batches, our_batches in CASES:
            batch = readings(record_bytes)
            if options.quick:
                their_batches, our_batches = their_batches // 8, our_batches // 8
            theirs: list[float] = []
            runs: dict[str, list[Run]] = {transport: [] for transport in TRANSPORTS}
            for _ in range(options.rounds):
                for transport, ended in runs.items():
                    ended.append(asyncio.run(ours(emulator, transport, batch, our_batches, options.dir)))
                theirs.append(official(emulator, batch, their_batches))
            for transport, ended in runs.items():
                rates = [run.rows_per_second for run in ended]
                times = statistics.median_low(a / b for a, b in zip(rates, theirs, strict=True))
                p95 = statistics.quantiles([ms for run in ended for ms in run.send_ms], n=20)[-1]
                faults = statistics.median_low(run.faults for run in ended)
                p95_text = f"{p95:.0f}"
                if batch.nbytes > 9_000_000:
                    p95_text += f" (goal < {P95_GOAL_MS:.0f}, reached: {yes(p95 < P95_GOAL_MS)})"
                lines.append(
                    f"| {record_bytes} B | {statistics.median_low(theirs):.0f} | `{transport}` "
                    f"| {statistics.median_low(rates):.0f} "
                    f"| {times:.1f} (goal ≥ {goal:.0f}, reached: {yes(times >= goal)}) | {p95_text} "
                    f"| {faults:.1f} |"
                )
                case = f"{record_bytes}, {transport}"
                figures[case] = {"times": times, "goal": goal, "send_batch_p95_ms": p95, "faults": faults}
    table = "\n".join(lines) + "\n"
    print(table)
    if options.json:
        results = json.loads(options.json.read_text()) if options.json.exists() else {}
        options.json.write_text(json.dumps(results | {"deliver": figures}, indent=2) + "\n")
    if options.markdown:
        replace(options.markdown, "deliver", table)


if __name__ == "__main__":
    main()
