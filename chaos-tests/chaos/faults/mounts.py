"""How does a test get a file system of its own, to fill up, to make read-only, to cut?

`Mount` is a file system that is mounted while the `with` block runs: a tmpfs, or an image on a loop device.
Who mounts is in a mount namespace of its own (`enter_private_namespace`), so that nothing is left on the
machine, however the process ends.
"""

import ctypes
import functools
import os
import shutil
import subprocess
import time
from pathlib import Path
from types import TracebackType
from typing import Literal, Self

Kind = Literal["tmpfs", "ext4", "xfs", "btrfs"]

_CLONE_NEWNS = 0x00020000
_UNMOUNT_SECONDS = 20.0
MIB = 1 << 20
# What the tools make at least.
_IMAGE_BYTES_MIN = {"ext4": 1 * MIB, "xfs": 300 * MIB, "btrfs": 120 * MIB}
_MKFS = {
    # Without the long initialisation after the mount, which would race the cut.
    "ext4": ("mkfs.ext4", "-q", "-F", "-E", "lazy_itable_init=0,lazy_journal_init=0"),
    "xfs": ("mkfs.xfs", "-q", "-f"),
    "btrfs": ("mkfs.btrfs", "-q", "-f"),
}


@functools.cache
def cannot_mount() -> str | None:
    """Why this process may not mount, and what to do; None if it may. Root in a container often may not."""
    if os.geteuid() != 0:
        return "not run as root: run it with sudo"
    if shutil.which("unshare") is None:
        return "unshare is not installed: apt-get install util-linux"
    # In a namespace of its own, which is gone with the command.
    tried = subprocess.run(
        ["unshare", "--mount", "mount", "-t", "tmpfs", "tmpfs", "/tmp"],
        capture_output=True,
        text=True,
        check=False,
    )
    if tried.returncode == 0:
        return None
    return f"root may not mount here, give it CAP_SYS_ADMIN: {tried.stderr.strip()}"


def enter_private_namespace() -> None:
    """Gives this process mounts of its own. What it mounts from now on is seen by its children only.

    Raises:
        PermissionError: The process is not root.
    """
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.unshare(_CLONE_NEWNS) != 0:
        raise PermissionError(
            f"no mount namespace: {os.strerror(ctypes.get_errno())}; run as root, or in `unshare -rm`"
        )
    run("mount", "--make-rprivate", "/")


def run(*command: str) -> str:
    """Runs a tool of the system.

    Returns:
        What it printed.

    Raises:
        RuntimeError: It failed; with what it said.
    """
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise RuntimeError(f"{' '.join(command)}: exit code {done.returncode}: {done.stderr.strip()}")
    return done.stdout


def make_image(path: Path, kind: Kind, size_bytes: int, *options: str) -> None:
    """Makes a file system in a new, sparse file.

    Args:
        path: The file.
        kind: Of which kind.
        size_bytes: How large. XFS needs 300 MiB, btrfs 120 MiB.
        *options: More options of `mkfs`, such as `-N 64` for few inodes on ext4.
    """
    if size_bytes < _IMAGE_BYTES_MIN[kind]:
        raise ValueError(f"{size_bytes} bytes; {kind} needs at least {_IMAGE_BYTES_MIN[kind]}")
    with path.open("wb") as image:
        image.truncate(size_bytes)
    run(*_MKFS[kind], *options, str(path))


class Mount:
    """A file system that is mounted while the `with` block runs.

    Args:
        directory: Where; it is made.
        kind: Which kind.
        source: The image or the device; of a tmpfs it is not used.
        options: Of the mount, such as `size=1m,nr_inodes=100` of a tmpfs.
    """

    def __init__(self, directory: Path, kind: Kind, source: Path | None = None, options: str = "") -> None:
        """Mounts nothing yet."""
        if source is None and kind != "tmpfs":
            raise ValueError(f"a mount of {kind} needs a source: an image or a device")
        self.directory = directory
        self._kind = kind
        self._source = source
        self._options = options
        self.is_mounted = False

    def __enter__(self) -> Self:
        self.mount()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if not self.is_mounted:
            return
        if kind is None:
            self.unmount()
        else:
            # Whatever keeps it busy: the failure before is what matters.
            subprocess.run(["umount", "-l", str(self.directory)], check=False, capture_output=True)

    def mount(self) -> None:
        """Mounts it, with all the repair that the file system does then."""
        self.directory.mkdir(parents=True, exist_ok=True)
        options = self._options
        if self._source is not None and self._source.is_file():
            options = ",".join(part for part in ("loop", options) if part)
        words = ["mount", "-t", self._kind]
        if options:
            words += ["-o", options]
        run(*words, str(self._source or self._kind), str(self.directory))
        self.is_mounted = True

    def unmount(self) -> None:
        """Unmounts it. Waits for a process that was just killed to let go of its files.

        Raises:
            RuntimeError: It is still busy after 20 seconds.
        """
        deadline = time.monotonic() + _UNMOUNT_SECONDS
        while True:
            try:
                run("umount", str(self.directory))
                break
            except RuntimeError:
                if time.monotonic() > deadline:
                    raise
                time.sleep(0.01)
        self.is_mounted = False

    def remount(self, options: str) -> None:
        """Changes the options of the mount, such as `ro`, `rw` or `size=2m`."""
        run("mount", "-o", f"remount,{options}", str(self.directory))

    def free_bytes(self) -> int:
        """How many bytes an ordinary user may still write."""
        stat = os.statvfs(self.directory)
        return stat.f_bavail * stat.f_frsize

    def fill(self, leave_bytes: int = 0, name: str = "ballast") -> Path:
        """Fills it up with a file.

        Args:
            leave_bytes: How much is to stay free, about.
            name: The name of the file.

        Returns:
            The file; what takes it away makes room.
        """
        path = self.directory / name
        with path.open("ab") as file:
            piece = MIB
            while piece >= 4096:
                if self.free_bytes() - leave_bytes < piece:
                    piece //= 2
                    continue
                try:
                    os.posix_fallocate(file.fileno(), file.seek(0, os.SEEK_END), piece)
                except OSError:
                    piece //= 2
        return path

    def use_up_inodes(self, leave: int = 0, name: str = "ballast-of-inodes") -> Path:
        """Uses up the inodes with empty files.

        Args:
            leave: How many are to stay free.
            name: The directory that they are made in.

        Returns:
            The directory.
        """
        path = self.directory / name
        path.mkdir(exist_ok=True)
        number = len(list(path.iterdir()))
        try:
            while os.statvfs(self.directory).f_favail > leave:
                (path / f"{number}").touch(exist_ok=False)
                number += 1
        except OSError:
            if leave:
                raise
        return path
