"""Damage in the segment that was open when its owner was killed is not taken for the end of the log.

Method: everything waits in one open segment, whose owner is killed. A bit of a frame in its first half
flips, in the header or in the body. The next owner must step over exactly that frame, report it, deliver
the frames behind it, and give new frames numbers above them.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from .. import wal_reader
from ..stage import Need, Stage
from ..trial import Trial
from ..verdict import Expectations
from ..victims.options import MIB
from .rot import FRAME_HEADER, flip, whole_frames

BATCHES = 20


def run(trial: Trial) -> None:
    """Flips one bit and goes on."""
    service = trial.service()
    service.kill()
    options = replace(
        trial.options(durability="sync", wait_for="stored", segment_bytes=16 * MIB), rows=(1, 60)
    )
    first = trial.victim(options, kind=trial.random.choice(["wheel", "rust"]))
    first.wait_for("ack", times=BATCHES)
    directory = Path(str((first.heard("open") or {})["directory"]))
    trial.kill(first)
    before = {frame.lsn for frame in wal_reader.read(directory).frames}
    frames = whole_frames(directory)
    path, offset, length = trial.random.choice(frames[: len(frames) // 2])
    start, end = trial.random.choice([(0, FRAME_HEADER), (FRAME_HEADER, length)])
    flip(path, offset + start, offset + end, trial.random)
    lost = before - {frame.lsn for frame in wal_reader.read(directory).frames}
    second = trial.victim(options, kind="rust")
    if second.wait_for("ack", times=3) is None:
        raise AssertionError(f"the log cannot be opened any more: {second.life.events[-1]}")
    trial.kill(second)
    trial.count("frames damaged", len(lost))
    damaged = frozenset((str(directory), lsn) for lsn in lost)
    trial.finish(expect=Expectations(damaged=damaged, damage_reported=True))


STAGES = (
    Stage(
        name="rot-open",
        rows=(6, 7),
        fault="one bit of an open segment flips, with whole frames behind it",
        promise="only the damaged frame is missing; what is behind it is delivered, numbers go on",
        proof="a reader of our own says which frame is damaged; all others must land",
        needs=frozenset({Need.RUST_VICTIM}),
        trials=3,
        run=run,
        unit="frames damaged",
    ),
)
