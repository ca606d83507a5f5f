"""What the pages say is so: their commands run, and the tests that they name exist.

Goal: nobody types a command from a page that does not work, and no promise rests on a test that is gone.
Method: every block of every page and of the README is extracted and run in a directory of its own, and what a
page shows below a command, or behind ``#>``, is compared with what it prints. Marks (``docs_blocks.py``) say
what a block needs, or which other test runs it.
"""

from __future__ import annotations

import dataclasses
import os
import re
import signal
import subprocess
import sys
import tomllib
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest

import arrow_zerobus_sdk_wrapper as package
import docs_world
from arrow_zerobus_sdk_wrapper import SyncZerobusWrapper
from arrow_zerobus_sdk_wrapper import emulator as emulator_module
from arrow_zerobus_sdk_wrapper.emulator import Emulator
from conftest import make_batch
from docs_blocks import COMMANDS, PAGES, ROOT, Block, blocks_of, commands_of, differs, plain
from docs_setups import SETUPS
from docs_world import World

BLOCKS = [block for page in PAGES for block in blocks_of(page) if block.language in COMMANDS]


def chains() -> Iterator[list[Block]]:
    """The blocks that are run here, those that continue others together with them."""
    for page in PAGES:
        chain: list[Block] = []
        for block in blocks_of(page):
            if not block.is_run_here:
                continue
            if block.mark != "continues" and chain:
                yield chain
                chain = []
            assert chain or block.mark != "continues", f"{block.place}: there is nothing to continue"
            if chain and {block.language, chain[-1].language} <= {"python", "py"}:
                # It goes on with the names of the one before: both are one program.
                chain[-1] = dataclasses.replace(chain[-1], body=chain[-1].body + block.body)
            else:
                chain.append(block)
        if chain:
            yield chain


CHAINS = list(chains())


# The wrapper that a block has made does what it is for.
DELIVERS = """
async def deliver():
    async with wrapper:
        await wrapper.send_batch(batch)
        await wrapper.flush(timeout=60)
        assert wrapper.status()["rows"]["delivered"] >= batch.num_rows
await deliver()
"""


def try_python(world: World, block: Block) -> None:
    done = world.run_python(block.body + (DELIVERS if "delivers" in block.words else ""))
    assert done.returncode == 0, f"{block.place}: {done.stderr}"
    shown = re.findall(r"#> (.*)$", block.body, re.MULTILINE)
    if shown:
        printed = plain(done.stdout, world.replaced)
        difference = differs(plain("\n".join(shown), world.replaced), printed)
        assert difference is None, f"{block.place}: {difference}"


def try_bash(world: World, block: Block) -> None:
    done = world.run(["bash", "-euo", "pipefail", "-c", world.typed(block.body)])
    assert done.returncode == 0, f"{block.place}: {done.stdout}{done.stderr}"


def try_console(world: World, block: Block) -> None:
    commands = commands_of(block)
    # One shell runs them all; behind each it says how that ended, and leaves `$?` as it was.
    said = "__code=$?; printf '\\036%s\\036' $__code; (exit $__code)"
    script = "\n".join(f"{world.typed(command.text)}\n{said}" for command in commands)
    done = world.run(["bash", "-c", script], is_merged=True)
    parts = done.stdout.split("\x1e")
    for number, command in enumerate(commands):
        printed, code = parts[2 * number], parts[2 * number + 1]
        is_code_shown = commands[number + 1 :] and commands[number + 1].text == "echo $?"
        wanted = block.exit_code if number == len(commands) - 1 else 0
        assert int(code) == wanted or is_code_shown, (
            f"{block.place}: `{command.text}` ended with {code}: {printed}"
        )
        if command.shown and "for example" not in block.words:
            difference = differs(plain(command.shown, {}), plain(printed, world.replaced))
            assert difference is None, f"{block.place}: of `{command.text}` {difference}"


def try_stopped(world: World, block: Block) -> None:
    (command,) = commands_of(block)
    shown = plain(command.shown, {})
    arguments = ["bash", "-c", f"exec {world.typed(command.text)}"]
    with subprocess.Popen(
        arguments, cwd=world.directory, env=world.environment, stdout=subprocess.PIPE, text=True
    ) as process:
        try:
            assert process.stdout is not None
            printed = [process.stdout.readline() for _ in shown]
            process.send_signal(signal.SIGTERM)
            assert process.wait(docs_world.TIMEOUT_SECS) == 0
        finally:
            process.kill()
    difference = differs(shown, plain("".join(printed), world.replaced))
    assert difference is None, f"{block.place}: {difference}"


def try_block(world: World, block: Block) -> None:
    if "stopped" in block.words:
        try_stopped(world, block)
    elif block.language == "console":
        try_console(world, block)
    elif block.language in ("bash", "sh"):
        try_bash(world, block)
    else:
        try_python(world, block)


@pytest.mark.parametrize("chain", CHAINS, ids=[chain[0].place for chain in CHAINS])
def test_the_commands_of_a_page_run_and_print_what_it_shows(chain: list[Block], tmp_path: Path) -> None:
    directory = tmp_path / "here"
    directory.mkdir()
    world = World(directory, chain[0].setup)
    try:
        for block in chain:
            try_block(world, block)
    finally:
        world.close()


def test_each_block_is_run_here_or_by_the_test_that_it_names(capsys: pytest.CaptureFixture[str]) -> None:
    counted: Counter[str] = Counter()
    for block in BLOCKS:
        if block.run_by is not None:
            file, _, name = block.run_by.partition("::")
            source = (ROOT / "tests" / "python" / file).read_text()
            assert f"def {name}(" in source, f"{block.place}: {block.run_by} is no test"
            assert f'"{block.run_by}"' in source, f"{block.place}: {block.run_by} does not read it"
            counted["run by other tests"] += 1
        else:
            # No other mark keeps a block from being a case of the test above.
            assert block.setup in {*SETUPS, "continues"}, f"{block.place}: what is `{block.mark}`?"
            counted["run here"] += 1
    with capsys.disabled():
        print("\nblocks of commands on the pages:", ", ".join(f"{n} {what}" for what, n in counted.items()))
    assert min(counted.values()) > 10


def test_what_the_pages_install_is_this_package_and_others_of_its_tests() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["name"]
    tested = re.findall(r"^([\w-]+)==", (ROOT / "requirements-dev.txt").read_text(), re.MULTILINE)
    installed = [
        line.split()[2:] for block in BLOCKS for line in block.body.splitlines() if "pip install" in line
    ]
    assert installed
    for first, *others in installed:
        assert first == project
        assert others
        assert set(others) <= set(tested)


def test_every_target_of_make_on_a_page_is_one() -> None:
    targets = set(re.findall(r"^([\w-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    named = [
        (page.name, target)
        for page in [*PAGES, ROOT / "CONTRIBUTING.md"]
        for target in re.findall(r"(?:`|^)make ([a-z][\w-]+)", page.read_text(), re.MULTILINE)
    ]
    assert len(named) > 10
    assert [place for place in named if place[1] not in targets] == []


def test_every_run_of_the_tests_in_rust_on_a_page_finds_some() -> None:
    manifest = tomllib.loads((ROOT / "Cargo.toml").read_text())
    tests = known_tests()
    called = [
        match
        for page in [*PAGES, ROOT / "CONTRIBUTING.md", ROOT / "tests/README.md"]
        for match in re.finditer(r"cargo test --features (\S+) --test (\w+)(?: (\w+))?", page.read_text())
    ]
    assert len(called) > 3
    for features, suite, part in (match.groups() for match in called):
        assert set(features.split(",")) <= set(manifest["features"])
        # A part may be that of a module, too.
        names = [f"{file.relative_to(ROOT)}::{name}" for name, files in tests.items() for file in files]
        assert any(suite in name and (part or "") in name for name in names), (suite, part)


@pytest.mark.parametrize(
    "text",
    [
        "```console\n$ zerobus-wal no-such-verb\n```",
        "```console\n$ echo one\ntwo\n```",
        "<!-- test: ends with 3 -->\n```console\n$ true\n```",
        "```console\n$ printf 'one\\ntwo\\n'\none\n```",
        "```bash\nfalse\n```",
        "```python\nraise SystemExit(1)\n```",
        "```python\nprint(1)\n#> 2\n```",
    ],
)
def test_a_block_that_fails_or_prints_something_else_is_found(text: str, tmp_path: Path) -> None:
    (block,) = blocks_of(tmp_path / "page.md", text)
    world = World(tmp_path, "empty")
    with pytest.raises(AssertionError, match=r"page\.md:[12]:"):
        try_block(world, block)


def test_what_stands_for_anything_matches_that_and_nothing_else() -> None:
    assert differs(["a…c", "…", "z"], ["abc", "1", "2", "z"]) is None
    assert differs(["a…c"], ["abd"]) is not None
    assert differs(["…", "z"], ["z", "y"]) is not None
    assert plain("│ pid 12 │  /home/x/wal │\n╰──╯", {"/home/x": "/data"}) == ["pid N /data/wal"]


# What is quoted as a test on these pages is one.
CLAIMING_PAGES = [ROOT / "docs/guarantees.md", ROOT / "docs/internals/index.md", ROOT / "tests/README.md"]
_QUOTED = re.compile(r"`([a-z_]\w*(?:::\w+)+)`")


def known_tests() -> dict[str, list[Path]]:
    """Where each test of the repository stands."""
    found: dict[str, list[Path]] = {}
    rust = re.compile(r"#\[(?:tokio::)?test[^\]]*\]\s*(?:#\[[^\]]*\]\s*)*(?:async )?fn (\w+)")
    # The cases of a property.
    property_of = re.compile(r"#\[test\]\s+fn (\w+)\(")
    python = re.compile(r"^(?:async )?def (test_\w+)", re.MULTILINE)
    places = [*(ROOT / "src").rglob("*.rs"), *(ROOT / "tests").rglob("*.rs")]
    places += (ROOT / "chaos-tests" / "tests").glob("*.rs")
    for place in places:
        text = place.read_text()
        for name in {*rust.findall(text), *property_of.findall(text)}:
            found.setdefault(name, []).append(place)
    for place in (ROOT / "tests" / "python").glob("*.py"):
        for name in python.findall(place.read_text()):
            found.setdefault(name, []).append(place)
    return found


def is_there(quoted: str, tests: dict[str, list[Path]]) -> bool:
    """Whether ``suite::name`` is a test of that suite, or ``suite::file`` a file of tests."""
    *path, name = quoted.split("::")
    parts = {
        part.removesuffix(".rs").removesuffix(".py") for file in tests.get(name, []) for part in file.parts
    }
    files = list((ROOT / "tests").rglob(f"{name}.rs"))
    if not parts and files:
        parts = {part for file in files for part in file.parts}
    return set(path) - {"tests"} <= parts and bool(parts)


@pytest.mark.parametrize("page", CLAIMING_PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_every_test_that_a_page_names_exists(page: Path) -> None:
    tests = known_tests()
    quoted = _QUOTED.findall(page.read_text())
    assert len(quoted) >= 15
    gone = [name for name in quoted if not is_there(name, tests)]
    assert not gone, f"{page.name} names tests that do not exist: {gone}"


def test_a_test_that_is_gone_or_in_another_suite_is_noticed() -> None:
    tests = known_tests()
    assert is_there("test_docs::test_a_test_that_is_gone_or_in_another_suite_is_noticed", tests)
    assert is_there("wrapper::policy", tests)
    assert not is_there("test_docs::test_that_nobody_wrote", tests)
    assert not is_there("wrapper::test_a_test_that_is_gone_or_in_another_suite_is_noticed", tests)


def codes_of_errors() -> set[str]:
    return set(re.findall(r'=> row\("(\w+)"', (ROOT / "src/error.rs").read_text()))


def states_of_lanes() -> set[str]:
    return set(re.findall(r'LaneState::\w+ => "(\w+)"', (ROOT / "src/drain/state.rs").read_text()))


# What an operator finds on each of these pages.
HEADINGS = ("## What it means", "## What to do")


@pytest.mark.parametrize(
    ("folder", "names"),
    [("errors", codes_of_errors()), ("states", states_of_lanes())],
    ids=["errors", "states"],
)
def test_each_code_and_each_state_has_a_page_that_says_what_to_do(folder: str, names: set[str]) -> None:
    directory = ROOT / "docs/operations" / folder
    assert len(names) > 5
    pages = {page.stem for page in directory.glob("*.md")} - {"index"}
    assert pages == names
    overview = (directory / "index.md").read_text()
    navigation = (ROOT / "mkdocs.yml").read_text()
    for name in names:
        text = (directory / f"{name}.md").read_text()
        assert text.startswith(f"# `{name}`\n")
        assert [heading for heading in HEADINGS if heading not in text] == [], name
        assert f"]({name}.md)" in overview
        assert f"operations/{folder}/{name}.md" in navigation


@pytest.mark.parametrize("page", ["tuning.md", "comparison.md"])
def test_figures_are_those_that_were_measured(page: str) -> None:
    measured = set(re.findall(r"\d+(?:\.\d+)?", (ROOT / "docs/performance.md").read_text().replace(",", "")))
    # Those that nobody types by accident: with thousands, two digits behind the point, or times.
    typed = (ROOT / "docs" / page).read_text()
    figures = re.findall(r"\d{1,3}(?:,\d{3})+|\d+\.\d{2}\b|\d+(?= [nµ]s\b)", typed)
    assert len(figures) > 10
    made_up = [figure for figure in figures if figure.replace(",", "") not in measured]
    assert not made_up, f"{page} has figures that docs/performance.md has not: {made_up}"


def test_the_page_of_the_api_has_every_public_name() -> None:
    page = (ROOT / "docs/reference/python.md").read_text()
    shown = set(re.findall(r"^::: ([\w.]+)$", page, re.MULTILINE))
    public = {f"{package.__name__}.{name}" for name in package.__all__ if not name.startswith("__")}
    public |= {f"{emulator_module.__name__}.{name}" for name in emulator_module.__all__}
    assert shown >= public, public - shown
    # Its names follow from its `__all__`.
    assert f"{package.__name__}.admin" in shown


def test_every_verb_and_every_option_on_a_page_is_one() -> None:
    reference = (ROOT / "docs/reference/command-line.md").read_text()
    options = {
        verb: set(re.findall(r"--[a-z][a-z-]+", said))
        for verb, said in re.findall(r"^## zerobus-wal (.+)\n((?:(?!## ).*\n)*)", reference, re.M)
    }
    assert len(options) > 10
    # In a container or by another user, too. A line may go on behind a backslash.
    called = re.compile(
        r"(?:`|^|\$ (?:.* )?)zerobus-wal ([a-z][a-z-]+)(?: ([a-z]+))?((?:\\\n|[^`|\n])*)", re.M
    )
    counted = 0
    for page in PAGES:
        for verb, part, rest in called.findall(page.read_text()):
            assert verb in options, f"{page.relative_to(ROOT)} names the verb {verb}"
            known = options.get(f"{verb} {part}", options[verb])
            named = set(re.findall(r"(?<!\S)--[a-z][a-z-]+", rest))
            assert named <= known, f"{page.relative_to(ROOT)} names options of {verb}: {named - known}"
            counted += len(named)
    assert counted > 30


def test_every_variable_on_a_page_is_a_setting() -> None:
    settings = {
        setting.upper()
        for setting in re.findall(r"^\| `(\w+)`", (ROOT / "docs/settings.md").read_text(), re.M)
    }
    assert len(settings) > 40
    named = {name for page in PAGES for name in re.findall(r"\bARROW_ZEROBUS_([A-Z_]+)\b", page.read_text())}
    assert named
    assert named <= settings, named - settings


FILES = [
    block
    for page in PAGES
    for block in blocks_of(page)
    if block.language in ("toml", "yaml") and "zerobus." in block.title
]


@pytest.mark.parametrize("block", FILES, ids=[block.place for block in FILES])
def test_rows_are_delivered_with_a_file_of_settings(block: Block, tmp_path: Path, emulator: Emulator) -> None:
    (name,) = re.findall(r'title="([\w.-]+)"', block.title)
    (tmp_path / name).write_text(block.body)
    (tmp_path / "secret").write_text("s3cret")
    # Directory, addresses and client of the page are those of another machine.
    with SyncZerobusWrapper.from_file(
        tmp_path / name,
        wal_dir=tmp_path / "wal",
        endpoint=emulator.endpoint,
        unity_catalog_url=emulator.unity_catalog_url,
        client_id="id",
    ) as wrapper:
        wrapper.send_batch(make_batch(rows=3))
        wrapper.flush(timeout=30)
        status = wrapper.status()
    assert (status["table"], status["rows"]["delivered"]) == ("main.default.events", 3)


def test_there_is_a_file_of_settings_and_a_unit() -> None:
    assert FILES
    assert SERVICES


SERVICES = [block for page in PAGES for block in blocks_of(page) if block.language == "ini"]


# Of 100, as systemd-analyze counts; what has no sandbox has 96.
EXPOSURE_MAX = 20


@pytest.mark.parametrize("block", SERVICES, ids=[block.place for block in SERVICES])
@pytest.mark.parametrize(
    "look",
    [
        ["verify", "--man=no"],
        ["security", "--offline=yes", "--no-pager", f"--threshold={EXPOSURE_MAX}"],
    ],
    ids=["is_one", "gives_the_program_little"],
)
def test_a_unit_of_systemd(look: list[str], block: Block, tmp_path: Path) -> None:
    (name,) = re.findall(r'title="([\w.-]+)"', block.title)
    # It names a program that is not here; systemd looks whether there is one.
    text = re.sub(r"^(ExecStart=)\S+", rf"\1{sys.executable}", block.body, flags=re.MULTILINE)
    (tmp_path / name).write_text(text)
    try:
        done = subprocess.run(
            ["systemd-analyze", *look, str(tmp_path / name)],
            capture_output=True,
            text=True,
            timeout=60,
        )
    except FileNotFoundError:
        # Where tests are run for good, a skip is a failure.
        assert os.environ.get("CI") != "true", "systemd-analyze is not installed"
        pytest.skip("systemd-analyze is not installed")
    assert (done.returncode, done.stderr) == (0, ""), done.stdout + done.stderr
