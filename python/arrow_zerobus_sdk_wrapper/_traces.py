"""Which trace a caller is in, if the program uses ``opentelemetry``; nobody else has it imported."""

from __future__ import annotations

import sys


def traceparent() -> str | None:
    """The current span as W3C Trace Context writes it, or None if there is none that is sampled."""
    trace = sys.modules.get("opentelemetry.trace")
    # While it is being imported it may lack some of its names.
    current_span = getattr(trace, "get_current_span", None)
    if current_span is None:
        return None
    context = current_span().get_span_context()
    if not context.is_valid or not context.trace_flags.sampled:
        return None
    return f"00-{context.trace_id:032x}-{context.span_id:016x}-01"
