"""How does a disk lose its cache, lie, or fail at a place?

`BlockDevice` runs `blockdev.c`, puts a loop device on its one file and tells it what to do wrong. The kernel
above is the real one: file system, page cache, loop device; only the drive is ours.
"""

import subprocess
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Self

from .compile import compiled
from .mounts import MIB, Kind, Mount, make_image, run

# What the drive writes as a whole or not at all. The first 512 bytes of a block of XFS's own say how old it
# is: where those are new and others old, XFS does not mend it, and mounts no more ("Metadata CRC error").
SECTOR_BYTES: dict[Kind, int] = {"ext4": 512, "btrfs": 512, "xfs": 4096}


@dataclass(frozen=True)
class Counts:
    """What a disk has done since it is there.

    Attributes:
        reads: Reads.
        writes: Writes.
        flushes: Flushes of its cache.
        injected: Failures that somebody asked for and that have happened.
        taken: Sectors that a cut or a failed flush has taken.
        cached: Sectors that were written and are not flushed.
    """

    reads: int
    writes: int
    flushes: int
    injected: int
    taken: int
    cached: int


class BlockDevice:
    """A disk that fails on demand, with a file system on it that is mounted while the `with` block runs.

    Args:
        directory: Where the files of the disk are made; the file system is mounted at `disk` in it.
        kind: Which file system.
        size_bytes: How large the disk is.
        options: Of the mount.

    Attributes:
        size_bytes: How large the disk is.
    """

    def __init__(self, directory: Path, kind: Kind, size_bytes: int | None = None, options: str = "") -> None:
        """Makes the platter and the file system on it."""
        directory.mkdir(parents=True, exist_ok=True)
        self._platter = directory / "platter"
        self._fuse = directory / "drive"
        self._fuse.mkdir(exist_ok=True)
        small = {"ext4": 64 * MIB, "xfs": 300 * MIB, "btrfs": 128 * MIB}
        self.size_bytes = size_bytes or small[kind]
        make_image(self._platter, kind, self.size_bytes)
        self._kind: Kind = kind
        self._options = options
        self._directory = directory / "disk"
        self._drive: subprocess.Popen[str] | None = None
        self._mount: Mount | None = None

    @property
    def mount(self) -> Mount:
        """The file system on the disk."""
        if self._mount is None:
            raise RuntimeError("the disk is not there outside of its `with` block")
        return self._mount

    def __enter__(self) -> Self:
        program = str(compiled("blockdev.c"))
        self._drive = subprocess.Popen(
            [program, str(self._fuse), str(self._platter), str(SECTOR_BYTES[self._kind])],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        ready = self._answer()
        if ready != "ready":
            raise RuntimeError(f"the disk does not start: {ready!r}; exit code {self._drive.poll()}")
        self._attach()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._drive is None:
            return
        # A disk that does not answer holds up the unmount for ever.
        self.heal()
        if self._mount is not None and self._mount.is_mounted:
            self._mount.__exit__(kind, error, trace)
        if self._drive.stdin:
            self._drive.stdin.close()
        self._drive.wait(timeout=20)

    def cut(self, percent: int, seed: int) -> Counts:
        """Cuts the power: what was not flushed survives by chance, and all requests fail until `restore`.

        Args:
            percent: The chance of each sector; 0 for a drive that loses all of its cache.
            seed: Of the choice.

        Returns:
            What the disk has done, with what was taken.
        """
        return self._tell(f"cut {percent} {seed}")

    def restore(self, *, repair: bool = False) -> None:
        """Brings the power back, with what is on the platter. No process may have files open there.

        Args:
            repair: Have `e2fsck` repair what cannot be mounted; only for ext4 on a disk that has lied.

        Raises:
            RuntimeError: It cannot be mounted.
        """
        if self._mount is not None and self._mount.is_mounted:
            self._mount.unmount()
        self._tell("power")
        if repair:
            # It has found and mended something, which is no failure here.
            subprocess.run(["e2fsck", "-f", "-y", str(self._fuse / "disk")], check=False, capture_output=True)
        self._attach()

    def fail_write(self, number: int, *, frames_only: bool = False) -> None:
        """The so-many-th write from now fails, once.

        Args:
            number: Which one, from 1.
            frames_only: Count writes of a log's frames only: the file system's own stay whole.
        """
        self._tell(f"eio_write {number} {int(frames_only)}")

    def fail_flush(self, number: int) -> None:
        """The so-many-th flush from now fails, once, and what it should have carried down is gone."""
        self._tell(f"eio_flush {number}")

    def fail_reads(self, start: int, end: int) -> None:
        """Reads that touch the bytes of the disk from `start` up to `end` fail."""
        self._tell(f"eio_read {start} {end}")

    def lie(self, lies: bool = True) -> None:
        """Flushes say that all is well, and do nothing."""
        self._tell(f"swallow {int(lies)}")

    def heal(self) -> None:
        """Nothing fails any more."""
        self._tell("heal")

    def counts(self) -> Counts:
        """What the disk has done."""
        return self._tell("counts")

    def _attach(self) -> None:
        loop = run("losetup", "-f", "--show", str(self._fuse / "disk")).strip()
        try:
            mount = Mount(self._directory, self._kind, Path(loop), self._options)
            mount.mount()
            self._mount = mount
        finally:
            # It goes with its last user: a runner that is killed leaves no loop device.
            run("losetup", "-d", loop)

    def _answer(self) -> str:
        if self._drive is None or self._drive.stdout is None:
            raise RuntimeError("the disk is not there outside of its `with` block")
        return self._drive.stdout.readline().strip()

    def _tell(self, command: str) -> Counts:
        if self._drive is None or self._drive.stdin is None:
            raise RuntimeError("the disk is not there outside of its `with` block")
        self._drive.stdin.write(command + "\n")
        self._drive.stdin.flush()
        answer = self._answer()
        numbers = answer.split()
        if len(numbers) != 6:
            raise RuntimeError(f"the disk answers {command!r} with {answer!r}")
        return Counts(*map(int, numbers))
