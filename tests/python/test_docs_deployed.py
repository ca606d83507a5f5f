"""What the pages say of a service is so: a program is deployed as they say, and looked at as they say.

Goal: as that of ``test_docs.py``, for commands that want a machine with systemd, or containers.
Method: the unit of the page, its user and its commands, on a machine that is booted for it; the Dockerfile of
the page and its commands, by Podman under the name of docker. Both run a program that stores rows, against a
local Zerobus that is away for a while. In the end each row that was stored is in the table.
"""

from __future__ import annotations

import os
import re
from pathlib import Path

from conftest import TABLE, until
from docs_blocks import Block, blocks_of, blocks_run_by, commands_of, plain
from docs_container import Podman, no_podman
from docs_machine import Machine, no_machine
from docs_program import ENVIRONMENT, PROGRAM, Zerobus
from docs_setups import CLIENT
from docs_world import lacks

SETTINGS = "".join(f"{name}={value}\n" for name, value in ENVIRONMENT.items())


def file_on(page: Path, language: str) -> Block:
    """The file that a page shows, as a block of this language."""
    (block,) = [block for block in blocks_of(page) if block.language == language]
    return block


def without_holes(lives: list[list[int]]) -> bool:
    """Whether each row is there that was stored in these lives of the program."""
    return bool(lives) and all(numbers == list(range(len(numbers))) for numbers in lives)


def test_a_service_is_looked_at_and_drained_as_the_page_of_systemd_says(tmp_path: Path) -> None:
    if (missing := no_machine()) is not None:
        lacks(missing)
    look, drain = blocks_run_by(
        "test_docs_deployed.py::test_a_service_is_looked_at_and_drained_as_the_page_of_systemd_says"
    )
    (user,) = re.findall(r"`(useradd [^`]+)`", look.page.read_text())
    machine = Machine(tmp_path)
    machine.put("/etc/systemd/system/events.service", file_on(look.page, "ini").body)
    machine.put("/etc/events/environment", SETTINGS)
    machine.put("/etc/events/secret", CLIENT["client_secret"]).chmod(0o600)
    operator = {"ZEROBUS_CLIENT_ID": CLIENT["client_id"], "ZEROBUS_CLIENT_SECRET": CLIENT["client_secret"]}

    def done(command: str) -> str:
        ended = machine.run("bash", "-c", command, environment=operator)
        assert ended.returncode == 0, f"{command}: {ended.stdout}"
        return ended.stdout

    with machine, Zerobus(machine.pid, tmp_path / "tables") as zerobus:
        done(user)
        done("systemctl enable --now events.service")
        until(lambda: sum(map(len, zerobus.lives())) > 50, "rows of the service")
        _, status, journal, shown = [done(command.text) for command in commands_of(look)]
        assert TABLE in status
        assert "Started events.service" in journal
        assert set(shown.splitlines()) == {"Result=success", "NRestarts=0", "TimeoutStopUSec=45s"}
        # What it has stored and not delivered waits for whoever drains it.
        zerobus.kill()
        delivered = zerobus.lives()
        ends, *drains = [command.text for command in commands_of(drain)]
        done(ends)
        zerobus.start()
        *_, status = [done(command) for command in drains]
        # Stored, delivered, and neither in quarantine, nor dropped, nor waiting.
        assert any(re.search(r" none - (\d+) \1 0 0 0 ", line) for line in plain(status, {})), status
        assert done("find /var/lib/events -not -user events") == ""
        assert done("systemctl is-enabled events.service || true") == "disabled\n"
        (numbers,) = zerobus.lives()
        assert without_holes([numbers])
        assert len(numbers) > len(delivered[0])


def test_an_image_is_built_and_run_as_the_page_of_containers_says(tmp_path: Path) -> None:
    if (missing := no_podman()) is not None:
        lacks(missing)
    (block,) = blocks_run_by(
        "test_docs_deployed.py::test_an_image_is_built_and_run_as_the_page_of_containers_says"
    )
    dockerfile = file_on(block.page, "dockerfile").body
    (image,) = re.findall(r"^FROM (\S+)$", dockerfile, re.MULTILINE)
    secret = tmp_path / "etc" / "secret"
    secret.parent.mkdir()
    secret.write_text(CLIENT["client_secret"])
    # As the page says under "Rights".
    os.chown(secret, 10001, 10001)
    secret.chmod(0o400)
    (tmp_path / "etc" / "environment").write_text(SETTINGS)
    context = tmp_path / "context"
    context.mkdir()
    (context / "Dockerfile").write_text(dockerfile)
    (context / "events.py").write_text(PROGRAM)
    commands = [command.text.replace("/etc/events", str(secret.parent)) for command in commands_of(block)]
    build, run, status = commands
    with Podman(image) as podman:
        podman.run(build, context)
        podman.run(run)

        def stored() -> int:
            table = plain(podman.run(status), {})
            return sum(int(count) for line in table for count in re.findall(r" pid N \w+ (\d+) ", line))

        # The first container is killed before anybody takes its rows: they wait on the volume for the second.
        volume = Path(podman.run("docker volume inspect --format '{{.Mountpoint}}' events-wal").strip())
        until(lambda: any(volume.rglob("segment-*.wal")), "a log on the volume")
        until(lambda: stored() > 20, "rows of the container")
        waiting = stored()
        podman.run("docker rm --force --time 0 events")
        podman.run(run)
        pid = int(podman.run("docker inspect --format '{{.State.Pid}}' events"))
        with Zerobus(pid, tmp_path / "tables") as zerobus:
            until(lambda: len(zerobus.lives()) == 2, "rows of both containers")
            podman.run("docker stop events")
            lives = zerobus.lives()
        assert podman.run("docker inspect --format '{{.State.ExitCode}}' events") == "0\n"
        assert without_holes(lives)
        assert len(lives[0]) >= waiting
