"""How do tests of pages get a machine that was booted with systemd?

A ``Machine`` is systemd in a container of systemd-nspawn: the files of this machine, with a layer above them
that is gone afterwards, no network but the loopback, and units of its own. It sees no bus of this machine and
changes none of its files, and its mounts are in a namespace of their own, so that nothing is left, however a
test ends.
"""

from __future__ import annotations

import abc
import contextlib
import functools
import os
import shutil
import signal
import subprocess
import sys
import sysconfig
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from chaos.faults.mounts import cannot_mount
from conftest import DEADLINE_SECS, until
from docs_program import PROGRAM

if TYPE_CHECKING:
    from types import TracebackType
    from typing import Self

PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
_GROUPS = Path("/sys/fs/cgroup")
_BOOT = """\
mount -t tmpfs tmpfs {place}
mkdir {place}/upper {place}/work {place}/machine
mount -t overlay overlay -o lowerdir=/,upperdir={place}/upper,workdir={place}/work {place}/machine
# Of the units only those that come with systemd.
rm -r {place}/machine/etc/systemd/system
cp --archive {files}/. {place}/machine/
# Neither its bus nor what nspawn keeps of it is that of this machine.
mount -t tmpfs tmpfs /run
exec systemd-nspawn --boot --directory={place}/machine --machine=events --console=pipe --private-network \\
    --register=no --keep-unit --link-journal=no --resolv-conf=off --timezone=off \\
    {binds} systemd.unit=basic.target
"""


def no_containers() -> str | None:
    """Why this process can make no containers, and what to do; None if it can."""
    if (no_mounts := cannot_mount()) is not None:
        return no_mounts
    return None if os.access(_GROUPS, os.W_OK) else f"no control groups can be made: mount {_GROUPS} writable"


def no_machine() -> str | None:
    """Why there can be no ``Machine`` here, and what to do; None if there can."""
    for program, package in (("systemd-nspawn", "systemd-container"), ("sudo", "sudo")):
        if shutil.which(program) is None:
            return f"{program} is not installed: apt-get install {package}"
    return no_containers()


def is_removed(group: Path) -> bool:
    """Removes a control group and those below it. False as long as a process is in one."""
    for directory, _, _ in os.walk(group, topdown=False):
        with contextlib.suppress(OSError):
            Path(directory).rmdir()
    return not group.exists()


class Held(abc.ABC):
    """Something that is made for a ``with`` block, and ended with it, or when making it has failed.

    Attributes:
        stack: What is to be undone then.
    """

    def __init__(self) -> None:
        self.stack = contextlib.ExitStack()

    @abc.abstractmethod
    def make(self) -> None:
        """Makes it."""

    def __enter__(self) -> Self:
        with contextlib.ExitStack() as failed:
            failed.callback(self.stack.close)
            self.make()
            failed.pop_all()
        return self

    def __exit__(
        self, _type: type[BaseException] | None, _error: BaseException | None, _trace: TracebackType | None
    ) -> None:
        self.stack.close()


class Machine(Held):
    """A machine that was booted with systemd; use it as a context manager.

    Python and the packages of these tests are in ``/opt/events/venv``.

    Args:
        directory: A directory for what is put onto it.
    """

    def __init__(self, directory: Path) -> None:
        super().__init__()
        self._directory = directory
        self._files = directory / "files"

    def put(self, path: str, text: str) -> Path:
        """Puts a file onto it before it is booted.

        Args:
            path: Its absolute path there.
            text: What stands in it.
        """
        place = self._files / path.removeprefix("/")
        place.parent.mkdir(parents=True, exist_ok=True)
        place.write_text(text)
        return place

    def _install(self) -> list[str]:
        """Puts the environment of these tests onto it, and says what is to be bound for that."""
        version = f"python{sysconfig.get_python_version()}"
        python = f"/opt/events/python/bin/{version}"
        venv, packages = "/opt/events/venv", "/opt/events/packages"
        self.put(f"{venv}/pyvenv.cfg", f"home = {Path(python).parent}\n")
        self.put(f"{venv}/lib/{version}/site-packages/events.py", PROGRAM)
        self.put(f"{venv}/lib/{version}/site-packages/packages.pth", packages)
        command = Path(sys.executable).with_name("zerobus-wal").read_text().partition("\n")[2]
        self.put(f"{venv}/bin/zerobus-wal", f"#!{venv}/bin/python\n{command}").chmod(0o755)
        (self._files / venv.removeprefix("/") / "bin" / "python").symlink_to(python)
        return [
            f"--bind-ro={sys.base_prefix}:/opt/events/python",
            f"--bind-ro={sysconfig.get_path('purelib')}:{packages}",
        ]

    def make(self) -> None:
        place = self.stack.enter_context(tempfile.TemporaryDirectory())
        groups = self.stack.enter_context(_groups())
        script = "".join(f"echo $$ >{group}/cgroup.procs\n" for group in groups)
        script += _BOOT.format(place=place, files=self._files, binds=" ".join(self._install()))
        with (self._directory / "console").open("w") as console:
            self._process = subprocess.Popen(
                ["setpriv", "--pdeathsig=KILL", "unshare", "--mount", "sh", "-euc", script],
                stdin=subprocess.DEVNULL,
                stdout=console,
                stderr=subprocess.STDOUT,
            )
        self.stack.callback(self._end)
        until(self._is_booted, "a machine that is booted")

    def _is_booted(self) -> bool:
        assert self._process.poll() is None, self.console()
        if not self._children():
            return False
        return self.run("systemctl", "is-system-running").stdout in ("running\n", "degraded\n")

    def _children(self) -> list[int]:
        number = self._process.pid
        return [int(child) for child in Path(f"/proc/{number}/task/{number}/children").read_text().split()]

    def _end(self) -> None:
        # nspawn asks systemd to end, and at a second SIGTERM no longer.
        for number in (signal.SIGTERM, signal.SIGTERM, signal.SIGKILL):
            self._process.send_signal(number)
            with contextlib.suppress(subprocess.TimeoutExpired):
                self._process.wait(DEADLINE_SECS / 3)
                return

    def console(self) -> str:
        """What it has said while it was booted."""
        return (self._directory / "console").read_text()

    @property
    def pid(self) -> int:
        """The number of its first process, as this machine counts."""
        return self._children()[0]

    def run(
        self, *command: str, environment: dict[str, str] | None = None
    ) -> subprocess.CompletedProcess[str]:
        """Runs a command there, as root."""
        return subprocess.run(
            ["nsenter", "--all", "--target", str(self.pid), "env", "--chdir=/", *command],
            env={"PATH": PATH, "LANG": "C.UTF-8"} | (environment or {}),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=DEADLINE_SECS,
        )


@contextlib.contextmanager
def _groups() -> Iterator[list[Path]]:
    """Control groups for a machine below those of this process, one in each hierarchy that systemd uses."""
    version_2 = _GROUPS / "unified"
    places = {"": version_2 if version_2.is_dir() else _GROUPS, "name=systemd": _GROUPS / "systemd"}
    made = []
    for line in Path("/proc/self/cgroup").read_text().splitlines():
        _, names, path = line.split(":", 2)
        if names in places and places[names].is_dir():
            made.append(places[names] / path.removeprefix("/") / f"events-{os.getpid()}")
    try:
        for group in made:
            group.mkdir()
        yield made
    finally:
        for group in made:
            until(functools.partial(is_removed, group), f"the end of {group}")
