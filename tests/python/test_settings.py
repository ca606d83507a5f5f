"""Settings from the environment and from files: which counts, what is refused; and nothing drifts apart."""

from __future__ import annotations

import inspect
import logging
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any, get_type_hints

import pytest

from arrow_zerobus_sdk_wrapper import ConfigurationError, WrapperArguments, ZerobusWrapper, _core
from conftest import TABLE, UNREACHABLE, make_batch, until

ROOT = Path(__file__).parents[2]
REGISTRY: dict[str, dict[str, Any]] = {setting["name"]: setting for setting in _core.registry()}
# Another way to give others, so no setting.
NO_SETTINGS = {"observability_config"}
# Python types of each kind, as the signature has them.
TYPES = {
    "Text": {"str", "str | None"},
    "Secret": {"str | None"},
    "Path": {"str | os.PathLike[str] | None"},
    "Bytes": {"int"},
    "BytesOrNone": {"int | None"},
    "Count": {"int", "int | None"},
    "Millis": {"int"},
    "Seconds": {"float"},
    "SecondsOrNone": {"float | None"},
    "Flag": {"bool"},
}

SetVariables = Callable[..., None]


@pytest.fixture
def variables(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> SetVariables:
    """Sets variables of the environment, beside those that every wrapper of these tests needs."""

    def set_all(**names: str) -> None:
        for name, text in names.items():
            monkeypatch.setenv(name, text)

    set_all(
        ZEROBUS_ENDPOINT=UNREACHABLE,
        ZEROBUS_TABLE_NAME=TABLE,
        ARROW_ZEROBUS_WAL_DIR=str(tmp_path / "wal"),
        ARROW_ZEROBUS_SHUTDOWN_TIMEOUT_SECS="0",
    )
    return set_all


@pytest.fixture
def write(tmp_path: Path) -> Callable[[str, str], Path]:
    """Writes a file of settings that only its owner can read."""

    def write(name: str, text: str) -> Path:
        path = tmp_path / name
        path.touch(mode=0o600)
        path.write_text(text)
        return path

    return write


def refused(make: Callable[..., ZerobusWrapper], *args: Any, **arguments: Any) -> ConfigurationError:
    with pytest.raises(ConfigurationError) as caught:
        make(*args, **arguments)
    return caught.value


def test_a_wrapper_of_the_environment_stores(variables: SetVariables, run: Callable[..., Any]) -> None:
    variables(
        ARROW_ZEROBUS_WAL_MAX_BYTES="64MiB",
        ARROW_ZEROBUS_RETRY_BASE_DELAY_MS="250ms",
        ARROW_ZEROBUS_BLOCK_TIMEOUT_SECS="none",
        ARROW_ZEROBUS_SCHEMA_GRACE_SECS="5m",
        ARROW_ZEROBUS_ON_FULL="block",
    )

    async def main() -> None:
        async with ZerobusWrapper.from_env() as wrapper:
            result = await wrapper.send_batch(make_batch())
            assert result.state == "stored"
            status = wrapper.status()
            assert (status["table"], status["wal_max_bytes"]) == (TABLE, 64 * 2**20)

    run(main())


@pytest.mark.parametrize(
    ("name", "text"),
    [
        (
            "a.toml",
            'wal_max_bytes = "32MiB"\non_full = "reject"\nwal_min_free_bytes = 0\nwal_dir = "of-file"\n',
        ),
        ("a.yaml", "wal_max_bytes: 32MiB\non_full: reject\nwal_min_free_bytes: 0\nwal_dir: of-file\n"),
    ],
)
def test_an_argument_counts_before_the_environment_and_that_before_a_file(
    variables: SetVariables, write: Callable[[str, str], Path], name: str, text: str, tmp_path: Path
) -> None:
    path = write(name, text)
    variables(ARROW_ZEROBUS_WAL_MAX_BYTES="16MiB", ARROW_ZEROBUS_ON_FULL="drop_oldest")
    with ZerobusWrapper.from_file(path, on_full="block") as wrapper:
        status = wrapper.status()
    assert status["on_full"] == "block"
    assert status["wal_max_bytes"] == 16 * 2**20
    assert status["wal_min_free_bytes"] == 0
    assert Path(status["directory"]).is_relative_to(tmp_path / "wal")


def test_a_relative_path_in_a_file_starts_where_the_file_lies(
    variables: SetVariables,
    write: Callable[[str, str], Path],
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
) -> None:
    monkeypatch.delenv("ARROW_ZEROBUS_WAL_DIR")
    monkeypatch.chdir("/")
    with ZerobusWrapper.from_file(write("a.toml", 'wal_dir = "logs"\n')) as wrapper:
        assert Path(wrapper.status()["directory"]).is_relative_to(tmp_path / "logs")


def test_the_constructor_reads_no_environment(variables: SetVariables, tmp_path: Path) -> None:
    variables(ARROW_ZEROBUS_WAL_MAX_BYTES="5 apples", ARROW_ZEROBUS_TYPO="x", ZEROBUS_CLIENT_ID="id")
    with ZerobusWrapper(UNREACHABLE, TABLE, wal_dir=tmp_path / "w", shutdown_timeout_secs=0) as wrapper:
        assert wrapper.status()["wal_max_bytes"] == 8 * 2**30


def test_a_secret_comes_from_a_file(
    variables: SetVariables, write: Callable[[str, str], Path], tmp_path: Path
) -> None:
    secret = write("secret", "s3cret\n")
    path = write(
        "a.yaml", "client_id: id\nclient_secret_file: secret\nunity_catalog_url: http://127.0.0.1:9\n"
    )
    with ZerobusWrapper.from_file(path) as wrapper:
        assert "s3cret" not in repr(wrapper)
    # An argument that says the same in another way counts before it.
    secret.unlink()
    with ZerobusWrapper.from_file(path, client_secret="other"):
        pass
    # None is no other way to say it.
    error = refused(ZerobusWrapper.from_file, path, client_secret=None)
    assert error.setting == "client_secret_file"
    assert f"in line 2 of {path}" in str(error)


@pytest.mark.parametrize(
    ("variable", "text", "says"),
    [
        (
            "ARROW_ZEROBUS_WAL_MAX_BYTES",
            "5 apples",
            'wal_max_bytes is "5 apples", allowed is: a number of bytes',
        ),
        ("ARROW_ZEROBUS_WAL_MAX_BYTES", "5", 'wal_max_bytes is "5", allowed is: 1048576 to'),
        ("ARROW_ZEROBUS_DURABILITY", "maybe", "allowed is: sync, interval, os"),
        ("ARROW_ZEROBUS_RETRY_MAX_ATTEMPTS", "-1", "allowed is: an integer from 0 to 4294967295"),
        ("ARROW_ZEROBUS_RETRY_MAX_ATTEMPTS", "0", "allowed is: at least 1"),
        ("ZEROBUS_TABLE_NAME", "events", 'table_name is "events"'),
    ],
)
def test_a_wrong_value_is_named_with_its_variable(
    variables: SetVariables, tmp_path: Path, variable: str, text: str, says: str
) -> None:
    variables(**{variable: text})
    error = refused(ZerobusWrapper.from_env)
    assert says in str(error)
    assert str(error).endswith(f"; it was set by {variable} in the environment")
    assert not (tmp_path / "wal").exists()


def test_a_wrong_argument_is_not_blamed_on_the_environment(variables: SetVariables) -> None:
    variables(ARROW_ZEROBUS_WAL_MAX_BYTES="1GiB")
    error = refused(ZerobusWrapper.from_env, wal_max_bytes=5)
    assert error.setting == "wal_max_bytes"
    assert "environment" not in str(error)
    assert "it was set" not in str(error)


def test_a_name_that_is_no_setting_is_refused_with_the_closest_one(
    variables: SetVariables, write: Callable[[str, str], Path]
) -> None:
    error = refused(ZerobusWrapper.from_file, write("a.toml", "\nwal_max_byte = 1\n"))
    assert re.search(
        r"wal_max_byte in line 2 of .*a\.toml is no setting, did you mean wal_max_bytes\?", str(error)
    )
    error = refused(ZerobusWrapper.from_env, wal_max_byte=1)
    assert "did you mean wal_max_bytes?" in str(error)
    variables(ARROW_ZEROBUS_WAL_DRI="x")
    error = refused(ZerobusWrapper.from_env)
    assert "ARROW_ZEROBUS_WAL_DRI in the environment is no setting, did you mean" in str(error)


def test_what_nobody_gives_is_missing_by_its_name(
    variables: SetVariables, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("ZEROBUS_ENDPOINT")
    error = refused(ZerobusWrapper.from_env)
    assert error.setting == "endpoint"
    assert "ARROW_ZEROBUS_ENDPOINT or ZEROBUS_ENDPOINT" in str(error)
    with ZerobusWrapper.from_env(endpoint=UNREACHABLE):
        pass


def test_a_value_that_is_no_unicode_is_refused(variables: SetVariables) -> None:
    variables(ARROW_ZEROBUS_PROXY="http://\udcff:1")
    error = refused(ZerobusWrapper.from_env)
    assert "valid Unicode" in str(error)
    assert "ARROW_ZEROBUS_PROXY" in str(error)


def test_a_file_that_everybody_can_read_is_warned_about_if_it_holds_a_secret(
    variables: SetVariables, write: Callable[[str, str], Path], caplog: pytest.LogCaptureFixture
) -> None:
    path = write(
        "a.toml", 'client_secret = "s3cret"\nclient_id = "id"\nunity_catalog_url = "http://127.0.0.1:9"\n'
    )

    def warnings() -> list[str]:
        return [record.getMessage() for record in caplog.records if record.levelno == logging.WARNING]

    with ZerobusWrapper.from_file(path):
        pass
    path.chmod(0o644)
    with ZerobusWrapper.from_file(path):
        until(lambda: any("everybody" in said for said in warnings()), "the warning")
    assert len([said for said in warnings() if "everybody" in said]) == 1
    assert "s3cret" not in caplog.text


@pytest.fixture(scope="module")
def page() -> dict[str, list[str]]:
    """The table of the page of reference: the cells behind each name."""
    rows = re.findall(r"^\| `(\w+)`[^|]*\|(.*)\|$", (ROOT / "docs/settings.md").read_text(), re.MULTILINE)
    return {name: [cell.strip() for cell in cells.split(" | ")] for name, cells in rows}


def test_constructor_registry_and_page_have_the_same_settings(page: dict[str, list[str]]) -> None:
    parameters = inspect.signature(ZerobusWrapper).parameters
    assert set(parameters) - NO_SETTINGS == set(REGISTRY)
    assert list(page) == list(REGISTRY)
    for name, setting in REGISTRY.items():
        default = parameters[name].default
        if default is inspect.Parameter.empty:
            assert page[name][1] == "must be given"
            continue
        # The core's default of what depends on another setting is no argument.
        assert default == setting["default"], name
        assert all(f"`{choice}`" in page[name][0] for choice in setting["choices"]), name


def test_the_types_of_the_arguments_are_those_of_the_registry() -> None:
    parameters = inspect.signature(ZerobusWrapper).parameters
    for name, setting in REGISTRY.items():
        annotation = parameters[name].annotation
        if setting["kind"] == "Choice":
            named = re.findall(r"'([\w/]+)'|\"([\w/]+)\"", annotation)
            assert [single or double for single, double in named] == setting["choices"]
        else:
            assert annotation in TYPES[re.sub(r"\(.*", "", setting["kind"])], name


def test_the_typed_arguments_are_those_of_the_constructor() -> None:
    of_constructor = get_type_hints(ZerobusWrapper.__init__)
    of_constructor.pop("return")
    assert get_type_hints(WrapperArguments) == of_constructor
    assert WrapperArguments.__total__ is False


def test_the_readme_names_every_setting() -> None:
    table = (ROOT / "README.md").read_text()
    assert [name for name in REGISTRY if f"`{name}`" not in table] == []


def test_every_choice_is_accepted_and_no_other_one(variables: SetVariables) -> None:
    for name, setting in REGISTRY.items():
        if setting["kind"] == "Choice":
            error = refused(ZerobusWrapper.from_env, **{name: "x"})
            allowed = re.findall(r"'[\w/]+'", str(error))[1:]
            assert [repr(choice) for choice in setting["choices"]] == allowed, name
