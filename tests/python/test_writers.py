"""Several processes with one table and one ``wal_dir``: each has a log, and a killed one loses nothing."""

from __future__ import annotations

import asyncio
import contextlib
import os
from collections import Counter
from pathlib import Path

import pytest
from deltalake import DeltaTable

from arrow_zerobus_sdk_wrapper import ConfigurationError
from arrow_zerobus_sdk_wrapper.emulator import Emulator
from conftest import TABLE, UNREACHABLE, MakeWrapper, make_batch, until
from test_process import finish, running

PROCESSES = 4


def sender(emulator: Emulator, first: int, delivery: str) -> str:
    """A program that sends rows numbered from ``first`` on and says which are stored, until stdin ends."""
    return f"""
    import threading

    stop = threading.Event()
    threading.Thread(target=lambda: (sys.stdin.read(), stop.set()), daemon=True).start()

    async def main():
        async with ZerobusWrapper(
            {emulator.endpoint!r}, {TABLE!r}, client_id="id", client_secret="s3cret",
            unity_catalog_url={emulator.unity_catalog_url!r}, wal_dir=sys.argv[1],
            delivery={delivery!r}, retry_max_delay_ms=200,
        ) as wrapper:
            number = {first}
            while not stop.is_set():
                await wrapper.send_batch(pa.record_batch({{"id": [number], "name": ["a"]}}))
                print(number, flush=True)
                number += 1

    asyncio.run(main())
    """


def landed(emulator: Emulator) -> Counter[int]:
    return Counter(DeltaTable(str(emulator.table_path(TABLE))).to_pyarrow_table()["id"].to_pylist())


@pytest.mark.parametrize("delivery", ["at_least_once", "exactly_once"])
def test_of_four_processes_one_is_killed_and_its_rows_still_land(
    tmp_path: Path, emulator: Emulator, delivery: str
) -> None:
    with contextlib.ExitStack() as stack:
        processes = [
            stack.enter_context(running(sender(emulator, number * 1_000_000, delivery), tmp_path / "wal"))
            for number in range(PROCESSES)
        ]
        for process in processes:
            assert process.stdout is not None
            for _ in range(100):
                assert process.stdout.readline(), process.communicate()
        # Its rows wait: what the service takes now it does not say.
        emulator.kill()
        victim, *others = processes
        assert victim.stdout is not None
        for _ in range(100):
            victim.stdout.readline()
        victim.kill()
        stored = [int(line) for line in victim.communicate()[0].splitlines() if line.strip()]
        last = max(stored, default=199)
        emulator.restart()
        until(
            lambda: all(landed(emulator)[number] for number in range(last + 1)), "the rows of the killed one"
        )
        for number, process in enumerate(others, start=1):
            out, err = process.communicate(timeout=60)
            assert (process.returncode, err) == (0, "")
            last_stored = int(out.splitlines()[-1])
            rows = landed(emulator)
            assert all(rows[number * 1_000_000 + row] for row in range(last_stored + 1 - number * 1_000_000))
    rows = landed(emulator)
    twice = sum(1 for times in rows.values() if times > 1)
    print(f"{len(rows)} rows landed, {twice} of them twice")
    assert delivery == "at_least_once" or twice == 0
    writers = sorted(path.name for path in (tmp_path / "wal" / TABLE).iterdir())
    assert writers == [f"writer-{number:03}" for number in range(1, PROCESSES + 1)]


def test_a_process_that_crashes_again_and_again_needs_no_new_directory(
    tmp_path: Path, emulator: Emulator, online: MakeWrapper
) -> None:
    living = online()
    stored = 0
    for round_ in range(5):
        with running(sender(emulator, round_ * 1_000, "at_least_once"), tmp_path / "wal") as process:
            assert process.stdout is not None
            assert int(process.stdout.readline()) == round_ * 1_000
            process.kill()
            stored += 1
    until(
        lambda: all(landed(emulator)[round_ * 1_000] for round_ in range(stored)),
        "the rows of the killed ones",
    )
    directories = list((tmp_path / "wal" / TABLE).iterdir())
    # One for the living, one for the next, and one for each that is adopted just when the next one starts.
    assert 2 <= len(directories) <= 3
    assert living.status()["adoption"]["left"] == []


def test_workers_that_are_forked_before_the_first_use_have_a_log_each(tmp_path: Path) -> None:
    program = """
    workers = []
    for number in range(4):
        child = os.fork()
        if child == 0:
            with make_wrapper(shutdown_timeout_secs=0) as wrapper:
                asyncio.run(wrapper.send_batch(make_batch()))
                print(wrapper.status()["directory"], flush=True)
                sys.stdin.readline()
            os._exit(0)
        workers.append(child)
    print("all", flush=True)
    for worker in workers:
        assert os.waitstatus_to_exitcode(os.waitpid(worker, 0)[1]) == 0
    """
    with running(program, tmp_path) as process:
        assert process.stdout is not None
        said = {process.stdout.readline().strip() for _ in range(5)} - {"all"}
        _, err = process.communicate("\n" * 4)
    assert sorted(Path(directory).name for directory in said) == [f"writer-00{n}" for n in (1, 2, 3, 4)]
    assert (process.returncode, err) == (0, "")


@pytest.mark.parametrize("method", ["spawn", "forkserver"])
def test_multiprocessing_without_fork_gives_each_child_a_log(tmp_path: Path, method: str) -> None:
    (tmp_path / "worker.py").write_text(
        "import asyncio\n"
        "import pyarrow as pa\n"
        "from arrow_zerobus_sdk_wrapper import ZerobusWrapper\n"
        "def work(wal_dir):\n"
        f"    settings = dict(endpoint={UNREACHABLE!r}, table_name={TABLE!r}, shutdown_timeout_secs=0)\n"
        "    with ZerobusWrapper(**settings, wal_dir=wal_dir) as wrapper:\n"
        "        return asyncio.run(wrapper.send_batch(pa.record_batch({'id': [1]}))).lsn\n"
    )
    program = f"""
    import multiprocessing
    sys.path.insert(0, {str(tmp_path)!r})
    from worker import work

    wrapper = make_wrapper(shutdown_timeout_secs=0)
    with multiprocessing.get_context({method!r}).Pool(2) as pool:
        lsns = pool.map(work, [sys.argv[1]] * 4)
    assert all(lsn >= 1 for lsn in lsns), lsns
    """
    assert finish(program, tmp_path / "wal") == (0, "", "")


def test_multiprocessing_with_fork_is_refused_and_does_not_hang(tmp_path: Path) -> None:
    program = """
    import multiprocessing

    wrapper = make_wrapper(shutdown_timeout_secs=0)

    def work(_):
        try:
            make_wrapper()
        except ForkedProcessError as error:
            return str(error)

    with multiprocessing.get_context("fork").Pool(2) as pool:
        for text in pool.map(work, range(4)):
            assert "spawn" in text and "forkserver" in text, text
    """
    code, _, err = finish(program, tmp_path)
    assert code == 0, err


def test_exclusive_is_true_or_false(offline: MakeWrapper) -> None:
    with pytest.raises(ConfigurationError, match="exclusive is 'yes', allowed is: True or False"):
        offline(exclusive="yes")


def test_two_wrappers_of_one_process_have_a_log_each(offline: MakeWrapper) -> None:
    wrappers = [offline(), offline()]
    for wrapper in wrappers:
        assert asyncio.run(wrapper.send_batch(make_batch())).lsn == 1
    directories = [os.path.basename(wrapper.status()["directory"]) for wrapper in wrappers]
    assert directories == ["writer-001", "writer-002"]
