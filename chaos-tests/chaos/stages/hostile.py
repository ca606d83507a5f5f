"""Whatever lies in the directory, a log opens, works, and drains; the command ends in time and harms nothing.

Method: between the lives of victims files of all kinds are put into the writer directory and beside it: pipes
that never answer, sockets, devices, links to nowhere and to everywhere, directories under the names of
segments, names of 255 bytes and names that are no text, files of random bytes, of zeros, of enormous size.
Each time the log must open and take rows or refuse with an error of its own, and every verb of the command
that reads must end within its deadline, beside the live owner and without one.
"""

from __future__ import annotations

import os
import shutil
import socket
from collections.abc import Callable
from pathlib import Path
from random import Random

from ..command import zerobus_wal
from ..stage import Need, Stage
from ..trial import Trial
from ..verdict import Expectations
from ..victims.victim import Victim
from .power_cut import kind_of_victim

VERBS = ("status", "ls", "verify", "inspect")
Guest = Callable[[Path, Random], None]


def name_of(random: Random, directory: Path) -> Path:
    """A name that somebody may take for one of ours."""
    number = random.randrange(10**6)
    name = random.choice(
        [
            f"segment-{number:016}.wal",
            f"segment-{number:016}.wal.damaged",
            f"segment-{number}.wal",
            f"segment-{2**64 - 1}.wal",
            f"spare-{number:016}",
            "LOG.new",
            "ledger.set-aside-1",
            "ledger.reserve.old",
            "quarantine.reserve.old",
            f"quarantine/{number:016}.arrow",
            f"backup-{number % 1000:03}",
            "x" * 255,
            os.fsdecode(b"segment-\xff\xfe.wal"),
        ]
    )
    path = directory / name
    path.parent.mkdir(exist_ok=True)
    return path


def pipe(path: Path, _random: Random) -> None:
    """A pipe that nobody writes to."""
    os.mkfifo(path)


def listening(path: Path, _random: Random) -> None:
    """A socket that nobody answers at."""
    with socket.socket(socket.AF_UNIX) as made:
        here = os.open(path.parent, os.O_RDONLY)
        try:
            made.bind(f"/proc/self/fd/{here}/{path.name[:60]}")
        finally:
            os.close(here)


def endless(path: Path, _random: Random) -> None:
    """A link to a device without an end."""
    path.symlink_to("/dev/zero")


def loop(path: Path, _random: Random) -> None:
    """A link to itself."""
    path.symlink_to(path.name)


def nowhere(path: Path, _random: Random) -> None:
    """A link to nowhere."""
    path.symlink_to("/nowhere/at/all")


def directory(path: Path, random: Random) -> None:
    """A directory with something in it."""
    path.mkdir()
    (path / "inner").write_bytes(random.randbytes(100))


def noise(path: Path, random: Random) -> None:
    """Random bytes, now and then behind a right magic."""
    path.write_bytes(
        random.choice([b"", b"ZBWALSEG", b"ARROW1\0\0"]) + random.randbytes(random.choice([0, 1, 9000]))
    )


def zeros(path: Path, _random: Random) -> None:
    """A hole of a gigabyte."""
    with path.open("wb") as file:
        file.truncate(1 << 30)


GUESTS: tuple[Guest, ...] = (pipe, listening, endless, loop, nowhere, directory, noise, noise, zeros)


def opened(trial: Trial, guests: list[Path]) -> Victim:
    """A victim that has opened the log.

    What it refuses to open must be a guest that it names; that one leaves.

    Raises:
        AssertionError: It refuses for another reason.
    """
    while True:
        victim = trial.victim(trial.options(wait_for="stored"), kind=kind_of_victim(len(trial.victims)))
        if victim.wait_for("open") is not None:
            return victim
        victim.wait()
        message = str((victim.heard("failed") or {}).get("message"))
        blamed = [path for path in guests if path.name in message and os.path.lexists(path)]
        if not blamed:
            names = [path.name for path in guests]
            raise AssertionError(f"the log does not open beside {names}: {message}; {victim.complaints()}")
        trial.count("refusals to open that name a guest")
        remove(blamed[0])


def remove(path: Path) -> None:
    """Takes a guest away."""
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink()


def run(trial: Trial) -> None:
    """Guests come between the lives."""
    trial.service()
    first = trial.victim(trial.options(wait_for="stored"))
    first.wait_for("ack", times=5)
    log = Path(str((first.heard("open") or {})["directory"]))
    trial.kill(first)
    guests: list[Path] = []
    for number in range(3):
        for guest in trial.random.sample(GUESTS, 4):
            path = name_of(trial.random, trial.random.choice([log, log, log.parent, trial.wal_dir]))
            if os.path.lexists(path):
                continue
            try:
                guest(path, trial.random)
            except FileExistsError:
                continue
            guests.append(path)
            trial.count(f"guests: {guest.__name__}")
        if number == 0:
            for verb in VERBS:
                zerobus_wal(verb, log)
                trial.count("verbs on a log without an owner")
        victim = opened(trial, guests)
        victim.wait_for("ack", times=3)
        for verb in VERBS if number == 1 else ():
            zerobus_wal(verb, log)
            trial.count("verbs on a live log")
        trial.kill(victim)
    trial.count("guests that are still there", sum(os.path.lexists(path) for path in guests))
    for path in guests:
        # The reader of the oracle is made for logs.
        if os.path.lexists(path):
            remove(path)
    trial.finish(expect=Expectations(damage_reported=True))


STAGES = (
    Stage(
        name="hostile-files",
        rows=(26,),
        fault="files of all kinds in the directory; the command beside a live log",
        promise="no panic, no endless wait, no memory without a limit; rows are taken and delivered",
        proof="victims and the command run among them, with deadlines; announcements compared",
        needs=frozenset({Need.ROOT, Need.RUST_VICTIM}),
        trials=1,
        run=run,
    ),
)
