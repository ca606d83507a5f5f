"""The examples in the docstrings of the package run, and print what they say.

Goal: what help shows works. Method: ``doctest`` over every module, with an emulator and a directory for the
log in its globals.
"""

from __future__ import annotations

import asyncio
import doctest
import importlib
import pkgutil
from collections.abc import Iterator
from pathlib import Path

import pyarrow
import pytest

import arrow_zerobus_sdk_wrapper as package
from arrow_zerobus_sdk_wrapper.emulator import Emulator

# What users meet first.
MAIN = {"ZerobusWrapper", "SyncZerobusWrapper", "Emulator", "ZerobusError"}


def examples() -> Iterator[doctest.DocTest]:
    """The docstrings that have examples, each once: where its object is defined."""
    finder = doctest.DocTestFinder(exclude_empty=True)
    for info in pkgutil.iter_modules(package.__path__):
        if info.name != "__main__":
            module = importlib.import_module(f"{package.__name__}.{info.name}")
            yield from (docstring for docstring in finder.find(module) if docstring.examples)


EXAMPLES = {example.name.removeprefix(f"{package.__name__}."): example for example in examples()}


def test_the_main_classes_have_examples() -> None:
    assert {name.rpartition(".")[2] for name in EXAMPLES} >= MAIN


@pytest.mark.parametrize("name", EXAMPLES)
def test_an_example_of_a_docstring_runs(emulator: Emulator, tmp_path: Path, name: str) -> None:
    example = EXAMPLES[name]
    public = {name: getattr(package, name) for name in package.__all__}
    example.globs.update(
        public, asyncio=asyncio, pyarrow=pyarrow, emulator=emulator, wal_dir=tmp_path / "wal"
    )
    told: list[str] = []
    results = doctest.DocTestRunner().run(example, out=told.append, clear_globs=False)
    assert results.attempted > 0
    assert results.failed == 0, "".join(told)
