"""Measuring a model: pass@1 with an interval, and what its answers cost in tokens."""
