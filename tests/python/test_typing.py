"""The types of the package: clean for three checkers, and of use to calling code.

Goal: what type-checks runs, and what is wrong is refused where it stands. Method: mypy, basedpyright (pyright
with its own Node.js) and stubtest as processes, over the installed package and over two files of calling
code, of which one is wrong on purpose.
"""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
RIGHT = Path(__file__).parent / "typing" / "right.py"
WRONG = Path(__file__).parent / "typing" / "wrong.py"
WRONG_LINES = [
    number for number, line in enumerate(WRONG.read_text().splitlines(), 1) if line.endswith("  # wrong")
]
BIN = Path(sys.executable).parent


def run(*command: str | Path, cwd: Path) -> subprocess.CompletedProcess[str]:
    """A checker, which has to end by itself."""
    return subprocess.run(command, cwd=cwd, capture_output=True, text=True, timeout=300)


def mypy(file: Path, cwd: Path) -> tuple[int, list[int]]:
    """Exit code of ``mypy --strict`` as a user runs it, and the lines that it refuses."""
    done = run(
        sys.executable, "-m", "mypy", "--strict", "--config-file=", "--show-error-end", str(file), cwd=cwd
    )
    print(done.stdout, done.stderr)
    lines = re.findall(rf"^.*{file.name}:(\d+):.*: error: ", done.stdout, re.MULTILINE)
    return done.returncode, sorted({int(line) for line in lines})


def pyright(file: Path, cwd: Path) -> tuple[int, list[int]]:
    """Exit code of basedpyright as strict as pyright can be, and the lines that it refuses."""
    settings = {"typeCheckingMode": "strict", "include": [str(file)], "pythonVersion": "3.11"}
    (cwd / "pyrightconfig.json").write_text(json.dumps(settings))
    done = run(
        BIN / "basedpyright",
        "--outputjson",
        "--pythonpath",
        sys.executable,
        "--project",
        cwd / "pyrightconfig.json",
        cwd=cwd,
    )
    found = json.loads(done.stdout)
    errors = [one for one in found["generalDiagnostics"] if one["severity"] == "error"]
    print(errors, done.stderr)
    assert found["summary"]["filesAnalyzed"] >= 1
    return done.returncode, sorted({one["range"]["start"]["line"] + 1 for one in errors})


@pytest.mark.parametrize("check", [mypy, pyright])
def test_calling_code_that_is_right_type_checks(check: object, tmp_path: Path) -> None:
    assert callable(check)
    assert check(RIGHT, tmp_path) == (0, [])


@pytest.mark.parametrize("check", [mypy, pyright])
def test_each_wrong_line_of_calling_code_is_refused_and_no_other(check: object, tmp_path: Path) -> None:
    assert callable(check)
    assert len(WRONG_LINES) > 20
    assert check(WRONG, tmp_path) == (1, WRONG_LINES)


def test_the_package_is_clean_for_mypy(tmp_path: Path) -> None:
    done = run(sys.executable, "-m", "mypy", "--strict", "-p", "arrow_zerobus_sdk_wrapper", cwd=tmp_path)
    assert done.returncode == 0, done.stdout


def test_the_package_is_clean_for_pyright() -> None:
    done = run(BIN / "basedpyright", "--pythonpath", sys.executable, cwd=ROOT)
    assert done.returncode == 0, done.stdout


def test_the_stub_says_what_the_extension_module_has(tmp_path: Path) -> None:
    done = run(sys.executable, "-m", "mypy.stubtest", "arrow_zerobus_sdk_wrapper._core", cwd=tmp_path)
    assert done.returncode == 0, done.stdout
