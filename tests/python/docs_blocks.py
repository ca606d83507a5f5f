"""Which blocks of code there are on the pages, and what their marks say of how they are tried.

A block of ``console``, ``bash``, ``python`` or ``py`` is tried as it stands there. What it needs, or which
test runs it, stands in a comment in front of it, which no reader sees::

    <!-- test: owner -->                      in this set-up (see docs_setups.py)
    <!-- test: continues -->                  where the block before has left off, with its names
    <!-- test: stopped -->                    its command runs until it is stopped, behind the lines shown
    <!-- test: workspace, delivers -->        the ``wrapper`` that it makes delivers a batch afterwards
    <!-- test: log, for example -->           runs, but what is shown is of a larger log
    <!-- test: log, ends with 3 -->           its last command ends with this exit code
    <!-- test: run by test_x.py::test_y -->   that test reads it (``blocks_run_by``) and runs it

Blocks in other languages are data, not commands.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[2]
PAGES = [ROOT / "README.md", ROOT / "chaos-tests/README.md", *sorted((ROOT / "docs").rglob("*.md"))]
COMMANDS = {"console", "bash", "sh", "python", "py"}
MODES = {"for example", "stopped", "delivers"}
ENDS_WITH = "ends with "
_BLOCK = re.compile(
    r"(?:^[ ]*<!-- test: (?P<mark>.*?) -->\n+)?"
    r"^(?P<indent>[ ]*)```(?P<language>\w+)(?P<title>[^\n]*)\n(?P<body>.*?)^(?P=indent)```$",
    re.MULTILINE | re.DOTALL,
)


@dataclass(frozen=True)
class Block:
    """One block of code on a page.

    Attributes:
        page: The page.
        line: The line on which the block begins, from 1.
        language: What stands behind the first fence.
        title: What stands behind the language.
        mark: What the comment in front of it says; empty without one.
        body: The lines between the fences, without their common indent.
    """

    page: Path
    line: int
    language: str
    title: str
    mark: str
    body: str

    @property
    def place(self) -> str:
        """Where it stands, for people."""
        return f"{self.page.relative_to(ROOT) if self.page.is_relative_to(ROOT) else self.page}:{self.line}"

    @property
    def run_by(self) -> str | None:
        """The test elsewhere that runs it; None if there is none."""
        return self.mark.removeprefix("run by ") if self.mark.startswith("run by ") else None

    @property
    def words(self) -> list[str]:
        """What its mark asks for."""
        return [word.strip() for word in self.mark.split(",") if word]

    @property
    def setup(self) -> str:
        """The set-up that it asks for, or that of its language."""
        others = [word for word in self.words if word not in MODES and not word.startswith(ENDS_WITH)]
        default = "empty" if self.language in ("python", "py") else "log"
        return others[0] if others else default

    @property
    def exit_code(self) -> int:
        """With what its last command ends."""
        codes = [int(word.removeprefix(ENDS_WITH)) for word in self.words if word.startswith(ENDS_WITH)]
        return codes[0] if codes else 0

    @property
    def is_run_here(self) -> bool:
        """Whether ``test_docs.py`` runs it."""
        return self.language in COMMANDS and self.run_by is None


def blocks_of(page: Path, text: str | None = None) -> list[Block]:
    """The blocks of a page, in its order.

    Args:
        page: The page.
        text: What stands on it; by default the file is read.
    """
    text = page.read_text() if text is None else text
    found = []
    for match in _BLOCK.finditer(text):
        indent = match["indent"]
        body = "".join(line.removeprefix(indent) for line in match["body"].splitlines(keepends=True))
        line = text.count("\n", 0, match.start("language")) + 1
        found.append(Block(page, line, match["language"], match["title"], match["mark"] or "", body))
    return found


def blocks_run_by(test: str) -> list[Block]:
    """The blocks of all pages whose marks name this test, ``file.py::name``; there is one at least."""
    found = [block for page in PAGES for block in blocks_of(page) if block.run_by == test]
    assert found, f"no block of a page is run by {test}"
    return found


@dataclass(frozen=True)
class Command:
    """A command of a ``console`` block with what the page shows below it."""

    text: str
    shown: str


def commands_of(block: Block) -> list[Command]:
    """The commands of a ``console`` block: lines behind ``$ ``, and those that a backslash continues."""
    commands: list[Command] = []
    lines = iter(block.body.splitlines())
    for line in lines:
        if line.startswith("$ "):
            text = line.removeprefix("$ ")
            while text.endswith("\\"):
                text += "\n" + next(lines)
            commands.append(Command(text, ""))
        else:
            assert commands, f"{block.place}: a console block begins with a command, `$ …`"
            last = commands.pop()
            commands.append(Command(last.text, last.shown + line + "\n"))
    return commands


def plain(text: str, replaced: dict[str, str]) -> list[str]:
    """The lines of an output without what is different each time.

    That is paths, ports, numbers of processes and the widths of tables.

    Args:
        text: The output.
        replaced: What is to be shown instead of texts of this run.
    """
    for found, shown in replaced.items():
        text = text.replace(found, shown)
    text = re.sub(r"\b(pid|process) \d+", r"\1 N", text)
    text = re.sub(r"(127\.0\.0\.1|localhost):\d+", r"\1:PORT", text)
    lines = (re.sub(r"[\s\u2500-\u257f]+", " ", line).strip() for line in text.splitlines())
    return [line for line in lines if line]


def differs(shown: list[str], printed: list[str]) -> str | None:
    """Where the lines that are shown are not those that were printed; None if they are.

    ``…`` stands for anything within a line, and alone in a line for any lines.
    """
    pattern = "".join(
        "(?:.*\n)*?" if line == "…" else ".*?".join(map(re.escape, line.split("…"))) + "\n" for line in shown
    )
    if re.fullmatch(pattern, "".join(line + "\n" for line in printed)):
        return None
    return "the page shows\n  " + "\n  ".join(shown) + "\nand it printed\n  " + "\n  ".join(printed)
