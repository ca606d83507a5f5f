"""The page that shows the results."""

from __future__ import annotations

from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]


def replace(page: Path, benchmark: str, table: str) -> None:
    """Puts the table between the two comments of a benchmark in a Markdown page."""
    begin, end = f"<!-- begin {benchmark} -->\n", f"<!-- end {benchmark} -->"
    head, found_begin, rest = page.read_text().partition(begin)
    _, found_end, tail = rest.partition(end)
    if not found_begin or not found_end:
        raise SystemExit(f"{page} has no {begin.strip()} … {end}")
    page.write_text(f"{head}{begin}{table}{end}{tail}")
