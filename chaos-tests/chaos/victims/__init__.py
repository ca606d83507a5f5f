"""The processes that are killed, and how they are told what to do."""
