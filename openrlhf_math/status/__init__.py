"""The state of runs: what the running process of a run directory reports, and what its records contain."""
