"""The page of the API contract, ``contract.md``: its signatures, and its examples word for word.

Goal: what the page shows is there and runs. Method: the page's code blocks are parsed and compared with the
package; its usage example is run against an emulator. Changed is only where the wrapper connects and where
its log is.
"""

from __future__ import annotations

import ast
import asyncio
import dataclasses
import inspect
import re
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

import arrow_zerobus_sdk_wrapper as package
from arrow_zerobus_sdk_wrapper import TransmissionResult, ZerobusError, ZerobusWrapper
from arrow_zerobus_sdk_wrapper.emulator import Emulator
from conftest import TABLE, make_batch
from test_end_to_end import landed

PAGE = (Path(__file__).parent / "contract.md").read_text()
BLOCKS = re.findall(r"^```python\n(.*?)^```$", PAGE, re.MULTILINE | re.DOTALL)
CLASSES = {
    node.name: node for block in BLOCKS for node in ast.parse(block).body if isinstance(node, ast.ClassDef)
}
(USAGE,) = [block for block in BLOCKS if "asyncio.run(main())" in block]
Method = ast.FunctionDef | ast.AsyncFunctionDef
METHODS: dict[str, Method] = {
    node.name: node for node in CLASSES["ZerobusWrapper"].body if isinstance(node, Method)
}
NO_DEFAULT = inspect.Parameter.empty


def parameters(method: Method) -> list[tuple[str, Any, Any]]:
    """Name, kind and default of each parameter on the page."""
    told: list[tuple[str, Any, Any]] = []
    positional = method.args.args
    defaults = [NO_DEFAULT] * (len(positional) - len(method.args.defaults)) + [
        ast.literal_eval(default) for default in method.args.defaults
    ]
    for argument, default in zip(positional, defaults, strict=True):
        told.append((argument.arg, inspect.Parameter.POSITIONAL_OR_KEYWORD, default))
    for argument, value in zip(method.args.kwonlyargs, method.args.kw_defaults, strict=True):
        default = NO_DEFAULT if value is None else ast.literal_eval(value)
        told.append((argument.arg, inspect.Parameter.KEYWORD_ONLY, default))
    return told


def test_the_page_has_what_is_compared() -> None:
    assert METHODS.keys() == {
        "__init__",
        "send_batch",
        "flush",
        "shutdown",
        "__enter__",
        "__aenter__",
        "__exit__",
        "__aexit__",
    }
    assert {"TransmissionResult", "ZerobusError", "RetryExhausted", "TokenRefreshError"} <= CLASSES.keys()
    assert len(parameters(METHODS["__init__"])) == 15


@pytest.mark.parametrize("name", METHODS)
def test_a_method_has_the_parameters_of_the_page(name: str) -> None:
    function = getattr(ZerobusWrapper, name)
    ours = [(p.name, p.kind, p.default) for p in inspect.signature(function).parameters.values()]
    page = parameters(METHODS[name])
    positional = [one for one in page if one[1] is not inspect.Parameter.KEYWORD_ONLY]
    assert ours[: len(positional)] == positional
    assert set(page) <= set(ours)
    # What we have besides has a default, so that every call of the page is one of ours.
    assert all(default is not NO_DEFAULT for _, _, default in set(ours) - set(page))
    assert inspect.iscoroutinefunction(function) == isinstance(METHODS[name], ast.AsyncFunctionDef)


def test_the_result_has_the_fields_of_the_page_in_its_order() -> None:
    page = [
        (node.target.id, ast.unparse(node.annotation))
        for node in CLASSES["TransmissionResult"].body
        if isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name)
    ]
    ours = [(field.name, field.type) for field in dataclasses.fields(TransmissionResult)]
    named = [(name, re.sub(r"Optional\[(\w+)\]", r"\1 | None", kind)) for name, kind in page]
    assert len(named) == 5
    assert ours[:5] == named


@pytest.mark.parametrize("name", [name for name in CLASSES if name.endswith(("Error", "Exhausted"))])
def test_an_exception_of_the_page_is_there_with_its_base(name: str) -> None:
    ours = getattr(package, name)
    for base in CLASSES[name].bases:
        assert isinstance(base, ast.Name)
        assert issubclass(ours, getattr(package, base.id, Exception))
    assert issubclass(ours, ZerobusError)


def test_the_usage_examples_run_word_for_word(
    emulator: Emulator, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def redirected(**given: Any) -> ZerobusWrapper:
        here: dict[str, Any] = {
            "endpoint": emulator.endpoint,
            "table_name": TABLE,
            "client_id": "id",
            "client_secret": "s3cret",
            "unity_catalog_url": emulator.unity_catalog_url,
            "wal_dir": tmp_path / "wal",
        }
        return ZerobusWrapper(**(given | here))

    # The page gives a relative directory.
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(package, "ZerobusWrapper", redirected)
    # The page leaves this one to the reader.
    names: dict[str, Any] = {"__name__": "__main__", "create_record_batch": lambda: make_batch(4)}
    exec(compile(USAGE, "contract.md", "exec"), names)  # noqa: S102
    assert re.fullmatch(r"Batch sent successfully in \d+ms\n", capsys.readouterr().out)
    first = [{"id": 1, "name": "a"}, {"id": 2, "name": "b"}, {"id": 3, "name": "c"}]
    with pa.ipc.open_stream(tmp_path / "debug_output" / "zerobus" / "arrow" / f"{TABLE}.arrows") as shown:
        assert shown.read_all().to_pylist() == first
    asyncio.run(names["main_with_context"]())
    assert capsys.readouterr().out == "Result: True\n"
    assert landed(emulator) == first + make_batch(4).to_pylist()
