"""How are the small C programs of the faults built?

With `cc`, once per content: the result lies in `target/chaos` under a name that holds the hash of the source.
"""

import hashlib
import os
import shutil
import subprocess
from pathlib import Path

SOURCES = Path(__file__).parent
BUILT = SOURCES.parents[2] / "target" / "chaos"
WARNINGS = ("-Wall", "-Wextra", "-Werror")


def compiler() -> str | None:
    """The C compiler of this machine, or `None`."""
    return shutil.which("cc")


def compiled(source: str, *options: str) -> Path:
    """Builds a program or a library from a source of this directory, unless it is there.

    Args:
        source: Name of the C file, such as `preload.c`, or of a directory of C files, such as `intercept`.
        *options: More options of the compiler, such as `-shared`.

    Returns:
        Where the result is.

    Raises:
        RuntimeError: There is no compiler, or it refuses the source.
    """
    path = SOURCES / source
    sources = sorted(path.glob("*.[ch]")) if path.is_dir() else [path]
    content = b"".join(part.read_bytes() for part in sources) + " ".join(options).encode()
    result = BUILT / f"{path.stem}-{hashlib.sha256(content).hexdigest()[:16]}"
    if result.exists():
        return result
    program = compiler()
    if program is None:
        raise RuntimeError(
            f"{source} cannot be built: no cc; install a C compiler (apt-get install gcc libc6-dev)"
        )
    BUILT.mkdir(parents=True, exist_ok=True)
    # Under a name of its own first: two runs may build at the same time.
    unfinished = result.with_name(f"{result.name}.{os.getpid()}")
    command = [program, "-O1", "-g", "-std=gnu11", *WARNINGS, *options, "-o", str(unfinished)]
    command += [str(part) for part in sources if part.suffix == ".c"]
    built = subprocess.run(command, capture_output=True, text=True, check=False)
    if built.returncode != 0:
        raise RuntimeError(f"{source} cannot be built: {' '.join(command)}\n{built.stderr}")
    unfinished.rename(result)
    return result
