"""What a shell offers after Tab, once the files are where ``docs/operations/commands.md`` puts them.

Goal: whoever types the commands of the page gets completions, in each of the three shells.
Method: the block of the page runs with a home of its own, and the shells are asked, with nothing of theirs
loaded but those files. A shell that is not installed is skipped; with ``CI=true`` that is a failure.
"""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import pytest

from docs_blocks import blocks_run_by
from docs_world import World

MARK = "test_completions.py::test_each_shell_offers_the_verbs_after_tab"
# Bash has a function for the command, to which it tells the line in variables.
BASH = """
source ~/.local/share/bash-completion/completions/zerobus-wal
COMP_WORDS=(zerobus-wal "$1") COMP_CWORD=1
complete=$(complete -p zerobus-wal)
[[ $complete =~ -F\\ ([^ ]+) ]]
${BASH_REMATCH[1]} zerobus-wal "$1" zerobus-wal
printf '%s\\n' "${COMPREPLY[@]}"
"""
# Zsh loads the function when it is needed first. What it offers goes to `_describe`, by the name of an array.
ZSH = """
fpath=(~/.zfunc $fpath)
autoload -Uz compinit
compinit -u -D
[[ $_comps[zerobus-wal] = _zerobus-wal ]]
source ~/.zfunc/_zerobus-wal
_describe() { print -l -- ${(P)4} }
_zerobus-wal_commands | grep "^$1"
"""
FISH = 'complete --do-complete "zerobus-wal $argv[1]"'
SHELLS = {
    "bash": ("bash", "--norc", "-euo", "pipefail", "-c", BASH, "bash"),
    "zsh": ("zsh", "-f", "-e", "-c", ZSH, "zsh"),
    "fish": ("fish", "-c", FISH),
}


@pytest.mark.parametrize("shell", list(SHELLS))
def test_each_shell_offers_the_verbs_after_tab(shell: str, tmp_path: Path) -> None:
    if shutil.which(shell) is None:
        # Where tests are run for good, a skip is a failure.
        assert os.environ.get("CI") != "true", f"{shell} is not installed"
        pytest.skip(f"{shell} is not installed")
    (block,) = blocks_run_by(MARK)
    world = World(tmp_path, "shells")
    written = world.run(["bash", "-euo", "pipefail", "-c", world.typed(block.body)])
    assert (written.returncode, written.stderr) == (0, ""), written
    for typed, offered, others in (("ins", "inspect", "status"), ("com", "completions", "inspect")):
        done = world.run([*SHELLS[shell], typed])
        assert (done.returncode, done.stderr) == (0, ""), done
        assert offered in done.stdout, done
        assert others not in done.stdout, done
