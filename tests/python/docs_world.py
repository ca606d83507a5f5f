"""Where the blocks of the pages are run: a directory, an environment, and a local Zerobus.

What there is besides follows from the set-up that the mark of a block names (``docs_setups.py``).
"""

from __future__ import annotations

import ast
import asyncio
import contextlib
import os
import re
import subprocess
import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from docs_setups import SETUPS

# The directory in which programs of the pages run, as the pages call it.
HOME = "/data"
TIMEOUT_SECS = 60


def lacks(text: str) -> None:
    """Skips a test that cannot be made here."""
    # Where tests are run for good, a skip is a failure.
    assert os.environ.get("CI") != "true", text
    pytest.skip(text)


@dataclass
class World:
    """A set-up, made in a directory.

    Attributes:
        directory: The directory, which is the home of what runs here.
        setup: The name of the set-up.
        at: Where blocks are run; by default in that directory.
        environment: All the variables that they have.
        typed_as: What is typed here instead of a text of a page.
        replaced: What is to be shown instead of a text of this run.
        settings: What a wrapper is made with that delivers here; empty where there is no service.
        preamble: What is run in front of a block of Python, in the same program.
        stack: What ends with it.
    """

    directory: Path
    setup: str
    at: Path = field(init=False)
    environment: dict[str, str] = field(default_factory=dict)
    typed_as: dict[str, str] = field(default_factory=dict)
    replaced: dict[str, str] = field(default_factory=dict)
    settings: dict[str, Any] = field(default_factory=dict)
    preamble: str = ""
    stack: contextlib.ExitStack = field(default_factory=contextlib.ExitStack)

    def __post_init__(self) -> None:
        assert self.setup in SETUPS, f"there is no set-up {self.setup!r}, only {sorted(SETUPS)}"
        scripts = str(Path(sys.executable).parent)
        home = str(self.directory)
        self.at = self.directory
        self.environment = {
            "HOME": home,
            "LANG": "C.UTF-8",
            "NO_COLOR": "1",
            "PATH": f"{scripts}{os.pathsep}{os.environ['PATH']}",
        }
        self.replaced = {home: HOME}
        with contextlib.ExitStack() as made:
            made.callback(self.close)
            SETUPS[self.setup](self)
            made.pop_all()

    def typed(self, command: str) -> str:
        """The command, with what there is in this run instead of what stands on the pages."""
        command = re.sub(rf"(?<![\w.]){HOME}/", f"{self.directory}/", command)
        for shown, here in self.typed_as.items():
            command = command.replace(shown, here)
        return command

    def run(
        self, arguments: list[str], *, is_merged: bool = False, timeout_secs: float = TIMEOUT_SECS
    ) -> subprocess.CompletedProcess[str]:
        """Runs a program here."""
        return subprocess.run(
            arguments,
            cwd=self.at,
            env=self.environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT if is_merged else subprocess.PIPE,
            text=True,
            timeout=timeout_secs,
        )

    def run_python(self, body: str) -> subprocess.CompletedProcess[str]:
        """Runs a block of Python with the names of this set-up; it may await outside of a function."""
        # Not in the directory of the block, whose files it might look at.
        program = self.directory.with_suffix(".py")
        program.write_text(self.preamble + self.typed(body))
        return self.run([sys.executable, "-W", "error", __file__, str(program)])

    def close(self) -> None:
        """Ends what was started for it."""
        self.stack.close()


def main(program: Path) -> None:
    """Runs a program that may await outside of a function, as notebooks let it."""
    flags = ast.PyCF_ALLOW_TOP_LEVEL_AWAIT
    code = compile(program.read_text(), program, "exec", flags=flags)
    names: dict[str, Any] = {"__name__": "__main__"}
    outcome = eval(code, names)  # noqa: S307 - the program is a page of ours
    if asyncio.iscoroutine(outcome):
        asyncio.run(outcome)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
