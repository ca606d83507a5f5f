"""The chaos suite: real processes, real faults, and an oracle that knows nothing of the library's code.

``chaos-tests/README.md`` says how to run it and how a stage is written.
"""
