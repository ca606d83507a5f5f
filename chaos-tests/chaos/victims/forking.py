"""A program that forks while it has a wrapper, and tells what became of the calls in the child.

Its settings are the standard input, as JSON. What it prints is one line of JSON: the errors of ``send_batch``
and of the constructor in the child, by name, and what ``send_batch`` said in the parent afterwards.
"""

from __future__ import annotations

import json
import os
import sys
import warnings
from typing import Any

import pyarrow as pa

from arrow_zerobus_sdk_wrapper import SyncZerobusWrapper, ZerobusError

_BATCH = pa.record_batch({"id": pa.array([1], pa.int64()), "content": pa.array(["x"])})


def outcome(action: Any) -> str:
    """The name of the error that it raises, or none."""
    try:
        action()
    except ZerobusError as error:
        return type(error).__name__
    return "no error"


def main() -> None:
    """Forks once, with a batch stored before and one behind."""
    settings = json.load(sys.stdin)
    # Python warns when a process with threads forks; this one does it on purpose.
    warnings.simplefilter("ignore", DeprecationWarning)
    wrapper = SyncZerobusWrapper(**settings)
    wrapper.send_batch(_BATCH)
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        told = {
            "send": outcome(lambda: wrapper.send_batch(_BATCH)),
            "constructor": outcome(lambda: SyncZerobusWrapper(**settings)),
        }
        os.write(writing, json.dumps(told).encode())
        os._exit(0)
    os.close(writing)
    os.waitpid(child, 0)
    with open(reading, encoding="utf-8") as answer:
        told = json.loads(answer.read())
    told["parent"] = wrapper.send_batch(_BATCH).state
    wrapper.shutdown()
    print(json.dumps(told))


if __name__ == "__main__":
    main()
