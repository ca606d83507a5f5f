"""Does the wheel work where only it is installed? Tries it in a new virtual environment of each Python here.

    make wheel

Says what was tried, and the size of the wheel; ends with 1 if it is too large, is not for the platform that
it should be for, or fails anywhere.
"""

from __future__ import annotations

import argparse
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

SMOKE = Path(__file__).with_name("smoke.py")
VERSIONS = ("3.11", "3.12", "3.13", "3.14")
SIZE_MAX = 25_000_000
# What the smoke test makes its batches with: a small package without pyarrow.
PRODUCER = "arro3-core"


def interpreters() -> dict[str, Path]:
    """The Pythons of this machine that the wheel is for, by version; of each version one."""
    found: dict[str, Path] = {}
    pyenv = Path(os.environ.get("PYENV_ROOT", Path.home() / ".pyenv")) / "versions"
    for version in VERSIONS:
        named = shutil.which(f"python{version}")
        candidates = [Path(named)] if named else []
        candidates += sorted(pyenv.glob(f"{version}.*/bin/python{version}"))
        # Windows names no version.
        candidates.append(Path(sys.executable))
        working = (path for path in candidates if _version(path) == version)
        if (path := next(working, None)) is not None:
            found[version] = path
    return found


def _version(python: Path) -> str | None:
    # A shim of a version manager is there also for versions that are not.
    text = "import ensurepip, sys; print('%d.%d' % sys.version_info[:2])"
    done = subprocess.run([python, "-c", text], capture_output=True, text=True)
    return done.stdout.strip() if done.returncode == 0 else None


def try_with(python: Path, wheel: Path) -> None:
    """Installs the wheel into a new environment of this Python and runs the smoke test there."""
    with tempfile.TemporaryDirectory() as directory:
        environment = Path(directory) / "venv"
        subprocess.run([python, "-m", "venv", environment], check=True)
        inside = environment / ("Scripts/python.exe" if os.name == "nt" else "bin/python")
        pip: list[str | Path] = [inside, "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
        requirements = Path(__file__).parents[3] / "requirements-dev.txt"
        subprocess.run([*pip, "--no-deps", "--no-index", wheel], check=True)
        subprocess.run([*pip, "--constraint", requirements, PRODUCER], check=True)
        subprocess.run([inside, "-W", "error", SMOKE], check=True, cwd=directory)


def main() -> int:
    """Tries the wheel and says how that went."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("wheel", type=Path)
    wheel = parser.parse_args().wheel.resolve()
    size = wheel.stat().st_size
    print(f"{wheel.name}: {size / 1e6:.1f} MB")
    problems = []
    if size > SIZE_MAX:
        problems.append(f"it is larger than {SIZE_MAX / 1e6:.0f} MB")
    if sys.platform == "linux" and "-cp311-abi3-manylinux" not in wheel.name:
        problems.append("it is not for cp311-abi3 on manylinux")
    found = interpreters()
    for version, python in found.items():
        try:
            try_with(python, wheel)
        except subprocess.CalledProcessError as error:
            problems.append(f"Python {version} ({python}): {error}")
        else:
            print(f"Python {version} ({python}): works")
    for version in set(VERSIONS) - set(found):
        print(f"Python {version}: not on this machine, not tried")
    for problem in problems:
        print(f"error: {problem}", file=sys.stderr)
    return 1 if problems or not found else 0


if __name__ == "__main__":
    sys.exit(main())
