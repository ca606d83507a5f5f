"""A job that a timer starts: sends what is in a directory, and may be killed at any moment.

    python cron_job.py INBOX

Every CSV file in INBOX becomes rows; then it is renamed to ``*.sent``. A file is renamed after its rows are
on the disk, so none is ever forgotten. Killed just between the two, the next run stores that file again: give
the rows a key if that matters. What was stored and not delivered is delivered by the next run, before its own
rows.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from pyarrow import csv

from arrow_zerobus_sdk_wrapper import RetryExhausted, SyncZerobusWrapper, TransmissionError


def main() -> int:
    """Stores each file, then waits for delivery for as long as a run may take."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("inbox", type=Path)
    inbox: Path = parser.parse_args().inbox

    # Two runs at a time would both send the files: the second one ends with LockedError.
    with SyncZerobusWrapper.from_env(exclusive=True, shutdown_timeout_secs=0) as wrapper:
        for file in sorted(inbox.glob("*.csv")):
            result = wrapper.send_batch(csv.read_csv(file))
            file.rename(file.with_suffix(".sent"))
            print(f"{file.name}: stored up to frame {result.lsn}")
        try:
            wrapper.flush(timeout=60)
        except (RetryExhausted, TimeoutError) as error:
            # No reason to fail: the rows are safe, and the next run goes on with them.
            print(f"delivery goes on in the next run: {error}", file=sys.stderr)
        except TransmissionError as error:
            # Somebody has to look: see quarantine_review.py.
            print(error, file=sys.stderr)
            return 1
        print(f"{wrapper.status()['rows']['delivered']} rows delivered since the log began")
    return 0


if __name__ == "__main__":
    sys.exit(main())
