"""How runs are doing: what the process at work in a run directory says of itself, and what its records say."""
