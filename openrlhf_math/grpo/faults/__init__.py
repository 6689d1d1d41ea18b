"""What a run survives: dead engines, phases that hang, signals, kills, and its resume."""
