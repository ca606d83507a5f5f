"""The fixture ``zerobus_emulator``: a local Zerobus for the tests of programs that use this package.

pytest finds it by itself where the package is installed.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from collections.abc import Iterator

    from .emulator import Emulator

_MARKER = "zerobus"


def pytest_configure(config: pytest.Config) -> None:
    """Makes the marker known."""
    config.addinivalue_line(
        "markers",
        f"{_MARKER}(**options): options of the Emulator that the fixture zerobus_emulator starts, such as "
        'tables={"main.default.events": "id BIGINT"}',
    )


@pytest.fixture
def zerobus_emulator(request: pytest.FixtureRequest, tmp_path: Any) -> Iterator[Emulator]:
    """A Zerobus service of this test alone, which lands rows in Delta tables below ``tmp_path / "zerobus"``.

    Its options are those of ``@pytest.mark.zerobus``, the same as of ``Emulator``; of several markers, on the
    module, class and test, the closest one counts for each option. ``zerobus_emulator.settings`` is what a
    wrapper needs to reach it::

        @pytest.mark.zerobus(tables={"main.default.events": "id BIGINT"})
        async def test_rows_arrive(zerobus_emulator, tmp_path):
            async with ZerobusWrapper(
                table_name="main.default.events", wal_dir=tmp_path / "wal", **zerobus_emulator.settings
            ) as wrapper:
                ...

    Raises:
        TypeError: The emulator has no option of that name, or the marker has a value without a name.
        EmulatorError: It cannot start; the text says why.
    """
    # Not at the head of the file: pytest loads that for every run on this machine.
    from .emulator import Emulator

    options: dict[str, Any] = {"data_dir": tmp_path / "zerobus"}
    for marker in reversed(list(request.node.iter_markers(_MARKER))):
        if marker.args:
            raise TypeError(f"pytest.mark.{_MARKER} takes options by name, such as tables={{…}}")
        options |= marker.kwargs
    with Emulator(**options) as emulator:
        yield emulator
