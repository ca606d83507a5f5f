"""What is a stage, and what does it need?

A stage is one experiment: a fault, a promise, how it is shown, and a function that makes one trial.
``README.md`` says how one is written.
"""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Callable
from dataclasses import dataclass
from enum import Enum
from pathlib import Path
from typing import TYPE_CHECKING

from .faults.mounts import cannot_mount

if TYPE_CHECKING:
    from .trial import Trial


class Need(Enum):
    """What a machine must have for a stage. ``missing`` says what is not there, and how to get it."""

    ROOT = "root that may mount"
    CC = "a C compiler"
    FUSE = "/dev/fuse"
    LOOP = "loop devices"
    EXT4 = "mkfs.ext4"
    XFS = "mkfs.xfs"
    BTRFS = "mkfs.btrfs"
    NETNS = "network namespaces"
    IPTABLES = "iptables or nft"
    MEMORY_CGROUP = "a memory controller of cgroups"
    RUST_VICTIM = "the Rust victim"

    def missing(self) -> str | None:
        """What is not there and how to get it; None if the need is met."""
        return _CHECKS[self]()


def _program(*names: str, package: str) -> Callable[[], str | None]:
    def check() -> str | None:
        if any(shutil.which(name) for name in names):
            return None
        return f"{' or '.join(names)} is not installed: apt-get install {package}"

    return check


def _fuse() -> str | None:
    return (
        None
        if os.access("/dev/fuse", os.R_OK | os.W_OK)
        else "/dev/fuse cannot be opened: modprobe fuse, as root"
    )


def _loop() -> str | None:
    if not Path("/dev/loop-control").exists():
        return "there is no /dev/loop-control: modprobe loop"
    if (no_tool := _program("losetup", package="mount")()) is not None:
        return no_tool
    tried = subprocess.run(["losetup", "--find"], capture_output=True, text=True, check=False)
    return None if tried.returncode == 0 else f"no loop device can be had: {tried.stderr.strip()}"


def _netns() -> str | None:
    if (no_root := cannot_mount()) is not None:
        return no_root
    if shutil.which("ip") is None:
        return "ip is not installed: apt-get install iproute2"
    tried = subprocess.run(["unshare", "--net", "true"], capture_output=True, check=False)
    return (
        None
        if tried.returncode == 0
        else f"no network namespace can be made: {tried.stderr.decode().strip()}"
    )


def _memory_cgroup() -> str | None:
    version_1 = Path("/sys/fs/cgroup/memory/memory.limit_in_bytes")
    version_2 = Path("/sys/fs/cgroup/cgroup.controllers")
    if os.access(version_1.parent, os.W_OK) and version_1.exists():
        return None
    if version_2.exists() and "memory" in version_2.read_text().split():
        return None
    return "no memory controller can be used: run it as root, on a kernel that has one"


def _rust_victim() -> str | None:
    from .victims import rust

    try:
        rust.binary()
    except FileNotFoundError as error:
        return str(error)
    return None


_CHECKS: dict[Need, Callable[[], str | None]] = {
    Need.ROOT: cannot_mount,
    Need.CC: _program("cc", package="gcc"),
    Need.FUSE: _fuse,
    Need.LOOP: _loop,
    Need.EXT4: _program("mkfs.ext4", package="e2fsprogs"),
    Need.XFS: _program("mkfs.xfs", package="xfsprogs"),
    Need.BTRFS: _program("mkfs.btrfs", package="btrfs-progs"),
    Need.NETNS: _netns,
    Need.IPTABLES: _program("iptables", "nft", package="iptables"),
    Need.MEMORY_CGROUP: _memory_cgroup,
    Need.RUST_VICTIM: _rust_victim,
}


@dataclass(frozen=True)
class Stage:
    """One experiment.

    Attributes:
        name: How it is called on the command line, with dashes.
        rows: The rows of the table of faults (``docs/guarantees.md``) that it shows.
        fault: What is done.
        promise: What must hold.
        proof: How that is seen.
        needs: What the machine must have.
        trials: How many trials the short mode makes.
        run: Makes one trial. It raises ``AssertionError`` if the promise is broken, or if the trial has shown
            nothing, such as a kill before anything was acknowledged.
        alone: Nothing else may run beside it.
        unit: The figure that counts how often the fault was done, such as ``"kills"``; the table of the
            page has it.
        timeout_secs: A trial that has not ended by then has failed.
    """

    name: str
    rows: tuple[int, ...]
    fault: str
    promise: str
    proof: str
    needs: frozenset[Need]
    trials: int
    run: Callable[[Trial], None]
    alone: bool = False
    unit: str = "trials"
    timeout_secs: float = 180.0

    def missing(self) -> str | None:
        """What the machine lacks for it, None if nothing."""
        lacking = [
            text for need in sorted(self.needs, key=lambda need: need.value) if (text := need.missing())
        ]
        return "; ".join(lacking) or None
