"""Checkpoints that are there whole or not at all, and are checked before anything of them is read."""
