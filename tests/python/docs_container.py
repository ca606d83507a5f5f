"""How do tests of pages get containers, where no registry is to be reached?

``Podman`` is podman under the name ``docker``, with images, containers and volumes in a directory of its own:
those of this machine it neither sees nor changes. The image that a page starts from is made of files of this
machine: a shell, the few programs that a Dockerfile calls, the Python of these tests, and what they need.
"""

from __future__ import annotations

import functools
import importlib.metadata
import os
import re
import shutil
import subprocess
import sys
import sysconfig
import tempfile
import zipfile
from pathlib import Path

from conftest import until
from docs_blocks import ROOT
from docs_machine import Held, is_removed, no_containers

BUILD_SECS = 300
# What `RUN` calls besides Python.
PROGRAMS = ("sh", "mkdir", "chown", "useradd")
# A container has the loopback alone. Where one is built, pip finds the wheels.
_CONTAINERS = """\
[containers]
netns = "none"
default_ulimits = ["nofile=1024:4096", "nproc=4096:4096"]
volumes = ["{place}/wheels:/wheels:ro"]
[engine]
runtime = "runc"
cgroup_manager = "cgroupfs"
events_logger = "none"
static_dir = "{place}/static"
tmp_dir = "{place}/tmp"
volume_path = "{place}/volumes"
[network]
network_config_dir = "{place}/networks"
"""
_STORAGE = """\
[storage]
driver = "overlay"
graphroot = "{place}/storage"
runroot = "{place}/run"
"""
_PIP = "[global]\nno-index = true\nfind-links = /wheels\n[install]\nno-compile = true\n"
_LEFT_OUT = shutil.ignore_patterns(
    "config-*", "dist-packages", "idlelib", "lib2to3", "site-packages", "test", "tests"
)


def no_podman() -> str | None:
    """Why there can be no ``Podman`` here, and what to do; None if there can."""
    for program in ("podman", "runc"):
        if shutil.which(program) is None:
            return f"{program} is not installed: apt-get install podman runc"
    return no_containers()


def _libraries(files: list[Path]) -> list[Path]:
    """The shared libraries that these programs and libraries need."""
    said = subprocess.run(["ldd", *files], capture_output=True, text=True, check=False).stdout
    return sorted({Path(found) for found in re.findall(r"^\s+(?:\S+ => )?(/\S+) \(0x", said, re.M)})


def make_base(root: Path) -> None:
    """Fills a directory with what an image needs that Python programs are built upon."""
    packages, stdlib = Path(sysconfig.get_path("purelib")), Path(sysconfig.get_path("stdlib"))
    library = root / "usr/local/lib" / stdlib.name
    shutil.copytree(stdlib, library, ignore=_LEFT_OUT)
    (library / "site-packages").mkdir()
    for directory in ("bin", "etc", "home", "root", "tmp", "usr/lib", "usr/local/bin", "var"):
        (root / directory).mkdir(parents=True, exist_ok=True)
    found = {name: shutil.which(name, path="/usr/sbin:/usr/bin:/sbin:/bin") for name in PROGRAMS}
    programs = {root / "bin" / name: Path(path or name) for name, path in found.items()}
    programs[root / "usr/local/bin/python"] = Path(sys.executable).resolve()
    for place, program in programs.items():
        shutil.copy(program, place)
    # What the packages bring with them, they find by themselves.
    needing = [*programs.values(), *library.glob("lib-dynload/*.so")]
    needing += [*packages.glob("pyarrow/*.so*"), *packages.glob("arrow_zerobus_sdk_wrapper/*.so")]
    for path in _libraries(needing):
        if not path.is_relative_to(packages):
            # The loader is looked for where the programs say; the others in its default directories.
            place = (
                root / path.relative_to("/") if path.name.startswith("ld-") else root / "usr/lib" / path.name
            )
            place.parent.mkdir(exist_ok=True)
            shutil.copy(path, place)
    # Where Python of a distribution has the wheel of pip.
    bundled = sysconfig.get_config_var("WHEEL_PKG_DIR")
    if bundled:
        shutil.copytree(bundled, root / Path(bundled).relative_to("/"))
    (root / "etc/passwd").write_text("root:x:0:0:root:/root:/bin/sh\n")
    (root / "etc/group").write_text("root:x:0:\n")
    (root / "etc/pip.conf").write_text(_PIP)


def pack(name: str, wheels: Path) -> None:
    """Makes the wheel again from which a package was installed here."""
    package = importlib.metadata.distribution(name)
    (tag,) = re.findall(r"^Tag: (\S+)", package.read_text("WHEEL") or "", re.M)[:1]
    with zipfile.ZipFile(wheels / f"{name}-{package.version}-{tag}.whl", "w") as wheel:
        for file in package.files or ():
            if file.parts[0] != ".." and "__pycache__" not in file.parts:
                wheel.write(str(file.locate()), str(file))


class Podman(Held):
    """Podman as ``docker``, with an image to start from; use it as a context manager.

    What runs in it is ended with it, and what it has made is gone.

    Args:
        image: How the image is called.
    """

    def __init__(self, image: str) -> None:
        super().__init__()
        self._image = image
        self.environment: dict[str, str] = {}

    def make(self) -> None:
        place = Path(self.stack.enter_context(tempfile.TemporaryDirectory()))
        for name, text in (("containers", _CONTAINERS), ("storage", _STORAGE)):
            (place / f"{name}.conf").write_text(text.format(place=place))
        for name in ("base", "bin", "wheels"):
            (place / name).mkdir()
        (place / "bin" / "docker").symlink_to(str(shutil.which("podman")))
        self.environment = {
            "BUILDAH_LAYERS": "false",
            "CONTAINERS_CONF": str(place / "containers.conf"),
            "CONTAINERS_STORAGE_CONF": str(place / "storage.conf"),
            "PATH": f"{place / 'bin'}{os.pathsep}{os.environ['PATH']}",
        }
        make_base(place / "base")
        for wheel in (ROOT / "target" / "wheels").glob("*.whl"):
            shutil.copy(wheel, place / "wheels")
        pack("pyarrow", place / "wheels")
        self.stack.callback(self._end, _groups())
        self.run(f"tar -C {place / 'base'} -c . | docker import - {self._image}")

    def run(self, command: str, directory: Path | None = None) -> str:
        """Runs a command of a shell, which is to succeed, and returns what it prints."""
        done = subprocess.run(
            ["bash", "-euo", "pipefail", "-c", command],
            cwd=directory,
            env=os.environ | self.environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=BUILD_SECS,
        )
        assert done.returncode == 0, f"{command}: {done.stdout}"
        return done.stdout

    def _end(self, others: set[Path]) -> None:
        self.run("docker rm --all --force --time 0 && docker rmi --all --force && docker volume rm --all")
        for group in _groups() - others:
            until(functools.partial(is_removed, group), f"the end of {group}")


def _groups() -> set[Path]:
    """The control groups in which podman puts its own."""
    mounted = Path("/sys/fs/cgroup")
    return {*mounted.glob("libpod_parent"), *mounted.glob("*/libpod_parent")}
