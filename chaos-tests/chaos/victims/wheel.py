"""The victim that uses the installed wheel."""

from __future__ import annotations

import sys
from pathlib import Path

COMMAND = [sys.executable, "-X", "faulthandler", str(Path(__file__).with_name("wheel_victim.py"))]
