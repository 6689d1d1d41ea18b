"""Flags that GRPO, SFT and reward-model training share, and their checks."""
