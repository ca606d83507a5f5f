"""The faults: each module does one kind of harm, and undoes it."""
