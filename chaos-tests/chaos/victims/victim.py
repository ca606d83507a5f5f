"""How is a victim started, listened to, and ended?

The same for the wheel and for the Rust crate: orders as a line on its standard input, announcements on its
standard output, everything else in a file of its own that is searched for panics afterwards.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
import signal
import subprocess
import threading
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import IO, Any

from ..announcements import Announcements, Event, Life
from .options import Options

# Whatever is waited for has come by then, also on a busy machine.
DEADLINE_SECS = 60.0


class Victim:
    """A process that sends until somebody ends it.

    Args:
        command: The program and its arguments; a prefix, such as ``ip netns exec``, belongs to it.
        kind: ``"wheel"`` or ``"rust"``, for the report.
        options: What it is to do.
        connection: Settings that say where it sends, with the secret.
        announcements: Who listens.
        messages: The file for its standard error.
        seed: What its choices follow from.
        environment: Variables beside those of this process.
    """

    def __init__(
        self,
        command: Sequence[str],
        kind: str,
        options: Options,
        connection: Mapping[str, Any],
        announcements: Announcements,
        messages: Path,
        seed: str,
        environment: Mapping[str, str],
    ) -> None:
        self.options = options
        self.messages = messages
        self._announcements = announcements
        settings = {**connection, **options.settings}
        self.life: Life = announcements.begin(kind, settings)
        self._heard = threading.Condition()
        self._over = False
        self._trouble: str | None = None
        orders = {
            "settings": settings,
            "first_id": announcements.next_id,
            "producers": options.producers,
            "rows": options.rows,
            "api": options.api,
            "batches": options.batches,
            "pause_ms": options.pause_ms,
            "die_at": options.die_at,
            "canary": options.canary,
            "bad_rows": options.bad_rows,
            "bad_text_bytes": options.bad_text_bytes,
            "seed": seed,
        }
        with messages.open("wb") as stderr:
            self.process = subprocess.Popen(
                command,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=stderr,
                # A backtrace takes 45 MiB, which would count as the library's.
                env={**os.environ, "RUST_BACKTRACE": "0", **environment},
            )
        assert self.process.stdout is not None
        self._listener = threading.Thread(target=self._listen, args=(self.process.stdout,), daemon=True)
        self._listener.start()
        self._say(json.dumps(orders, default=str))

    @property
    def pid(self) -> int:
        """Its process id."""
        return self.process.pid

    def heard(self, event: str) -> Event | None:
        """The last announcement of this kind, None if there was none."""
        with self._heard:
            return next((said for said in reversed(self.life.events) if said["event"] == event), None)

    def wait_for(self, event: str, *, times: int = 1, timeout: float = DEADLINE_SECS) -> Event | None:
        """Waits for an announcement.

        Args:
            event: Its kind.
            times: How many of this kind there must be.
            timeout: In seconds.

        Returns:
            The last of them; None if the victim has ended before.

        Raises:
            AssertionError: It did not come in time.
        """

        def found() -> Event | None:
            matching = [said for said in self.life.events if said["event"] == event]
            return matching[-1] if len(matching) >= times else None

        deadline = time.monotonic() + timeout
        with self._heard:
            while (said := found()) is None and not self._over:
                if (
                    not self._heard.wait(max(0.0, deadline - time.monotonic()))
                    and time.monotonic() > deadline
                ):
                    last = [told["event"] for told in self.life.events[-3:]]
                    raise AssertionError(
                        f"victim {self.life.number} has not said {event} {times} times within {timeout} s; "
                        f"its last words are {last}; {self.complaints()}"
                    )
            return said

    @property
    def acknowledged(self) -> int:
        """How many batches were acknowledged in this life."""
        return sum(batch.ack_ns is not None for batch in self._announcements.batches_of(self.life))

    @property
    def is_running(self) -> bool:
        """Whether it has not ended yet."""
        return self.process.poll() is None

    def command(self, word: str) -> None:
        """Says ``close`` or ``drain`` to it; one that has ended does not hear it."""
        self._say(word)

    def kill(self) -> int:
        """Ends it with SIGKILL and hears its last words; its exit status as ``Popen`` has it."""
        self.process.kill()
        return self.wait()

    def pause(self) -> None:
        """Stops it with SIGSTOP."""
        self.process.send_signal(signal.SIGSTOP)

    def resume(self) -> None:
        """Lets it go on with SIGCONT."""
        self.process.send_signal(signal.SIGCONT)

    def close(self, timeout: float = DEADLINE_SECS) -> Event:
        """Has it close its wrapper and end; what it announced then.

        Raises:
            AssertionError: It did not end in time, or not as it should.
        """
        self.command("close")
        status = self.wait(timeout)
        closed = self.heard("closed")
        if status != 0 or closed is None:
            raise AssertionError(
                f"victim {self.life.number} ended with {status} and not by closing; {self.complaints()}"
            )
        return closed

    def wait(self, timeout: float = DEADLINE_SECS) -> int:
        """Waits until it has ended and everything that it said is heard; its exit status.

        Raises:
            AssertionError: It did not end in time, or said what no victim says.
        """
        try:
            status = self.process.wait(timeout)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
            raise AssertionError(
                f"victim {self.life.number} has not ended within {timeout} s; {self.complaints()}"
            ) from None
        self._listener.join(DEADLINE_SECS)
        if self.process.stdin is not None:
            with contextlib.suppress(OSError):
                self.process.stdin.close()
        if self._trouble is not None:
            raise AssertionError(self._trouble)
        broken = self.heard("broken")
        if broken is not None:
            raise AssertionError(f"victim {self.life.number} broke: {broken['error']}")
        # sled answers some failures with a panic, which the ledger catches; it is printed all the same.
        said = self.complaints()
        if re.search(r"panicked at (?!\S*/sled-0\.)", said):
            raise AssertionError(f"victim {self.life.number} panicked: {said}")
        return status

    def complaints(self) -> str:
        """The end of what it wrote to its standard error."""
        return self.messages.read_bytes()[-4000:].decode(errors="replace")

    def _say(self, line: str) -> None:
        assert self.process.stdin is not None
        try:
            self.process.stdin.write(line.encode() + b"\n")
            self.process.stdin.flush()
        except OSError:
            # It has ended; that is seen where it is waited for.
            pass

    def _listen(self, output: IO[bytes]) -> None:
        try:
            for line in output:
                # What a kill cut off was not said. It is never an acknowledgement: short writes are whole.
                if line.endswith(b"\n"):
                    self._announcements.hear(self.life, line.decode().rstrip("\n"))
                with self._heard:
                    self._heard.notify_all()
        except Exception as error:
            self._trouble = f"what victim {self.life.number} said is not understood: {error!r}"
        finally:
            output.close()
            with self._heard:
                self._over = True
                self._heard.notify_all()
