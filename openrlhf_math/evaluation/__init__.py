"""Measuring a model: pass@1 with an interval, and tokens per answer."""
