"""The fixture that the wheel brings for the tests of others, in test runs of their own."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from docs_blocks import blocks_run_by


def run_tests(directory: Path, text: str) -> subprocess.CompletedProcess[str]:
    """Runs pytest on a file with this text, as somebody who has only installed the wheel."""
    (directory / "test_theirs.py").write_text(text)
    return subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "--strict-markers", "-p", "no:cacheprovider", str(directory)],
        cwd=directory,
        capture_output=True,
        text=True,
        timeout=60,
    )


def test_the_example_of_the_documentation_passes(tmp_path: Path) -> None:
    (example,) = blocks_run_by("test_pytest_plugin.py::test_the_example_of_the_documentation_passes")
    done = run_tests(tmp_path, example.body)
    assert done.returncode == 0, done.stdout
    assert "1 passed" in done.stdout


def test_the_closest_marker_counts_and_each_test_has_its_own_service(tmp_path: Path) -> None:
    text = """
import pytest

ON_MODULE = {"tables": {"a.b.of_module": "id BIGINT"}, "client_id": "id", "client_secret": "s3cret"}
pytestmark = pytest.mark.zerobus(**ON_MODULE)

@pytest.mark.zerobus(tables={"a.b.of_test": "id BIGINT"})
def test_one(zerobus_emulator, tmp_path):
    assert zerobus_emulator.settings["client_secret"] == "s3cret"
    assert [table.name for table in (tmp_path / "zerobus/a/b").iterdir()] == ["of_test"]

def test_another(zerobus_emulator):
    assert [table.name for table in (zerobus_emulator.data_dir / "a/b").iterdir()] == ["of_module"]

@pytest.mark.zerobus(client_certificates=True)
def test_with_tls(zerobus_emulator):
    assert {"ca_certificate_file", "client_key_file"} <= set(zerobus_emulator.settings)
"""
    done = run_tests(tmp_path, text)
    assert done.returncode == 0, done.stdout
    assert "3 passed" in done.stdout


@pytest.mark.parametrize(
    ("marker", "said"), [("tabels={}", "tabels"), ("{}", "takes options by name"), ("sink='no'", "sink")]
)
def test_a_wrong_option_is_an_error_that_names_it(tmp_path: Path, marker: str, said: str) -> None:
    text = f"import pytest\n@pytest.mark.zerobus({marker})\ndef test_one(zerobus_emulator): pass\n"
    done = run_tests(tmp_path, text)
    assert done.returncode == 1
    assert said in done.stdout and "1 error" in done.stdout


def test_who_does_not_use_it_pays_nothing(tmp_path: Path) -> None:
    text = """
import sys

def test_one():
    assert "arrow_zerobus_sdk_wrapper.emulator" not in sys.modules
"""
    assert run_tests(tmp_path, text).returncode == 0
